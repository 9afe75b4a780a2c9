"""Figures of `lrt-stages`."""

import numpy as np
import xarray

from experiments.page import FigureFile, save_figure
from experiments.run_folder import RunFolder
from slt_jax.plotting import plot_curves, plot_development, plot_rhat, plot_traces

__all__ = ["draw_figures"]


def draw_figures(folder: RunFolder, results: xarray.Dataset) -> dict[str, list[FigureFile]]:
    """Draw every figure; returns them by the section of the page they belong to."""
    figures: dict[str, list[FigureFile]] = {"development": [], "behaviour": [], "sampling": []}
    for seed in results.seed.values:
        at = results.sel(seed=seed)
        figures["development"].append(_development(folder, at, int(seed)))
        figures["behaviour"].append(_behaviour(folder, at, int(seed)))
        figures["sampling"].append(_sampling(folder, at, int(seed)))
    return figures


def _development(folder: RunFolder, at: xarray.Dataset, seed: int) -> FigureFile:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(9, 4.2), layout="constrained")
    plot_development(ax, at.step.values, at.loss.values, at.checkpoint.values, at.llc.values, at.llc_std_error.values)
    caption = f"Seed {seed}: test loss and local learning coefficient over training."
    return save_figure(folder, f"development_seed_{seed}", figure, caption)


def _behaviour(folder: RunFolder, at: xarray.Dataset, seed: int) -> FigureFile:
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
