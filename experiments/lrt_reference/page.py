"""The showing half of `lrt-reference`: tables, sentences and page, from storage alone."""

from typing import Any, NamedTuple

import numpy as np
import xarray

from configs.lrt_reference import LRTReference
from experiments.lrt_reference.measure import STARTS
from slt_jax.sampling.diagnostics import effective_sample_size, monte_carlo_std_error, rhat
from slt_lab.page import Page, Picture, Section, Table

__all__ = ["Verdict", "page", "verdict"]

AGREE = 1.05
"""Chains whose R-hat is below this have reached one distribution, as far as they can tell."""
SAMPLERS = {"SGLD": "llc", "underdamped": "level"}
"""Sampler -> the variable that holds its LLC."""
WINDOWS = (0.02, 0.1, 0.3, 1.0)
"""Shares of the SGLD trace after which its LLC so far is told."""


class Verdict(NamedTuple):
    """What the adjusted chains of one checkpoint say.

    Attributes:
        mean, std_error: of nβ(L - L(w*)) over all chains.
        by_start: starting point -> (mean, standard error) over its chains.
        rhat, ess: over all chains.
        difference, difference_std_error: the same excess on other sequences, minus that.
    """

    mean: float
    std_error: float
    by_start: dict[str, tuple[float, float]]
    rhat: float
    ess: float
    difference: float
    difference_std_error: float

    @property
    def reached(self) -> bool:
        """Whether all chains agree, wherever they began."""
        return self.rhat < AGREE


def verdict(at: xarray.Dataset) -> Verdict:
    """Of the results at one checkpoint of one seed."""
    names = [str(name) for name in at.adjusted_chain.values]
    values = at.adjusted_excess.transpose("adjusted_chain", "adjusted_draw").values.astype(np.float64)
    apart = at.adjusted_difference.transpose("adjusted_chain", "adjusted_draw").values.astype(np.float64)
    by_start: dict[str, tuple[float, float]] = {}
    for start in STARTS:
        chosen = values[[name.startswith(start) for name in names]]
        by_start[start] = float(chosen.mean()), monte_carlo_std_error(chosen)
    return Verdict(
        float(values.mean()), monte_carlo_std_error(values), by_start, rhat(values), effective_sample_size(values),
        float(apart.mean()), monte_carlo_std_error(apart),
    )  # fmt: skip


def page(results: xarray.Dataset, config: LRTReference) -> Page:
    """The page of a run."""
    found = {
        (int(seed), int(step)): verdict(results.sel(seed=seed, checkpoint=step))
        for seed in results.seed.values
        for step in results.checkpoint.values
    }
    lead = (
        "After the LayerNorm collapse the published LLC of the regression transformer falls by a quarter while its loss stays. Is "
        "that what the posterior holds, or do the chains of SGLD not get far enough? Here are chains with a Metropolis test and full "
        "gradients (the No-U-Turn sampler in the curvature metric), which have no bias from a step or a minibatch. Half of them "
        "start at the checkpoint, half where SGLD ends; where they agree, they know the posterior."
    )
    sections = [
        Section("What the posterior holds", _story(found), _table(found, results), [_curves(found, results)]),
        Section("What SGLD sees in its time", _about_time(results), _over_time(results), [_traces(found, results)]),
        Section("Is the part of the data the whole?", _about_difference(found, config)),
        Section("The chains", table=_chains(results)),
    ]
    return Page("lrt-reference", lead, sections, summary=_summary(found, results))


def _summary(found: dict[tuple[int, int], Verdict], results: xarray.Dataset) -> dict[str, Any]:
    rows = []
    for (seed, step), one in found.items():
        row: dict[str, Any] = {"seed": seed, "step": step, **one._asdict(), "reached": one.reached}
        row |= {sampler: _llc(results, seed, step, name) for sampler, name in SAMPLERS.items()}
        rows.append(row)
    return {"checkpoints": rows}


def _llc(results: xarray.Dataset, seed: int, step: int, name: str) -> tuple[float, float]:
    here = results.sel(seed=seed, checkpoint=step)
    return float(here[name]), float(here[f"{name}_std_error"])


def _story(found: dict[tuple[int, int], Verdict]) -> list[str]:
    reached = [one for one in found.values() if one.reached]
    sentences = [
        f"All adjusted chains agree (R-hat below {AGREE}) at {len(reached)} of {len(found)} checkpoints; elsewhere the reference was "
        "not reached, and its row is no verdict."
    ]
    for seed in sorted({seed for seed, _ in found}):
        steps = [step for one, step in found if one == seed and found[one, step].reached]
        if len(steps) > 1:
            first, last = found[seed, steps[0]], found[seed, steps[-1]]
            change, error = last.mean - first.mean, np.hypot(first.std_error, last.std_error)
            sentences.append(
                f"Seed {seed}: from step {steps[0]:,} to {steps[-1]:,} the posterior's own LLC changes by {change:+.1f} ± {error:.1f}."
            )
    return sentences


def _table(found: dict[tuple[int, int], Verdict], results: xarray.Dataset) -> Table:
    head = ["seed", "step", "adjusted", "from the checkpoint", "from SGLD's end", "R-hat", "effective draws", *SAMPLERS]
    rows = []
    for (seed, step), one in found.items():
        rows.append([
            str(seed), f"{step:,}", _told(one.mean, one.std_error), *(_told(*one.by_start[start]) for start in STARTS),
            f"{one.rhat:.2f}", f"{one.ess:.0f}", *(_told(*_llc(results, seed, step, name)) for name in SAMPLERS.values()),
        ])  # fmt: skip
    return Table(head, rows)


