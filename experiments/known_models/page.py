"""The showing half of `known-models`: figures, tables and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.known_models import KnownModels
from slt_lab.page import Page, Picture, Section, Table

__all__ = ["page"]

WANTED = (0.90, 0.99)
"""Where the coverage of 95% intervals should lie."""
MARKERS = "osD^vP"
NUTS_COLOR = "black"


def page(results: xarray.Dataset, config: KnownModels) -> Page:
    """The page of a run."""
    budget = config.budget
    chains = budget.repeats * budget.num_chains
    sections = [
        Section(
            "What there is to find",
            [
                f"nβ = {config.nbeta:g}, γ = {config.localization:g}. 'Exact' is nβ E[L] under the local posterior at these settings, by "
                "quadrature or in closed form: what a perfect sampler reports. (For the linear network it is the mean of a "
                "long NUTS run.) 'Asymptotic' is λ - (m - 1)/log nβ, to which it tends as nβ grows; the prior's width decides "
                "how slowly."
            ],
            _truth_table(results),
        ),
        Section(
            "Estimates",
            [
                f"Every sampler made {budget.num_burnin:,} burn-in steps and "
                f"{budget.num_draws * budget.thinning:,} more with full gradients, on {chains:,} chains; its step "
                "follows from one rule (slt_lab/comparison.py). In the table: error relative to the exact "
                "value, ± one standard error, and in brackets the error in standard errors. Euler's SGLD has a bias of first "
                "order in its step, which is part of what is shown. Where the Hessian vanishes at w*, the curvature metric "
                "is a multiple of the identity, and metric SGLD is Leimkuhler-Matthews SGLD with another seed.",
                _findings(results),
            ],
            _estimate_table(results),
            [_estimates_figure(results)],
        ),
        Section("NUTS", ["blackjax's No-U-Turn sampler on the same posteriors."], _nuts_table(results)),
        Section(
            "Do the error bars mean anything?",
            [
                f"The chains fall into {budget.repeats} repeated estimates of {budget.num_chains} chains x "
                f"{budget.num_draws} draws. Below: the share whose 95% interval (mean ± 1.96 standard errors) holds the "
                "value the sampler should converge to, and in brackets that of 68% intervals. The value is the exact one; for "
                "Euler's SGLD on the quadratic it is the known one at its own step. On the other models Euler's misses are its "
                "bias, and the error ratio (stated standard error over the actual spread of the repeats) tells the two "
                "apart.",
            ],
            _coverage_table(results),
            [_coverage_figure(results)],
        ),
        Section("Stated standard error over actual spread of the repeats", table=_ratio_table(results)),
    ]
    lead = (
        "Every sampler of the library on models whose learning coefficient is known, and whose finite-temperature value is "
        "known too."
    )
    lost = int(results.llc.isnull().sum())
    warnings = [f"{lost} estimates are NaN: a chain diverged."] if lost else []
    return Page("known-models", lead, sections, warnings, _summary(results))


def _errors(results: xarray.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relative error, its standard error, and the error in standard errors, each `(model, sampler)`."""
    exact = results.exact.values[:, None]
    error = results.llc.values - exact
    return error / exact, results.llc_std_error.values / exact, error / results.llc_std_error.values


def _summary(results: xarray.Dataset) -> dict[str, Any]:
    relative, _, scores = _errors(results)
    ratios = _ratios(results)
    models = {}
    for i, name in enumerate(results.model.values):
        at = results.sel(model=name)
        models[str(name)] = {
            "exact": float(at.exact),
            "asymptotic": float(at.asymptotic),
            "learning_coefficient": float(at.learning_coefficient),
            "multiplicity": int(at.multiplicity),
            "nuts": {"mean": float(at.nuts_llc), "std_error": float(at.nuts_llc_std_error)},
            "samplers": {
                str(sampler): {
                    "mean": float(at.llc[j]),
                    "std_error": float(at.llc_std_error[j]),
                    "relative_error": float(relative[i, j]),
                    "score": float(scores[i, j]),
                    "rhat": float(at.llc_rhat[j]),
                    "ess": float(at.llc_ess[j]),
                    "step_size": float(at.step_size[j]),
                    "seconds": float(at.seconds[j]),
                    "within_68": float(at.coverage[j, 0]),
                    "within_95": float(at.coverage[j, 1]),
                    "error_ratio": float(ratios[i, j]),
                }
                for j, sampler in enumerate(results.sampler.values)
            },
        }
    worst = {
        str(name): float(np.max(np.abs(relative[:, j]))) if np.isfinite(relative[:, j]).all() else float("nan")
        for j, name in enumerate(results.sampler.values)
    }
    return {"models": models, "worst_relative_error": worst}


def _ratios(results: xarray.Dataset) -> np.ndarray:
    """Mean stated standard error of one repeat over the spread of the repeats, `(model, sampler)`."""
    return (results.repeat_llc_std_error.mean("repeat") / results.repeat_llc.std("repeat", ddof=1)).values


def _findings(results: xarray.Dataset) -> str:
    relative, _, scores = _errors(results)
    sentences = []
    for j, name in enumerate(results.sampler.values):
        error, score = np.abs(relative[:, j]), np.abs(scores[:, j])
        sentences.append(
            f"{name}: median |error| {np.median(error):.1%}, worst {error.max():.1%}; within 2 standard errors on "
            f"{int((score <= 2).sum())} of {len(score)} models."
        )
    return " ".join(sentences)


