"""Figures of `lrt-stages`: the development of every seed, its chains, and all seeds side by side."""

import numpy as np
import xarray

from experiments.lrt_stages.authors import AUTHORS_LLC
from experiments.lrt_stages.multiples import essential_dynamics_figure, metrics_figure, refined_figure
from experiments.lrt_stages.stages import sampled, shown
from slt_jax.analysis.stages import Stages
from slt_jax.plotting import plot_curves, plot_development, plot_rhat, plot_traces
from slt_lab.page import Picture
from slt_lab.stages import shade

__all__ = ["draw_figures"]

HESSIAN_COLOR = "#7a3b8f"


def draw_figures(results: xarray.Dataset, stages: dict[int, Stages], *, authors: bool) -> dict[str, list[Picture]]:
    """Every figure, by the section of the page it belongs to; `authors`: their mean LLC beside ours."""
    names = ("development", "metrics", "refined", "dynamics", "sampling")
    figures: dict[str, list[Picture]] = {name: [] for name in names}
    estimated = sampled(results)
    if results.seed.size > 1:
        figures["development"].append(_seeds(estimated))
    for seed in results.seed.values.tolist():
        at = estimated.sel(seed=seed)
        figures["development"].append(_development(at, seed, stages.get(seed), authors))
        figures["metrics"].append(metrics_figure(at, seed, stages.get(seed)))
        refined = refined_figure(results.sel(seed=seed), seed, stages.get(seed))
        figures["refined"] += [] if refined is None else [refined]
        path = essential_dynamics_figure(at, seed, stages.get(seed))
        figures["dynamics"] += [] if path is None else [path]
        figures["sampling"].append(_sampling(at, seed))
    return figures


def _development(at: xarray.Dataset, seed: int, stages: Stages | None, authors: bool) -> Picture:
    import matplotlib.pyplot as plt

    traced = "hessian_trace" in at
    figure, axes = plt.subplots(
        3 if traced else 2, 1, figsize=(9, 8.4 if traced else 6.4), height_ratios=(2.2, 1, 1)[: 3 if traced else 2],
        sharex=True, layout="constrained",
    )  # fmt: skip
    top, bottom = axes[0], axes[-1]
    steps = at.step.values
    smooth = None if stages is None else (stages.curve.steps, stages.curve.mean)
    known = {step: value for step, value in AUTHORS_LLC.items() if step <= steps[-1]}
    reference = (np.asarray(list(known)), np.asarray(list(known.values()))) if authors and known else None
    plot_development(
        top, steps, at.loss.values, at.checkpoint.values, at.llc.values, at.llc_std_error.values, llc_smooth=smooth,
        llc_reference=reference,
    )  # fmt: skip
    top.set_xlabel("")
    if traced:
        axes[1].errorbar(
            at.checkpoint.values, at.hessian_trace.values, yerr=2 * at.hessian_trace_std_error.values, color=HESSIAN_COLOR,
            marker="o", markersize=3, linewidth=1.3, capsize=2,
        )  # fmt: skip
        if (at.hessian_trace.values > 0).all():
            axes[1].set_yscale("log")
        axes[1].set_ylabel("Hessian trace\n(bars: 2 standard errors)")
        shade(axes[1], stages)
    predictions = {
        "mean squared prediction (0: answers zero)": at.zero_prediction.values,
        "mean squared distance to ridge regression": at.distance_to_ridge.values,
    }
    plot_curves(bottom, steps, predictions, ylabel="squared units")
    bottom.set_yscale("log")
    bottom.set_xlim(*shown(at))
    shade(top, stages, labels=True)
    shade(bottom, stages)
    caption = (
        f"Seed {seed}. Top: test loss and local learning coefficient over training, the line the Gaussian process that "
        "the stages are read from; bars along the bottom hold each boundary with 95% probability. "
        + ("Middle: trace of the Hessian. " if traced else "")
        + "Bottom: what the model answers."
    )
    return Picture(f"development_seed_{seed}", figure, caption)


def _seeds(results: xarray.Dataset) -> Picture:
    """All seeds side by side: loss, LLC, Hessian trace, share of collapsed final LayerNorm weights."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    labels = [f"seed {seed}" for seed in results.seed.values]
    steps, checkpoints = results.step.values, results.checkpoint.values
    plot_curves(
        axes[0, 0], steps, dict(zip(labels, results.loss.values, strict=True)), ylabel="loss (mean squared error)"
    )
    collapse = dict(zip(labels, results["collapse.final_norm"].values, strict=True))
    plot_curves(axes[1, 1], steps, collapse, ylabel="final LayerNorm: share of weights below 0.1")
    pairs = [(axes[0, 1], "llc", "LLC")]
    if "hessian_trace" in results:
        pairs.append((axes[1, 0], "hessian_trace", "Hessian trace"))
    for ax, name, ylabel in pairs:
        ax.set_xscale("log")
        for label, values, errors in zip(
            labels, results[name].values, results[f"{name}_std_error"].values, strict=True
        ):
            ax.errorbar(
                checkpoints, values, yerr=2 * errors, marker="o", markersize=3, linewidth=1.2, capsize=2, label=label
            )
        ax.set_xlabel("training step")
        ax.set_ylabel(f"{ylabel} (bars: 2 standard errors)")
        ax.legend(fontsize=7)
    axes[1, 0].set_yscale("log" if "hessian_trace" in results and (results.hessian_trace > 0).all() else "linear")
    for ax in np.ravel(axes):
        ax.set_xlim(*shown(results))
    return Picture("seeds", figure, "All seeds: what is shared and what depends on the seed.")


def _sampling(at: xarray.Dataset, seed: int) -> Picture:
    import matplotlib.pyplot as plt

    shown = np.unique(np.linspace(0, at.checkpoint.size - 1, min(6, at.checkpoint.size)).astype(int))
    columns = 3
    rows = -(-(len(shown) + 1) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9, 2.7 * rows), layout="constrained", squeeze=False)
    for ax, index in zip(np.ravel(axes), shown, strict=False):
        here = at.isel(checkpoint=index)
        plot_traces(ax, here.llc_burnin_trace.values, here.llc_trace.values)
        ax.set_title(f"step {int(here.checkpoint):,}", fontsize=9)
    plot_rhat(np.ravel(axes)[len(shown)], at.checkpoint.values, at.llc_rhat.values)
    np.ravel(axes)[len(shown)].set_title("R-hat", fontsize=9)
    for ax in np.ravel(axes)[len(shown) + 1 :]:
        ax.set_visible(False)
    caption = f"Seed {seed}: chains (running mean over 25 steps; burn-in grey) and R-hat of every estimate."
    return Picture(f"sampling_seed_{seed}", figure, caption)