def _told(value: float, error: float) -> str:
    return f"{value:.1f} ± {error:.1f}"


def _about_time(results: xarray.Dataset) -> list[str]:
    return [
        "An LLC after so many steps is a quantity of its own, the finite-time LLC: the mean excess of chains that started at the "
        f"checkpoint {results.sizes['draw']:,} steps ago. The columns are its mean over the last part of the first so many steps; "
        "a posterior's LLC is what they come to."
    ]


def _over_time(results: xarray.Dataset) -> Table:
    traces = results.llc_trace
    ends = [max(2, round(share * traces.sizes["draw"])) for share in WINDOWS]
    rows = []
    for seed in results.seed.values:
        for step in results.checkpoint.values:
            trace = traces.sel(seed=seed, checkpoint=step).mean("chain").values
            rows.append([str(seed), f"{int(step):,}", *(f"{trace[end // 2 : end].mean():.1f}" for end in ends)])
    return Table(["seed", "step", *(f"steps {end // 2:,} to {end:,}" for end in ends)], rows)


def _about_difference(found: dict[tuple[int, int], Verdict], config: LRTReference) -> list[str]:
    settings = config.adjusted
    (seed, step), worst = max(found.items(), key=lambda item: abs(item[1].difference))
    return [
        f"Adjusted chains see {settings.num_examples:,} sequences of the empirical loss, the others all of its "
        f"{config.sampling.num_examples:,}. At their draws the excess on {settings.num_other_examples:,} other sequences is larger by "
        f"{worst.difference:+.1f} ± {worst.difference_std_error:.1f} at most (seed {seed}, step {step:,}): a chain lies lower on the "
        "sequences it sees, so that the two posteriors' LLCs may differ by about half of that."
    ]


def _chains(results: xarray.Dataset) -> Table:
    rows = []
    for seed in results.seed.values:
        for step in results.checkpoint.values:
            here = results.sel(seed=seed, checkpoint=step)
            rows += [
                [
                    str(seed), f"{int(step):,}", str(name), f"{float(here.adjusted_excess.isel(adjusted_chain=i).mean()):.1f}",
                    f"{float(here.adjusted_acceptance.isel(adjusted_chain=i)):.2f}",
                    f"{float(here.adjusted_divergences.isel(adjusted_chain=i)):.0%}",
                    f"{int(here.adjusted_gradients.isel(adjusted_chain=i)):,}",
                ]
                for i, name in enumerate(here.adjusted_chain.values)
            ]  # fmt: skip
    return Table(["seed", "step", "chain", "mean", "acceptance", "divergent", "gradients"], rows)


def _curves(found: dict[tuple[int, int], Verdict], results: xarray.Dataset) -> Picture:
    """LLC against the checkpoint, by every sampler."""
    import matplotlib.pyplot as plt

    seeds = results.seed.values.tolist()
    figure, axes = plt.subplots(
        1, len(seeds), figsize=(5.2 * len(seeds), 4), layout="constrained", squeeze=False, sharey=True
    )
    for seed, ax in zip(seeds, axes[0], strict=True):
        steps = results.checkpoint.values.tolist()
        for (sampler, name), color in zip(SAMPLERS.items(), ("tab:blue", "tab:orange"), strict=True):
            values = np.array([_llc(results, seed, step, name) for step in steps])
            ax.errorbar(
                steps, values[:, 0], 2 * values[:, 1], color=color, marker="o", markersize=4, capsize=2, label=sampler
            )
        for reached, fill, name in ((True, "black", "adjusted"), (False, "white", "adjusted, chains disagree")):
            chosen = [step for step in steps if found[seed, step].reached == reached]
            if chosen:
                ax.errorbar(
                    chosen, [found[seed, step].mean for step in chosen], [2 * found[seed, step].std_error for step in chosen],
                    color="black", markerfacecolor=fill, linestyle="", marker="s", markersize=6, capsize=3, label=name,
                )  # fmt: skip
        ax.set_title(f"seed {seed}", fontsize=10)
        ax.set_xlabel("training step")
    axes[0, 0].set_ylabel("LLC (bars: 2 standard errors)")
    handles = {label: handle for ax in axes[0] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    return Picture("curves", figure, "The LLC by each sampler. Squares: chains with a Metropolis test.")


def _traces(found: dict[tuple[int, int], Verdict], results: xarray.Dataset) -> Picture:
    """SGLD's excess against its steps, smoothed, and the adjusted mean as a line."""
    import matplotlib.pyplot as plt

    steps, seeds = results.checkpoint.values.tolist(), results.seed.values.tolist()
    figure, axes = plt.subplots(
        len(seeds), len(steps), figsize=(2.6 * len(steps) + 0.8, 2.5 * len(seeds) + 0.6), layout="constrained", squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    window = max(1, results.sizes["draw"] // 50)
    for (row, column), ax in np.ndenumerate(axes):
        seed, step = seeds[row], steps[column]
        trace = results.llc_trace.sel(seed=seed, checkpoint=step).mean("chain").values
        smooth = np.convolve(trace, np.full(window, 1 / window), mode="valid")
        ax.plot(
            np.arange(len(smooth)) + window / 2, smooth, color="tab:blue", linewidth=1, label="SGLD, mean of chains"
        )
        one = found[seed, step]
        ax.axhline(one.mean, color="black", linewidth=1, linestyle="-" if one.reached else ":", label="adjusted chains")
        ax.set_title(f"seed {seed}, step {step:,}", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("sampling step", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("nβ (L - L(w*))", fontsize=8)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return Picture(
        "traces", figure, f"SGLD from the checkpoint on, means over {window} steps, beside the adjusted chains."
    )
