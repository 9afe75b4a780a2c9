"""The figure of the toys, from stored results alone."""

from typing import TYPE_CHECKING

import numpy as np
import xarray

from experiments.self_repair.toys import PANELS, Shown
from slt_lab.page import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["story"]

TITLES = {
    "falls": "It falls\na later part writes what it finds missing",
    "flat": "It stays\nanother part stands by, or shares the work",
    "rises": "It rises\nboth parts have to be right",
}
INKS = {
    "residual corrector": "#3b6ea5", "division of labour": "#c98a1b", "backup with its own knowledge": "#3b6ea5",
    "parallel copies": "#c98a1b", "threshold gate": "#4f9a3f", "LayerNorm scale": "#8c4b9a", "louder wins": "#3b6ea5",
    "vote of three": "#c98a1b",
}  # fmt: skip
SHIFTS = {"threshold gate": -0.03, "LayerNorm scale": 0.03}
"""Of points that would lie on each other."""
MARKS, LINES = ("o", "s", "^"), ((0, ()), (0, (4, 2)), (0, (1, 1)))


def story(results: xarray.Dataset, toys: dict[str, Shown]) -> Picture:
    """LLC against the share of the damage that is repaired: sampled, exact at that temperature, and λ."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.9), layout="constrained", sharey=True)
    for ax, panel in zip(axes, PANELS, strict=True):
        families = dict.fromkeys(one.family for one in toys.values() if one.panel == panel)
        for family in families:
            _curve(ax, results.sel(model=[name for name, one in toys.items() if one.family == family]), family)
        ax.axhline(1.0, color="0.8", linewidth=1, zorder=0)
        ax.set_title(TITLES[panel], fontsize=11)
        ax.set_xlabel("share of the damage that is repaired, R(1)")
        ax.set_xlim(-0.08, 1.08)
        ax.legend(
            fontsize=8,
            loc="lower left" if panel != "rises" else "lower right",
            title="colour: kind of network",
            title_fontsize=8,
        )
    highest = float((results.exact_llc / results.plain).max())
    axes[0].set_ylim(0, 1.08 * max(1.0, highest))  # shared
    axes[0].set_ylabel("complexity, as a share of that of one part alone\n(LLC / λ of one part)")
    figure.legend(handles=_keys(results), loc="outside lower center", ncols=2 + results.sizes["setting"], fontsize=9)
    figure.suptitle("Do networks that repair themselves look simpler? It depends on how they do it.", fontsize=13)
    caption = (
        "Every point is a small network that computes the same function exactly, with one part that repairs some of the damage "
        "done to another (further right: more of it). Height is the local learning coefficient, the number that decides "
        "which of two equally good solutions a Bayesian learner prefers: lower is preferred. Points: sampled, bars of two standard errors. Lines: "
        "what a perfect sampler would report at that temperature. Crosses: the limit λ."
    )
    return Picture("story", figure, caption)


def _curve(ax: "Axes", found: xarray.Dataset, family: str) -> None:
    ink, order = INKS[family], np.argsort(found.full_repair.isel(setting=0, checkpoint=0).values, kind="stable")
    found = found.isel(model=order, checkpoint=0)
    for number, setting in enumerate(found.setting.values):
        at = found.sel(setting=setting)
        x, plain = at.full_repair + SHIFTS.get(family, 0.0), at.plain
        if len(x) > 1:
            ax.plot(x, at.exact_llc / plain, linestyle=LINES[number % 3], color=ink, linewidth=1.3)
        else:
            ax.hlines(at.exact_llc / plain, x - 0.03, x + 0.03, color=ink, linewidth=1.3, linestyle=LINES[number % 3])
        ax.errorbar(
            x, at.llc / plain, yerr=2 * at.llc_std_error / plain, fmt=MARKS[number % 3], color=ink, capsize=2, markersize=6,
            markerfacecolor=ink if number == 0 else "white", label=family if number == 0 else None,
        )  # fmt: skip
    ax.plot(x, at.learning_coefficient / plain, "x", color=ink, markersize=7, alpha=0.7)


def _keys(results: xarray.Dataset) -> list:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], color="0.3", marker=MARKS[number % 3], linestyle=LINES[number % 3], markerfacecolor="0.3" if number == 0 else "white", label=f"sampled and exact, {setting}")
        for number, setting in enumerate(results.setting.values)
    ]  # fmt: skip
    return [*keys, Line2D([], [], color="0.3", marker="x", linestyle="none", label="λ, the limit of large nβ")]
