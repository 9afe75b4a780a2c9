"""The figures of `superposition`, from stored results alone."""

from typing import TYPE_CHECKING

import numpy as np
import xarray

from slt_jax.plotting import LLC_COLOR, LOSS_COLOR
from slt_lab.page import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["fractions", "gallery", "reversal", "training"]

SIDES = ("4-gon", "5-gon", "6-gon")
INKS = ("#3b6ea5", "#c98a1b", "#4f9a3f", "#7a7060")


def gallery(results: xarray.Dataset) -> Picture:
    """The columns of W of every phase, coloured by their biases."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, results.sizes["phase"], figsize=(13, 2.9), layout="constrained")
    for ax, name in zip(np.atleast_1d(axes), results.phase.values, strict=True):
        _polygon(ax, results.sel(phase=name))
    caption = (
        "Each feature's column of W in the plane, dimensionless. Dead features sit at the origin: their bias is "
        "negative (white) or 1/12 (black)."
    )
    return Picture("gallery", figure, caption)


def _polygon(ax: "Axes", phase: xarray.Dataset) -> None:
    live = np.hypot(*phase.weights.values) > 0
    corners = phase.weights.values[:, live]
    ax.plot(*np.concatenate([corners, corners[:, :1]], axis=1), color="0.7", linewidth=1)
    for corner in corners.T:
        ax.annotate("", corner, (0, 0), arrowprops={"arrowstyle": "->", "color": LLC_COLOR, "shrinkA": 0, "shrinkB": 0})
    dead = phase.biases.values[~live]
    places = np.linspace(-0.2, 0.2, len(dead)) if len(dead) > 1 else np.zeros(len(dead))
    for place, bias in zip(places, dead, strict=True):
        ax.plot(
            place,
            0,
            "o",
            markersize=7,
            markerfacecolor="black" if bias > 0 else "white",
            markeredgecolor="black",
            zorder=3,
        )
    ax.set_xlim(-1.6, 1.6)
    ax.set_ylim(-1.6, 1.6)
    ax.set_aspect("equal")
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])
    bias = phase.biases.values[live][0]
    coefficient = float(phase.learning_coefficient)
    ax.set_title(
        f"{phase.phase.item()}\nloss {float(phase.exact_loss):.4f}, λ = {coefficient:g}\nlive biases {bias:+.2f}",
        fontsize=9,
    )


def reversal(results: xarray.Dataset) -> Picture:
    """LLC against γ/nβ of the three polygons without positive biases, one panel for each nβ, and λ."""
    import matplotlib.pyplot as plt

    count = results.sizes["nbeta"]
    figure, axes = plt.subplots(1, count, figsize=(5.2 * count, 4), layout="constrained", sharey=True)
    for ax, nbeta in zip(np.atleast_1d(axes), results.nbeta.values, strict=True):
        for name, ink in zip(SIDES, INKS, strict=False):
            at = results.sel(phase=name, nbeta=nbeta)
            ax.errorbar(results.ratio, at.llc, yerr=2 * at.llc_std_error, marker="o", capsize=2, color=ink, label=name)
            ax.axhline(float(at.learning_coefficient), color=ink, linestyle=":", linewidth=1)
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_xlabel("γ/nβ: localisation weakens to the right")
        ax.set_title(f"nβ = {nbeta:,.0f}", fontsize=10)
    np.atleast_1d(axes)[0].set_ylabel("LLC (bars: 2 standard errors; dotted: λ)")
    np.atleast_1d(axes)[0].legend(fontsize=8)
    return Picture("reversal", figure, "The LLC of three polygons against the strength of the localisation.")


def training(results: xarray.Dataset) -> Picture:
    """Exact loss and most negative curvature of every run of SGD."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    axes[0].plot(results.step, results.training_loss.T, linewidth=1, color=LOSS_COLOR, alpha=0.6)
    for name, loss in zip(results.phase.values, results.exact_loss.values, strict=True):
        axes[0].axhline(loss, color="0.6", linestyle=":", linewidth=0.8)
        axes[0].annotate(str(name), (1.0, loss), xycoords=("axes fraction", "data"), fontsize=7, va="center")
    axes[0].set_ylabel("population loss (squared units)")
    axes[0].set_ylim(0.045, 0.13)
    axes[1].plot(results.step, results.lowest_curvature.T, linewidth=1, color="0.4", alpha=0.6)
    axes[1].axhline(-0.03, color="black", linestyle="--", linewidth=0.9)
    axes[1].set_ylabel("most negative Hessian eigenvalue")
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel("step of SGD")
    caption = (
        "Runs of SGD. Left: losses, dotted those of the polygons. Right: below the dashed line a plateau is a saddle."
    )
    return Picture("training", figure, caption)


def fractions(results: xarray.Dataset, families: np.ndarray) -> Picture:
    """Shares `(repeat, n, family)` of the 4-, 5- and 6-gons and of other minima against n."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    mean = families.mean(axis=0)
    error = families.std(axis=0, ddof=1) / np.sqrt(len(families))
    for index, (label, ink) in enumerate(zip(("4-gons", "5-gons", "6-gon", "other minima"), INKS, strict=True)):
        ax.errorbar(results.n, mean[:, index], yerr=2 * error[:, index], marker="o", capsize=2, color=ink, label=label)
    for name, n in zip(results.prediction.values, results.crossing.values, strict=True):
        if results.n[0] <= n <= results.n[-1]:
            ax.axvline(n, color="0.5", linestyle=":", linewidth=1)
            ax.annotate(f"{name}, {n:.0f}", (n, 1.02), rotation=90, fontsize=7, ha="right", va="top", color="0.3")
    ax.set_xscale("log")
    ax.set_xticks(results.n.values, [str(n) for n in results.n.values])
    ax.minorticks_off()
    ax.set_ylim(-0.02, 1.05)
    ax.set_xlabel("examples n")
    ax.set_ylabel("share of the posterior (bars: 2 standard errors)")
    ax.legend(fontsize=8)
    caption = "Posterior shares of the phases, with the predicted crossings of 5-gon and 6-gon (dotted)."
    return Picture("fractions", figure, caption)
