"""The figures of `superposition`, from stored results alone."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from experiments.superposition.selection import Pooled
from experiments.superposition.training import SADDLE
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


def reversal(results: xarray.Dataset, stayed: Callable[[xarray.Dataset], bool]) -> Picture:
    """LLC against γ/nβ of the three polygons without positive biases, one panel for each nβ, and λ; only what `stayed`."""
    import matplotlib.pyplot as plt

    count = results.sizes["nbeta"]
    figure, axes = plt.subplots(1, count, figsize=(5.2 * count, 4), layout="constrained", sharey=True, squeeze=False)
    for ax, nbeta in zip(axes[0], results.nbeta.values, strict=True):
        for name, ink, shift in zip(SIDES, INKS, (0.94, 1.0, 1.06), strict=False):
            at = results.sel(phase=name, nbeta=nbeta)
            kept = [stayed(at.sel(ratio=ratio)) for ratio in at.ratio.values]
            llc, error = at.llc.where(kept), at.llc_std_error.where(kept)
            ax.errorbar(at.ratio * shift, llc, yerr=2 * error, marker="o", capsize=2, color=ink, label=name)
            ax.axhline(float(at.learning_coefficient), color=ink, linestyle=":", linewidth=1)
        ax.set_xscale("log")
        ax.set_xlim(2 * float(results.ratio.max()), float(results.ratio.min()) / 2)
        ax.set_xlabel("γ/nβ (squared units): localisation weakens to the right")
        ax.set_title(f"nβ = {nbeta:,.0f}", fontsize=10)
    axes[0, 0].set_ylabel("LLC (dimensionless)")
    axes[0, -1].legend(fontsize=8, loc="lower right")
    caption = (
        "The LLC of three polygons against the strength of the localisation, bars of two standard errors, and λ (dotted). A point is "
        "missing where chains left the phase. Where the lines of 4-gon and 5-gon cross, the staircase turns over."
    )
    return Picture("reversal", figure, caption)


def training(results: xarray.Dataset, rests: list[dict[str, Any]]) -> Picture:
    """Exact loss and most negative curvature of every run of SGD, rests at saddles thick."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for ax, name in zip(axes, ("training_loss", "lowest_curvature"), strict=True):
        ax.plot(results.step, results[name].T, linewidth=1, color=LOSS_COLOR if ax is axes[0] else "0.4", alpha=0.6)
        for rest in (rest for rest in rests if rest["saddle"]):
            at = results[name].isel(run=rest["run"]).sel(step=slice(rest["from_step"], rest["to_step"]))
            ax.plot(at.step, at, linewidth=3, color="#b2182b", solid_capstyle="round", zorder=3)
        ax.set_xscale("log")
        ax.set_xlim(float(results.step[-1]) / 60, float(results.step[-1]))
        ax.set_xlabel("step of SGD")
    for name, loss in zip(results.phase.values, results.exact_loss.values, strict=True):
        axes[0].axhline(loss, color="0.6", linestyle=":", linewidth=0.8)
        axes[0].annotate(
            str(name), (1.0, loss), xytext=(4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=7, va="center",
        )  # fmt: skip
    axes[0].set_ylabel("population loss (squared units)")
    axes[0].set_ylim(0.045, 0.13)
    axes[1].axhline(SADDLE, color="black", linestyle="--", linewidth=0.9)
    axes[1].set_ylabel("lowest Hessian eigenvalue (squared units)")
    caption = "Runs of SGD. Left: losses, dotted those of the polygons. Right: below the dashed line a rest is a saddle. Red: rests at saddles."
    return Picture("training", figure, caption)


def fractions(results: xarray.Dataset, families: Pooled) -> Picture:
    """Shares `(n, family)` of the 4-, 5- and 6-gons and of other minima against n, and the predicted crossings."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 5.4), layout="constrained")
    for index, (label, ink) in enumerate(zip(("4-gons", "5-gons", "6-gon", "other minima"), INKS, strict=True)):
        ax.errorbar(
            results.n, families.share[:, index], yerr=2 * families.share_error[:, index], marker="o", capsize=2, color=ink,
            label=label,
        )  # fmt: skip
    for index, (name, n) in enumerate(zip(results.prediction.values, results.crossing.values, strict=True), start=1):
        if np.isfinite(n):
            ax.axvline(n, color="0.5", linestyle=":", linewidth=1, label=f"{index}: {name}, {n:.0f}")
            ax.annotate(str(index), (n, 1.0), xytext=(0, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks(results.n.values, [str(n) for n in results.n.values])
    ax.minorticks_off()
    ax.set_ylim(-0.02, 1.05)
    ax.set_xlabel("n (examples)")
    ax.set_ylabel("share of the posterior")
    figure.legend(*ax.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2)
    caption = (
        "Posterior shares of the phases, bars of two standard errors. Dotted and numbered: four predictions of the n at which the "
        "6-gon overtakes the 5-gons."
    )
    return Picture("fractions", figure, caption)
