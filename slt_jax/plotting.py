"""One function per kind of figure: arrays in, drawn on the `matplotlib` Axes that is given, nothing returned."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "LLC_COLOR",
    "LOSS_COLOR",
    "STAGE_INKS",
    "plot_curves",
    "plot_development",
    "plot_estimates_against_truth",
    "plot_heat_map",
    "plot_rhat",
    "plot_step_table",
    "plot_traces",
    "plot_trajectory",
    "shade_stages",
]

LOSS_COLOR = "#b5651d"
LLC_COLOR = "#1f5fa8"
STAGE_COLORS = ("#dfe8f2", "#fdf0dc", "#e4f1e1", "#f3e3ee", "#ece9e4", "#e0f0f0")


STAGE_INKS = ("#3b6ea5", "#c98a1b", "#4f9a3f", "#a8438a", "#7a7060", "#2f9a9a")
"""Dark companions of the stage colours, for lines."""


def shade_stages(
    ax: "Axes",
    boundaries: Sequence[float],
    labels: Sequence[str] = (),
    *,
    intervals: Sequence[tuple[float, float]] = (),
) -> None:
    """Shade the spans between consecutive `boundaries` (in the units of the x axis), labelled along the top.

    `intervals`, one for each boundary inside, are drawn as bars along the bottom: where that boundary may be.
    """
    left_limit, right_limit = ax.get_xlim()
    logarithmic = ax.get_xscale() == "log"
    if logarithmic:
        left_limit = max(left_limit, np.finfo(float).tiny)
    for index, (left, right) in enumerate(itertools.pairwise(boundaries)):
        left, right = max(left, left_limit), min(right, right_limit)
        if left >= right:
            continue
        ax.axvspan(left, right, color=STAGE_COLORS[index % len(STAGE_COLORS)], zorder=0, linewidth=0)
        if index < len(labels):
            middle = np.sqrt(left * right) if logarithmic else (left + right) / 2
            ax.text(
                middle, 1.01, labels[index], transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=8
            )  # fmt: skip
    for low, high in intervals:
        ax.plot(
            [max(low, left_limit), high], [0.015, 0.015], transform=ax.get_xaxis_transform(), color="0.25", linewidth=2.5,
            solid_capstyle="butt",
        )  # fmt: skip
    ax.set_xlim(left_limit, right_limit)


def plot_development(
    ax: "Axes",
    loss_steps: np.ndarray,
    loss: np.ndarray,
    llc_steps: np.ndarray,
    llc: np.ndarray,
    llc_std_error: np.ndarray,
    *,
    llc_reference: tuple[np.ndarray, np.ndarray] | None = None,
    llc_smooth: tuple[np.ndarray, np.ndarray] | None = None,
) -> "Axes":
    """Loss (left axis) and LLC with two-standard-error bars (right axis, returned) against the training step, log scale.

    `llc_smooth`, (steps, values), is drawn in place of the straight lines between the estimates.
    """
    ax.set_xscale("log")
    visible = loss_steps > 0
    ax.plot(loss_steps[visible], loss[visible], color=LOSS_COLOR, linewidth=1.5)
    ax.set_xlabel("training step")
    ax.set_ylabel("loss (mean squared error)", color=LOSS_COLOR)
    ax.tick_params(axis="y", colors=LOSS_COLOR)
    other = ax.twinx()
    other.errorbar(
        llc_steps,
        llc,
        yerr=2 * llc_std_error,
        color=LLC_COLOR,
        marker="o",
        markersize=4,
        linewidth=1.5,
        linestyle="-" if llc_smooth is None else "none",
        capsize=2,
    )
    if llc_smooth is not None:
        other.plot(*llc_smooth, color=LLC_COLOR, linewidth=1.5)
    if llc_reference is not None:
        other.plot(*llc_reference, color=LLC_COLOR, linestyle=":", linewidth=1, label="authors' LLC")
        other.legend(loc="center left", fontsize=8)
    other.set_ylabel("LLC (bars: 2 standard errors)", color=LLC_COLOR)
    other.tick_params(axis="y", colors=LLC_COLOR)
    return other


def plot_curves(
    ax: "Axes",
    steps: np.ndarray,
    curves: Mapping[str, np.ndarray],
    *,
    ylabel: str,
    reference_lines: Mapping[str, float] | None = None,
    colormap: str | None = None,
    legend_title: str | None = None,
) -> None:
    """Several curves against the training step on a log scale, with optional labelled horizontal references."""
    import matplotlib

    ax.set_xscale("log")
    visible = steps > 0
    colors: Any = [None] * len(curves)
    if colormap is not None:
        colors = matplotlib.colormaps[colormap](np.linspace(0.1, 0.9, len(curves)))
    for (label, values), color in zip(curves.items(), colors, strict=True):
        ax.plot(steps[visible], values[visible], label=label, color=color, linewidth=1.3)
    for label, value in (reference_lines or {}).items():
        ax.axhline(value, color="0.4", linestyle="--", linewidth=0.9, label=label)
    ax.set_xlabel("training step")
    ax.set_ylabel(ylabel)
    if len(curves) + len(reference_lines or {}) > 1:
        ax.legend(fontsize=7, title=legend_title, title_fontsize=7)


def plot_traces(ax: "Axes", burnin: np.ndarray, draws: np.ndarray, *, thinning: int = 1, window: int = 25) -> None:
    """Running mean of nβ(L - L*) along every chain, `(chain, step)`; burn-in is grey, its end marked."""
    num_burnin = burnin.shape[1]
    smooth = np.ones(window) / window
    for chain in range(draws.shape[0]):
        whole = np.concatenate([burnin[chain], draws[chain]])
        position = np.concatenate([np.arange(num_burnin), num_burnin + thinning * np.arange(draws.shape[1])])
        if len(whole) >= window:
            whole, position = np.convolve(whole, smooth, mode="valid"), position[window - 1 :]
        early = position < num_burnin
        ax.plot(position[early], whole[early], color="0.6", linewidth=0.8)
        ax.plot(position[~early], whole[~early], linewidth=0.8)
    if num_burnin:
        ax.axvline(num_burnin, color="0.3", linestyle=":", linewidth=0.9)
    ax.set_xlabel("sampling step")
    ax.set_ylabel("nβ (L - L*)")


def plot_rhat(ax: "Axes", steps: np.ndarray, rhat: np.ndarray, *, limit: float = 1.05) -> None:
    """Rank-normalised R-hat of every estimate against the training step, with the customary limit."""
    ax.set_xscale("log")
    ax.plot(steps, rhat, marker="o", markersize=4, color=LLC_COLOR)
    ax.axhline(limit, color="0.4", linestyle="--", linewidth=0.9)
    ax.text(0.01, limit, f"{limit:g}", transform=ax.get_yaxis_transform(), va="bottom", fontsize=7, color="0.4")
    ax.set_xlabel("training step")
    ax.set_ylabel("R-hat")


def plot_trajectory(
    ax: "Axes",
    path: np.ndarray,
    stage_of: np.ndarray,
    *,
    points: np.ndarray | None = None,
    centers: np.ndarray | None = None,
) -> None:
    """A plane path `(grid, 2)` coloured by stage, with the checkpoints and the centres of its osculating circles.

    Centres further from the middle of the path than twice its extent are left out: there the path is nearly straight.
    """
    if points is not None:
        ax.plot(points[:, 0], points[:, 1], ".", color="0.75", markersize=3, zorder=1)
    if centers is not None:
        reach = 2 * np.ptp(path, axis=0).max()
        near = np.linalg.norm(centers - path.mean(axis=0), axis=1) < reach
        limits = ax.dataLim.frozen()
        ax.plot(*np.where(near[:, None], centers, np.nan).T, color="0.6", linewidth=0.8, zorder=2)
        ax.dataLim.set(limits)
    for stage in np.unique(stage_of).tolist():
        inside = np.flatnonzero(stage_of == stage)
        span = slice(max(inside[0] - 1, 0), inside[-1] + 1)
        ax.plot(path[span, 0], path[span, 1], color=STAGE_INKS[stage % len(STAGE_INKS)], linewidth=1.8, zorder=3)
    ax.plot(*path[0], "o", color="black", markersize=4, zorder=4)
    ax.autoscale_view()
    ax.margins(0.08)


def plot_heat_map(
    ax: "Axes",
    values: np.ndarray,
    rows: Sequence[float],
    columns: Sequence[float],
    *,
    row_label: str,
    column_label: str,
    value_label: str,
) -> None:
    """`values` `(row, column)` as colours with the number in every cell; NaN cells are grey and say so."""
    import matplotlib

    colormap = matplotlib.colormaps["viridis"].with_extremes(bad="0.85")
    image = ax.imshow(np.ma.masked_invalid(values), origin="lower", aspect="auto", cmap=colormap)
    ax.set_xticks(range(len(columns)), [f"{value:.2g}" for value in columns])
    ax.set_yticks(range(len(rows)), [f"{value:.2g}" for value in rows])
    ax.set_xlabel(column_label)
    ax.set_ylabel(row_label)
    finite = values[np.isfinite(values)]
    middle = float(np.median(finite)) if finite.size else 0.0
    for (row, column), value in np.ndenumerate(values):
        shown = f"{value:.3g}" if np.isfinite(value) else "diverged"
        color = "black" if not np.isfinite(value) or value > middle else "white"
        ax.text(column, row, shown, ha="center", va="center", fontsize=7, color=color)
    ax.figure.colorbar(image, ax=ax, label=value_label)


def plot_estimates_against_truth(
    ax: "Axes", truth: np.ndarray, estimates: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Estimates with two-standard-error bars against the exact value, log axes, with the line of equality."""
    for (label, (mean, std_error)), marker in zip(estimates.items(), "osD^v", strict=False):
        ax.errorbar(truth, mean, yerr=2 * std_error, fmt=marker, markersize=3, linewidth=0.8, alpha=0.8, label=label)
    low, high = float(np.nanmin(truth)) * 0.8, float(np.nanmax(truth)) * 1.2
    ax.plot([low, high], [low, high], color="0.4", linewidth=0.9)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("exact local learning coefficient")
    ax.set_ylabel("estimate (bars: 2 standard errors)")
    ax.legend(fontsize=8)