def _truth_table(results: xarray.Dataset) -> Table:
    rows = []
    for name in results.model.values:
        at = results.sel(model=name)
        values = [f"{float(at[key]):.4f}" for key in ("learning_coefficient", "asymptotic", "exact")]
        rows.append([str(name), values[0], str(int(at.multiplicity)), *values[1:]])
    return Table(["model", "λ", "m", "asymptotic", "exact"], rows)


def _estimate_table(results: xarray.Dataset) -> Table:
    relative, errors, scores = _errors(results)
    rows = [
        [str(name), *(f"{100 * r:+.1f} ± {100 * e:.1f}% ({z:+.1f})" for r, e, z in zip(*line, strict=True))]
        for name, *line in zip(results.model.values, relative, errors, scores, strict=True)
    ]
    return Table(["model", *map(str, results.sampler.values)], rows)


def _nuts_table(results: xarray.Dataset) -> Table:
    measured = results.where(results.nuts_llc.notnull(), drop=True)
    rows = []
    for name in measured.model.values:
        at = measured.sel(model=name)
        score = (float(at.nuts_llc) - float(at.exact)) / float(at.nuts_llc_std_error)
        worst = np.abs((at.llc - at.nuts_llc) / np.hypot(at.llc_std_error, at.nuts_llc_std_error))
        rows.append(
            [
                str(name), f"{float(at.exact):.4f}", f"{float(at.nuts_llc):.4f} ± {float(at.nuts_llc_std_error):.4f}",
                f"{score:+.1f}", f"{float(at.nuts_divergences):.2%}",
                ", ".join(f"{sampler} {float(z):.1f}" for sampler, z in zip(results.sampler.values, worst, strict=True)),
            ]
        )  # fmt: skip
    head = ["model", "exact", "NUTS", "error in s.e.", "divergent", "|sampler - NUTS| in joint s.e."]
    return Table(head, rows)


def _coverage_table(results: xarray.Dataset) -> Table:
    rows = [
        [str(name), *(f"{wide:.1%} ({narrow:.1%})" for narrow, wide in line)]
        for name, line in zip(results.model.values, results.coverage.values, strict=True)
    ]
    return Table(["model", *map(str, results.sampler.values)], rows)


def _ratio_table(results: xarray.Dataset) -> Table:
    rows = [
        [str(name), *(f"{ratio:.2f}" for ratio in line)]
        for name, line in zip(results.model.values, _ratios(results), strict=True)
    ]
    return Table(["model", *map(str, results.sampler.values)], rows)


def _estimates_figure(results: xarray.Dataset) -> Picture:
    import matplotlib.pyplot as plt

    relative, errors, _ = _errors(results)
    count, number = relative.shape
    figure, ax = plt.subplots(figsize=(8, 0.55 * count + 1.6), layout="constrained")
    rows = np.arange(count)[::-1]
    for j, sampler in enumerate(results.sampler.values):
        heights = rows + 0.3 - 0.6 * j / max(number - 1, 1)
        bars = 200 * errors[:, j]
        ax.errorbar(
            100 * relative[:, j], heights, xerr=bars, fmt=MARKERS[j % len(MARKERS)], markersize=4, label=str(sampler)
        )
    gap = (results.nuts_llc - results.exact) / results.exact
    ax.errorbar(
        100 * gap,
        rows + 0.4,
        xerr=200 * results.nuts_llc_std_error / results.exact,
        fmt="*",
        color=NUTS_COLOR,
        label="NUTS",
    )
    ax.axvline(0, color="0.4", linewidth=0.9)
    ax.set_xscale("symlog", linthresh=10)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(rows, [str(name) for name in results.model.values])
    for edge in rows[:-1] - 0.5:
        ax.axhline(edge, color="0.9", linewidth=0.8)
    ax.set_xlabel("error of the estimate relative to the exact value, in percent (bars: 2 standard errors)")
    figure.legend(fontsize=7, loc="outside upper center", ncols=4)
    caption = "Every sampler at the same number of gradients, against the exact finite-nβ value; linear to ±10%, logarithmic beyond."
    return Picture("estimates", figure, caption)


def _coverage_figure(results: xarray.Dataset) -> Picture:
    import matplotlib.pyplot as plt

    names, number = [str(name) for name in results.model.values], results.sizes["sampler"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.5 * len(names) + 1.6), layout="constrained", sharey=True)
    rows = np.arange(len(names))[::-1]
    for k, ax in enumerate(axes):
        level = float(results.level[k])
        if k == 1:
            ax.axvspan(100 * WANTED[0], 100 * WANTED[1], color="0.93")
        for j, sampler in enumerate(results.sampler.values):
            heights = rows + 0.3 - 0.6 * j / max(number - 1, 1)
            share = results.coverage.values[:, j, k]
            spread = np.sqrt(share * (1 - share) / results.sizes["repeat"])
            marker = MARKERS[j % len(MARKERS)]
            ax.errorbar(100 * share, heights, xerr=100 * spread, fmt=marker, markersize=4, label=str(sampler))
        for edge in rows[:-1] - 0.5:
            ax.axhline(edge, color="0.9", linewidth=0.8)
        ax.axvline(100 * level, color="0.4", linestyle="--", linewidth=0.9)
        ax.set_xlim(-3, 103)
        ax.set_xlabel(f"{level:.0%} intervals that hold the value, in percent")
    axes[0].set_yticks(rows, names)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=7, loc="outside upper center", ncols=min(number, 6))
    caption = (
        "Coverage of the intervals of repeated estimates; grey: where 95% coverage is wanted. Bars: binomial error."
    )
    return Picture("coverage", figure, caption)
