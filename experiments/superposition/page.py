"""The showing half of `superposition`: tables and sentences, from storage alone."""

import math
from typing import Any

import numpy as np
import xarray

from configs.superposition import Superposition
from experiments.superposition import figures
from experiments.superposition.selection import crossing
from experiments.superposition.training import SADDLE, plateaus
from slt_lab.page import Page, Section, Table

__all__ = ["page", "stayed"]

LARGEST_RHAT, FEWEST_DRAWS = 1.05, 100
FAMILIES = ((0, 1, 2), (3, 4), (5,), (6,))  # of the states: 4-gons, 5-gons, the 6-gon, other minima


def page(results: xarray.Dataset, config: Superposition) -> Page:
    """The page of a run."""
    lead = (
        "Six features are squeezed into two dimensions and read out again, ReLU(WᵀWx + b). The best ways to do so are regular "
        "polygons. Each is a phase: a minimum of the loss with a complexity of its own, its local learning coefficient λ. Lower "
        "loss is bought with complexity. Which phase do SGD and the Bayesian posterior take? (arXiv 2310.06301)"
    )
    families = np.stack([results.share.values[..., list(one)].sum(axis=-1) for one in FAMILIES], axis=-1)
    rests = _rests(results)
    sections = [
        Section("The phases", _about_phases(), _phase_table(results), [figures.gallery(results)]),
        Section("LLCs, and a staircase that turns over", _about_reversal(results), _llc_table(results), [figures.reversal(results)]),
        Section("Plateaus of SGD", _about_plateaus(rests), _plateau_table(rests), [figures.training(results)]),
        Section("Which phase the posterior prefers", _about_shares(results, families, config), _share_table(results, families), [figures.fractions(results, families)]),
    ]  # fmt: skip
    count = int(results.llc_num_diverged.sum())
    return Page(
        "superposition", lead, sections, [f"{count} chains diverged."] if count else [],
        summary=_summary(results, families, rests),
    )  # fmt: skip


def _about_phases() -> list[str]:
    return [
        "The loss is the exact mean squared error over all inputs, an integral of piecewise polynomials: there is no noise of "
        "sampling examples anywhere but in SGD. λ is half the number of directions in which the loss rises.",
        "“Lowest curvature” is the smallest eigenvalue of the Hessian at the phase. A 4-gon lies on kinks of the ReLU, where the "
        "Hessian is that of one side only and may have a negative eigenvalue although the loss rises on every side; it is "
        "a minimum all the same, which descent from a displaced start confirms.",
    ]


def _phase_table(results: xarray.Dataset) -> Table:
    rows = [
        [
            str(name), f"{float(at.exact_loss):.5f}", f"{float(at.converged_loss):.5f}", f"{float(at.curvature.min()):+.4f}",
            f"{float(at.learning_coefficient):g}",
        ]
        for name, at in ((name, results.sel(phase=name)) for name in results.phase.values)
    ]  # fmt: skip
    return Table(["phase", "exact loss", "loss after descent from nearby", "lowest curvature", "λ"], rows)


def _about_reversal(results: xarray.Dataset) -> list[str]:
    sentences = []
    for nbeta in results.nbeta.values:
        for ratio in results.ratio.values:
            at = results.sel(nbeta=nbeta, ratio=ratio)
            four, five = (float(at.llc.sel(phase=name)) for name in ("4-gon", "5-gon"))
            if not all(stayed(at.sel(phase=name)) for name in ("4-gon", "5-gon")):
                sentences.append(f"γ/nβ = {ratio:g}, nβ = {nbeta:g}: chains left a phase, nothing is compared.")
                continue
            gap = math.hypot(*(float(at.llc_std_error.sel(phase=name)) for name in ("4-gon", "5-gon")))
            verdict = (
                "rises" if five - four > 2 * gap else "falls" if four - five > 2 * gap else "does not change clearly"
            )
            sentences.append(
                f"γ/nβ = {ratio:g}, nβ = {nbeta:g}: from the 4-gon to the 5-gon the LLC {verdict}, {four:.2f} to {five:.2f}."
            )
    return [
        "An LLC is measured with a localisation γ. Where γ/nβ is not small beside the curvatures of the loss, the LLC counts only "
        "the stiff directions, and the order of two phases may be the reverse of that of their λ: 7.5 for the 4-gon, 7 for the 5-gon.",
        " ".join(sentences),
        "With weak localisation and moderate nβ a chain leaves its phase through flat directions, and finds a lower loss. Its value "
        "is no LLC of this phase: below zero, an R-hat above 1.05 or fewer than 100 effective draws give it away, and the table "
        "says “left”.",
    ]  # fmt: skip


def stayed(at: xarray.Dataset) -> bool:
    """Whether the chains of one estimate are of its phase, and long enough."""
    return bool(at.llc_rhat <= LARGEST_RHAT and at.llc_ess >= FEWEST_DRAWS and at.llc > 0)


def _llc_cell(at: xarray.Dataset) -> str:
    return f"{float(at.llc):.2f} ± {float(at.llc_std_error):.2f}" if stayed(at) else f"left ({float(at.llc):.1f})"


def _llc_table(results: xarray.Dataset) -> Table:
    settings = [(nbeta, ratio) for nbeta in results.nbeta.values for ratio in results.ratio.values]
    head = ["phase", *(f"nβ = {nbeta:g}, γ = {nbeta * ratio:g}" for nbeta, ratio in settings), "λ"]
    rows = []
    for name in results.phase.values:
        at = results.sel(phase=name)
        cells = [at.sel(nbeta=nbeta, ratio=ratio) for nbeta, ratio in settings]
        shown = [_llc_cell(cell) for cell in cells]
        rows.append([str(name), *shown, f"{float(at.learning_coefficient):g}"])
    return Table(head, rows)