def plot_step_table(
    ax: "Axes", delta: Sequence[tuple[int, int, int, int, int]], used: Sequence[tuple[int, int]] = ()
) -> None:
    """A Turing machine's step table: a column per symbol read, a row per state, in each cell what is done.

    Args:
        ax: where to draw.
        delta: rows (symbol, state, new symbol, new state, move) as of `theory.TuringMachine`.
        used: the pairs (symbol, state) to be shaded, those that the machine meets.
    """
    symbols, states = 1 + max(row[0] for row in delta), 1 + max(row[1] for row in delta)
    arrows = {-1: "left", 0: "stay", 1: "right"}
    for symbol, state, new_symbol, new_state, move in delta:
        color = STAGE_COLORS[0] if (symbol, state) in used else "white"
        ax.add_patch(_rectangle((symbol - 0.5, state - 0.5), color))
        text = f"write {new_symbol}, {arrows[move]}\nstate {new_state}"
        ax.text(symbol, state, text, ha="center", va="center", fontsize=7)
    ax.set_xlim(-0.5, symbols - 0.5)
    ax.set_ylim(states - 0.5, -0.5)
    ax.set_xticks(range(symbols), [f"reads {symbol}" for symbol in range(symbols)], fontsize=7)
    ax.set_yticks(range(states), [f"state {state}" for state in range(states)], fontsize=7)
    ax.tick_params(length=0)


def _rectangle(corner: tuple[float, float], color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, facecolor=color, edgecolor="0.6")
