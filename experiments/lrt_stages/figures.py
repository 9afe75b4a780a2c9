"""Figures of `lrt-stages`."""

from typing import TYPE_CHECKING

import numpy as np
import xarray

from experiments.lrt_stages.stages import arrows, intervals, stage_names
from experiments.page import FigureFile, save_figure
from experiments.run_folder import RunFolder
from slt_jax.analysis.stages import Stages
from slt_jax.plotting import plot_curves, plot_development, plot_rhat, plot_traces, shade_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_figures"]


def draw_figures(folder: RunFolder, results: xarray.Dataset, stages: dict[int, Stages]) -> dict[str, list[FigureFile]]:
    """Draw every figure; returns them by the section of the page they belong to."""
    figures: dict[str, list[FigureFile]] = {"development": [], "behaviour": [], "sampling": []}
    for seed in results.seed.values.tolist():
        at = results.sel(seed=seed)
        figures["development"].append(_development(folder, at, seed, stages.get(seed)))
        figures["behaviour"].append(_behaviour(folder, at, seed, stages.get(seed)))
        figures["sampling"].append(_sampling(folder, at, seed))
    return figures


def shade(ax: "Axes", stages: Stages | None, *, labels: bool = False) -> None:
    """Shade the stages, if there are any, behind what is drawn on `ax`."""
    if stages is None:
        return
    names = [f"{name}: {arrows(stage.type)}" for name, stage in zip(stage_names(stages), stages.stages, strict=True)]
    shade_stages(ax, stages.edges, names if labels else (), intervals=intervals(stages) if labels else ())


def _development(folder: RunFolder, at: xarray.Dataset, seed: int, stages: Stages | None) -> FigureFile:
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 6.4), height_ratios=(2.2, 1), sharex=True, layout="constrained"
    )  # fmt: skip
    steps = at.step.values
    smooth = None if stages is None else (stages.curve.steps, stages.curve.mean)
    plot_development(
        top, steps, at.loss.values, at.checkpoint.values, at.llc.values, at.llc_std_error.values, llc_smooth=smooth
    )  # fmt: skip
    top.set_xlabel("")
    predictions = {
        "mean squared prediction (0: answers zero)": at.zero_prediction.values,
        "mean squared distance to ridge regression": at.distance_to_ridge.values,
    }
    plot_curves(bottom, steps, predictions, ylabel="squared units")
    bottom.set_yscale("log")
    bottom.set_xlim(*_shown(at))
    shade(top, stages, labels=True)
    shade(bottom, stages)
    caption = (
        f"Seed {seed}. Top: test loss and local learning coefficient over training, the line the Gaussian process that "
        "the stages are read from; bars along the bottom hold each boundary with 95% probability. Bottom: what the "
        "model answers."
    )
    return save_figure(folder, f"development_seed_{seed}", figure, caption)


def _shown(at: xarray.Dataset) -> tuple[float, float]:
    """Span of the time axis: little happens before half the first step with an LLC."""
    return max(1.0, float(at.checkpoint.values[0]) / 2), 1.05 * float(at.step.values[-1])


def _behaviour(folder: RunFolder, at: xarray.Dataset, seed: int, stages: Stages | None) -> FigureFile:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    steps = at.step.values
    per_token = {str(k + 1): at.loss_token.values[:, k] for k in range(at.loss_token.shape[1])}
    plot_curves(axes[0, 0], steps, per_token, ylabel="loss", colormap="viridis", legend_title="example")
    plot_curves(axes[0, 1], steps, {"score": at.icl_score.values}, ylabel="ICL score (loss₈ - loss₁)")
    distances = {
        "mean squared prediction": at.zero_prediction.values,
        "distance to ridge": at.distance_to_ridge.values,
    }
    plot_curves(axes[1, 0], steps, distances, ylabel="squared prediction units")
    axes[1, 0].set_yscale("log")
    names = [str(name) for name in at.data_vars if str(name).startswith("collapse.")]
    shares = {name.removeprefix("collapse."): at[name].values for name in sorted(names)}
    plot_curves(axes[1, 1], steps, shares, ylabel="share of LayerNorm weights below 0.1")
    for ax, title in zip(
        np.ravel(axes),
        ("Loss per example", "In-context learning", "Predictions", "LayerNorm collapse"),
        strict=True,
    ):
        ax.set_title(title, fontsize=10)
        ax.set_xlim(*_shown(at))
        shade(ax, stages)
    return save_figure(folder, f"behaviour_seed_{seed}", figure, f"Seed {seed}: behaviour and structure over training.")


def _sampling(folder: RunFolder, at: xarray.Dataset, seed: int) -> FigureFile:
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
    return save_figure(folder, f"sampling_seed_{seed}", figure, caption)
