"""The showing half of `superposition`: tables and sentences, from storage alone."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from configs.superposition import Superposition
from experiments.superposition import figures
from experiments.superposition.comparison import Comparison, alone, from_prior
from experiments.superposition.selection import Pooled, pooled
from experiments.superposition.training import LEVEL, SADDLE, SHORTEST, plateaus
from slt_lab.page import Page, Section, Table

__all__ = ["page", "stayed"]

LARGEST_RHAT, FEWEST_DRAWS, LOWEST = 1.05, 100, -0.1
FEWEST_ACCEPTED, FEWEST_WORTH = 0.5, 0.3
ZERO = 1 / 3
"""The loss of the output 0, the mean of s²."""
FAMILIES = ((0, 1, 2), (3, 4), (5,), (6,))
"""Of the states: 4-gons, 5-gons (5-gon and 5+), the 6-gon, other minima."""


def page(results: xarray.Dataset, config: Superposition) -> Page:
    """The page of a run."""
    lead = (
        "Six features are squeezed into two dimensions and read out again, ReLU(WᵀWx + b). The best ways to do so are regular "
        "polygons. Each is a phase: a minimum of the loss with a complexity of its own, its local learning coefficient λ. Lower "
        "loss is bought with complexity. Which phase do SGD and the Bayesian posterior take? (arXiv 2310.06301)"
    )
    families = _pooled(results, FAMILIES, (1, 2))
    single = _pooled(results, ((3,), (5,)), (0, 1))
    rests = _rests(results)
    compared = [from_prior(results), alone(results, families)]
    sections = [
        Section("The phases", _about_phases(), _phase_table(results), [figures.gallery(results)]),
        Section("LLCs, and a staircase that turns over", _about_reversal(results), _llc_table(results), [figures.reversal(results, stayed)]),
        Section("How right the LLCs are", _about_gaussian(results), _gaussian_table(results)),
        Section("Plateaus of SGD", _about_plateaus(rests), _plateau_table(rests), [figures.training(results, rests)]),
        Section("Which phase the posterior prefers", _about_shares(families, single, config), _share_table(results, families), [figures.fractions(results, families)]),
        Section("Four predictions of the crossing", _about_predictions(families, single), _prediction_table(results, families)),
        Section("How right the shares are", _about_checks(compared, config), _check_table(compared)),
    ]  # fmt: skip
    return Page(
        "superposition",
        lead,
        sections,
        _warnings(results),
        summary=_summary(results, families, single, rests, compared),
    )


def _pooled(results: xarray.Dataset, families: tuple, rivals: tuple[int, int]) -> Pooled:
    return pooled(results.n.values, results.share.values, results.free_energy.values, families, rivals)


def _warnings(results: xarray.Dataset) -> list[str]:
    found = []
    if count := int(results.llc_num_diverged.sum()):
        found.append(f"{count} chains diverged.")
    if lost := int((~(results.training_loss.isel(step=-1) < ZERO)).sum()):
        found.append(
            f"{lost} of {results.sizes['run']} runs of SGD end worse than an output of 0, or not finite: their learning rate is too large."
        )
    least = float(min(results.acceptance.min(), results.alone_acceptance.min()))
    if least < FEWEST_ACCEPTED:
        found.append(
            f"Only {least:.0%} of the Hamiltonian moves were accepted in one of the populations: do not trust the shares."
        )
    if (worth := float(results.weight_ess.min())) < FEWEST_WORTH:
        found.append(
            f"The weights of one population are worth {worth:.0%} of its particles: take more selection.stages, and do not trust the shares."
        )
    return found


def _about_phases() -> list[str]:
    return [
        "The loss is the exact mean squared error over all inputs, an integral of piecewise polynomials: there is no noise of "
        "sampling examples anywhere but in SGD. λ is half the number of directions in which the loss rises; it is exact. A feature "
        "that has no corner is dead: silent if its bias is negative, or, with a “+”, the constant 1/12.",
        "“Lowest curvature” is the smallest eigenvalue of the Hessian at the phase, 0 where the loss is flat. A 4-gon lies on kinks "
        "of the ReLU, where the Hessian is that of one side only and may have a negative eigenvalue although the loss rises on "
        "every side; it is a minimum all the same, which descent from a displaced start confirms.",
    ]


def _phase_table(results: xarray.Dataset) -> Table:
    rows = [
        [
            str(name), f"{float(at.exact_loss):.5f}", f"{float(at.converged_loss):.5f}", _signed(float(at.curvature.min()), 4),
            f"{float(at.learning_coefficient):g}",
        ]
        for name, at in ((name, results.sel(phase=name)) for name in results.phase.values)
    ]  # fmt: skip
    return Table(["phase", "exact loss", "loss after descent from nearby", "lowest curvature", "λ"], rows)


def _signed(value: float, digits: int) -> str:
    """With its sign, but 0 without one."""
    return f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def _about_reversal(results: xarray.Dataset) -> list[str]:
    return [
        "An LLC is measured with a localisation γ. Where γ/nβ is not small beside the curvatures of the loss, the LLC counts only "
        "the stiff directions, and the order of two phases may be the reverse of that of their λ: 7.5 for the 4-gon, 7 for the "
        "5-gon. A staircase of falling loss and rising LLC is then one of the setting, not of the model.",
        " ".join(_verdict(results, nbeta, ratio) for nbeta in results.nbeta.values for ratio in results.ratio.values),
        "With weak localisation and moderate nβ a chain leaves its phase through flat directions, and finds a lower loss. Its value "
        "is no LLC of this phase, and the table says “left”: a draw with nβ(L - L(w*)) below -0.1 gives it away, or an R-hat above "
        "1.05, or fewer than 100 effective draws.",
    ]  # fmt: skip


def _verdict(results: xarray.Dataset, nbeta: float, ratio: float) -> str:
    """How the LLC goes from the 4-gon to the 5-gon at one setting."""
    at = results.sel(nbeta=nbeta, ratio=ratio)
    four, five = (at.sel(phase=name) for name in ("4-gon", "5-gon"))
    where = f"γ/nβ = {ratio:g}, nβ = {nbeta:,.0f}:"
    if not (stayed(four) and stayed(five)):
        return f"{where} chains left a phase, nothing is compared."
    step, error = float(five.llc - four.llc), math.hypot(float(four.llc_std_error), float(five.llc_std_error))
    verdict = "rises" if step > 2 * error else "falls" if -step > 2 * error else "does not change clearly"
    return (
        f"{where} from the 4-gon to the 5-gon the LLC {verdict}, {float(four.llc):.2f} to {float(five.llc):.2f} "
        f"(by {step:+.2f} ± {error:.2f})."
    )


def stayed(at: xarray.Dataset) -> bool:
    """Whether the chains of one estimate are of its phase, and long enough."""
    return bool(at.llc_rhat <= LARGEST_RHAT and at.llc_ess >= FEWEST_DRAWS and at.llc_lowest > LOWEST)


def _llc_cell(at: xarray.Dataset) -> str:
    return f"{float(at.llc):.2f} ± {float(at.llc_std_error):.2f}" if stayed(at) else f"left ({float(at.llc):.1f})"


def _llc_table(results: xarray.Dataset) -> Table:
    settings = [(nbeta, ratio) for nbeta in results.nbeta.values for ratio in results.ratio.values]
    head = ["phase", *(f"nβ = {nbeta:,.0f}, γ/nβ = {ratio:g}" for nbeta, ratio in settings), "λ"]
    rows = []
    for name in results.phase.values:
        at = results.sel(phase=name)
        shown = [_llc_cell(at.sel(nbeta=nbeta, ratio=ratio)) for nbeta, ratio in settings]
        rows.append([str(name), *shown, f"{float(at.learning_coefficient):g}"])
    return Table(head, rows)


def _gaussian(results: xarray.Dataset) -> list[tuple[str, float, float, float, float]]:
    """Phase, γ/nβ, LLC, its error and the Gaussian value, where the loss is smooth and the posterior narrow."""
    found = []
    for name in (name for name in results.phase.values if not str(name).startswith("4")):
        for ratio in results.ratio.values:
            at = results.sel(phase=name, ratio=ratio).isel(nbeta=-1)
            if stayed(at):
                found.append((str(name), float(ratio), float(at.llc), float(at.llc_std_error), float(at.gaussian_llc)))
    return found


def _about_gaussian(results: xarray.Dataset) -> list[str]:
    scores = [(value - exact) / error for _, _, value, error, exact in _gaussian(results)]
    spread = f" The root mean square of {len(scores)} distances is {np.sqrt(np.mean(np.square(scores))):.2f} standard errors." if scores else ""  # fmt: skip
    return [
        "Where the loss is smooth at the phase and nβ large, the posterior is Gaussian and the LLC known: ½ Σ h/(h + γ/nβ) over the "
        f"curvatures h. At nβ = {float(results.nbeta[-1]):,.0f} the chains must agree.{spread} The 4-gons lie on kinks and have no such formula."
    ]


def _gaussian_table(results: xarray.Dataset) -> Table:
    rows = [
        [name, f"{ratio:g}", f"{value:.3f} ± {error:.3f}", f"{exact:.3f}", f"{(value - exact) / error:+.1f}"]
        for name, ratio, value, error, exact in _gaussian(results)
    ]
    return Table(["phase", "γ/nβ", "LLC", "Gaussian", "distance, standard errors"], rows)


def _rests(results: xarray.Dataset) -> list[dict[str, Any]]:
    """Every plateau of every run, with the phase whose loss is nearest and the loss to which descent from its middle leads."""
    found = []
    for run in range(results.sizes["run"]):
        at = results.isel(run=run)
        for rest in plateaus(at.training_loss.values, at.lowest_curvature.values):
            nearest = int(np.argmin(np.abs(results.exact_loss.values - rest.loss)))
            found.append({
                "run": run, "from_step": int(results.step[rest.first]), "to_step": int(results.step[rest.last]),
                "loss": rest.loss, "lowest_curvature": rest.lowest_curvature, "saddle": rest.is_saddle,
                "nearest_phase": str(results.phase.values[nearest]),
                "descends_to": float(at.training_end[(rest.first + rest.last) // 2]),
                "end": rest.last == results.sizes["step"] - 1,
            })  # fmt: skip
    return found


def _kind(rest: dict[str, Any]) -> str:
    return "end of the run" if rest["end"] else "saddle: no LLC" if rest["saddle"] else "passed"


def _about_plateaus(rests: list[dict[str, Any]]) -> list[str]:
    saddles = [rest for rest in rests if rest["saddle"]]
    lowest = f", down to {min(rest['lowest_curvature'] for rest in saddles):.3f}" if saddles else ""
    return [
        f"SGD falls in steps and rests between: stretches of {SHORTEST} records or more whose losses stay within {LEVEL:g}. {len(saddles)} of {len(rests)} rests are saddles: the most negative eigenvalue of the "
        f"Hessian is {SADDLE:g} or below{lowest}. A saddle has no LLC: its volume is not that of a minimum, and chains "
        "leave it for a lower loss. No LLC is given for it. Descent with the exact gradient from the middle of a rest says the same: "
        "from a saddle it ends lower.",
        "“Passed” are rests with a lowest curvature between -0.03 and 0, of which nothing is said: the noise of SGD and the kinks give "
        "such eigenvalues at minima too. The LLCs above are those of the phases at which runs end.",
    ]


def _plateau_table(rests: list[dict[str, Any]]) -> Table:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for rest in sorted(rests, key=lambda one: (_kind(one), -one["loss"])):
        groups.setdefault((_kind(rest), rest["nearest_phase"]), []).append(rest)
    rows = [
        [
            kind, phase, str(len(group)), _range(group, "loss", lambda x: f"{x:.4f}"),
            _range(group, "lowest_curvature", lambda x: _signed(x, 3)), _range(group, "descends_to", lambda x: f"{x:.4f}"),
        ]
        for (kind, phase), group in groups.items()
    ]  # fmt: skip
    return Table(
        ["rest", "phase nearest in loss", "how many", "loss", "lowest curvature", "loss that descent ends at"], rows
    )


def _range(group: list[dict[str, Any]], name: str, written: Callable[[float], str]) -> str:
    first, last = (written(end(one[name] for one in group)) for end in (min, max))
    return first if first == last else f"{first} to {last}"


def _at(value: float, error: float) -> str:
    return f"at n = {value:.0f} ± {error:.0f}" if np.isfinite(value) else "nowhere between the reported n"


def _about_shares(families: Pooled, single: Pooled, config: Superposition) -> list[str]:
    return [
        f"The posterior is exp(-nL) times the prior N(0, I), with the exact loss L. {config.selection.num_repeats} populations of "
        f"{config.selection.num_particles} particles are drawn from the prior and carried to larger and larger n (tempered sequential "
        "Monte Carlo, blackjax). A particle belongs to the phase whose minimum descent reaches from it. As n grows the posterior "
        "takes phases of lower loss and higher λ.",
        f"The 6-gon overtakes the 5-gon {_at(single.crossing, single.crossing_error)}, and the 5-gon with 5+ "
        f"{_at(families.crossing, families.crossing_error)}. ",
        "A posterior of a data set of n examples has in addition the noise of those examples; it is not shown here.",
    ]  # fmt: skip


def _share_table(results: xarray.Dataset, families: Pooled) -> Table:
    accepted = results.acceptance.values.mean(axis=0)
    rows = [
        [
            str(n),
            *(f"{m:.3f} ± {e:.3f}" for m, e in zip(families.share[i], families.share_error[i], strict=True)),
            f"{accepted[i]:.2f}",
        ]
        for i, n in enumerate(results.n.values)
    ]
    return Table(["n", "4-gons", "5-gons", "6-gon", "other minima", "moves accepted"], rows)


def _about_predictions(families: Pooled, single: Pooled) -> list[str]:
    return [
        "At leading order a phase has the free energy nL + λ log n, and the 6-gon, of lower loss and larger λ, must win at large n. "
        "Where it does depends on everything that this leaves out. With the prior at the polygon it gets worse; what is missing then "
        "is volume: how many labellings a phase has, how wide it is, and how much of the prior is silent in the sixth feature of a "
        "5-gon. Laplace's method has all of that (experiments/superposition/predictions.py). With a silent region of sharp rim it "
        "is too early, for the rim is not sharp and 5+ lies beyond it; with the sixth feature integrated exactly it is near.",
        f"Measured: {_at(single.crossing, single.crossing_error)} (5-gon alone), {_at(families.crossing, families.crossing_error)} "
        "(5-gon with 5+, which is what the last prediction is about).",
    ]


def _prediction_table(results: xarray.Dataset, families: Pooled) -> Table:
    rows = [
        [str(name), f"{float(n):.0f}", _signed(float(n) - families.crossing, 0)]
        for name, n in zip(results.prediction.values, results.crossing.values, strict=True)
    ]
    return Table(["prediction", "6-gon overtakes at n =", "minus the measured n (5-gon with 5+)"], rows)


def _about_checks(compared: list[Comparison], config: Superposition) -> list[str]:
    scores = np.concatenate([one.scores for one in compared])
    size = f" Of {len(scores)} distances the root mean square is {np.sqrt(np.mean(scores**2)):.2f}, the largest {np.abs(scores).max():.1f}." if len(scores) else ""  # fmt: skip
    return [
        "A population that has missed something shows it nowhere. So its free energies, -log ∫ exp(-nL) dprior in nats, are found by "
        "two other roads (experiments/superposition/check.py). “Whole”: a plain mean over draws of the prior, where it is worth "
        f"at least 100 of its {config.check.num_prior_draws:,} draws. “5-gons”, “6-gon”: the phase by itself, from the Gaussian at its "
        "polygon, one labelling times the number of them; this shares only the loss and the mover with the populations. The "
        "difference of the two is the logarithm of the ratio of their shares; errors that both have in common cancel in it.",
        f"Distances are in joint standard errors, which come from a few populations.{size}",
    ]


def _check_table(compared: list[Comparison]) -> Table:
    rows = [
        [row.what, str(row.n), f"{row.found:.3f} ± {row.error:.3f}", f"{row.other:.3f} ± {row.other_error:.3f}", f"{row.score:+.1f}"]
        for one in compared for row in one.rows
    ]  # fmt: skip
    return Table(["free energy of", "n", "populations", "other road", "distance"], rows)


def _summary(
    results: xarray.Dataset, families: Pooled, single: Pooled, rests: list[dict[str, Any]], compared: list[Comparison]
) -> dict[str, Any]:
    return {
        "phases": {
            str(name): {
                "loss": float(at.exact_loss), "learning_coefficient": float(at.learning_coefficient),
                "lowest_curvature": float(at.curvature.min()),
                **{one: at[one].values.tolist() for one in ("llc", "llc_std_error", "llc_rhat", "llc_ess", "llc_lowest", "gaussian_llc")},
            }
            for name, at in ((name, results.sel(phase=name)) for name in results.phase.values)
        },
        "nbeta": results.nbeta.values.tolist(), "ratio": results.ratio.values.tolist(), "plateaus": rests,
        "examples": results.n.values.tolist(), "shares": families.share.tolist(), "shares_std_error": families.share_error.tolist(),
        "crossing": families.crossing, "crossing_std_error": families.crossing_error,
        "crossing_of_the_5gon_alone": single.crossing, "crossing_of_the_5gon_alone_std_error": single.crossing_error,
        "acceptance": results.acceptance.values.mean(axis=0).tolist(), "weight_ess": float(results.weight_ess.min()),
        "predictions": dict(zip(map(str, results.prediction.values), results.crossing.values.tolist(), strict=True)),
        "checks": [row._asdict() | {"score": row.score} for one in compared for row in one.rows],
    }  # fmt: skip