def _rests(results: xarray.Dataset) -> list[dict[str, Any]]:
    """Every plateau of every run, with the phase whose loss is nearest."""
    found = []
    for run in range(results.sizes["run"]):
        at = results.isel(run=run)
        for rest in plateaus(at.training_loss.values, at.lowest_curvature.values):
            nearest = int(np.argmin(np.abs(results.exact_loss.values - rest.loss)))
            found.append({
                "run": run, "from_step": int(results.step[rest.first]), "to_step": int(results.step[rest.last]),
                "loss": rest.loss, "lowest_curvature": rest.lowest_curvature, "saddle": rest.is_saddle,
                "nearest_phase": str(results.phase.values[nearest]),
            })  # fmt: skip
    return found


def _about_plateaus(rests: list[dict[str, Any]]) -> list[str]:
    saddles = [rest for rest in rests if rest["saddle"]]
    lowest = f", down to {min(rest['lowest_curvature'] for rest in saddles):.3f}" if saddles else ""
    return [
        f"SGD falls in steps and rests between. {len(saddles)} of {len(rests)} rests are saddles: the most negative eigenvalue of the "
        f"Hessian is {SADDLE:g} or below{lowest}. A saddle has no LLC: its volume is not that of a minimum, and chains "
        "leave it for a lower loss. No LLC is given for it.",
        "Between -0.03 and 0 the table says nothing: the noise of SGD and the kinks give such eigenvalues at minima too.",
    ]


def _plateau_table(rests: list[dict[str, Any]]) -> Table:
    rows = [
        [
            str(rest["run"]), f"{rest['from_step']:,} to {rest['to_step']:,}", f"{rest['loss']:.4f}", rest["nearest_phase"],
            f"{rest['lowest_curvature']:+.3f}", "saddle: no LLC" if rest["saddle"] else "",
        ]
        for rest in rests
    ]  # fmt: skip
    return Table(["run", "steps", "loss", "phase nearest in loss", "lowest curvature", ""], rows)


def _crossings(results: xarray.Dataset, families: np.ndarray) -> tuple[float, float]:
    """n at which the 6-gon overtakes the 5-gons: of the mean shares, and the delete-one-repeat jackknife error."""
    whole = families.mean(axis=0)
    value = crossing(results.n.values, whole[:, 1], whole[:, 2])
    count = len(families)
    left = [np.delete(families, i, axis=0).mean(axis=0) for i in range(count)]
    found = np.array([crossing(results.n.values, one[:, 1], one[:, 2]) for one in left])
    return value, float(np.sqrt((count - 1) / count * np.sum((found - found.mean()) ** 2)))


def _about_shares(results: xarray.Dataset, families: np.ndarray, config: Superposition) -> list[str]:
    value, error = _crossings(results, families)
    said = (
        f"The 6-gon overtakes the 5-gons at n = {value:.0f} ± {error:.0f}." if np.isfinite(value)
        else "In this run the 6-gon does not overtake the 5-gons between the reported n."
    )  # fmt: skip
    predictions = ", ".join(
        f"{name} {n:.0f}" for name, n in zip(results.prediction.values, results.crossing.values, strict=True)
    )
    return [
        f"The posterior is exp(-nL) times the prior N(0, I), with the exact loss L. {config.selection.num_repeats} populations of "
        f"{config.selection.num_particles} particles are drawn from the prior and carried to larger and larger n (tempered sequential "
        "Monte Carlo, blackjax). A particle belongs to the phase whose minimum descent reaches from it.",
        f"{said} Predictions: {predictions}.",
        "A posterior of a data set of n examples has in addition the noise of those examples; it is not shown here.",
    ]  # fmt: skip


def _share_table(results: xarray.Dataset, families: np.ndarray) -> Table:
    mean, error = families.mean(axis=0), families.std(axis=0, ddof=1) / np.sqrt(len(families))
    rows = [
        [str(n), *(f"{m:.3f} ± {e:.3f}" for m, e in zip(mean[i], error[i], strict=True))]
        for i, n in enumerate(results.n.values)
    ]
    return Table(["n", "4-gons", "5-gons", "6-gon", "other minima"], rows)


def _summary(results: xarray.Dataset, families: np.ndarray, rests: list[dict[str, Any]]) -> dict[str, Any]:
    value, error = _crossings(results, families)
    return {
        "phases": {
            str(name): {
                "loss": float(at.exact_loss), "learning_coefficient": float(at.learning_coefficient),
                "lowest_curvature": float(at.curvature.min()), "llc": at.llc.values.tolist(),
                "llc_std_error": at.llc_std_error.values.tolist(), "llc_rhat": at.llc_rhat.values.tolist(),
                "gaussian_llc": at.gaussian_llc.values.tolist(),
            }
            for name, at in ((name, results.sel(phase=name)) for name in results.phase.values)
        },
        "nbeta": results.nbeta.values.tolist(), "ratio": results.ratio.values.tolist(), "plateaus": rests,
        "examples": results.n.values.tolist(), "shares": families.mean(axis=0).tolist(),
        "crossing": value, "crossing_std_error": error,
        "predictions": dict(zip(map(str, results.prediction.values), results.crossing.values.tolist(), strict=True)),
    }  # fmt: skip
