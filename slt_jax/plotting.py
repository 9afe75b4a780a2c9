"""One function per kind of figure: arrays in, drawn on the `matplotlib` Axes that is given, nothing returned.

Arrays may be lists, tuples or arrays of numpy, jax or xarray. A ValueError names the argument whose shape does not fit.

`matplotlib.pyplot.style.use("slt_jax.slt")` gives other figures the look of the reports.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

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

Numbers: TypeAlias = Any
"""An array of numbers, or lists that `numpy.asarray` makes one of."""

LOSS_COLOR = "#b5651d"
LLC_COLOR = "#1f5fa8"
STAGE_COLORS = ("#dfe8f2", "#fdf0dc", "#e4f1e1", "#f3e3ee", "#ece9e4", "#e0f0f0")
STAGE_INKS = ("#3b6ea5", "#c98a1b", "#4f9a3f", "#a8438a", "#7a7060", "#2f9a9a")
"""Dark companions of the stage colours, for lines."""


def _array(name: str, values: Numbers) -> np.ndarray:
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers ({error})") from error


def _numbers(shape: str, **arrays: Numbers) -> list[np.ndarray]:
    """`arrays` as floats, all of one shape with the axes that `shape` names, "chain step" say."""
    axes = shape.split()
    found = {name: _array(name, values) for name, values in arrays.items()}
    first = next(iter(found))
    for name, array in found.items():
        if array.ndim != len(axes):
            raise ValueError(f"{name} has shape {array.shape}; its axes should be ({', '.join(axes)})")
        if array.shape != found[first].shape:
            raise ValueError(f"{name} has shape {array.shape} and {first} {found[first].shape}; they should be equal")
    return list(found.values())


def _pairs(name: str, values: Numbers) -> np.ndarray:
    """`values` as floats `(n, 2)`; n may be 0."""
    array = _array(name, values)
    if array.shape == (0,):
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} has shape {array.shape}; it should be a list of pairs of numbers")
    return array


def _curve(name: str, curve: Numbers) -> list[np.ndarray]:
    """A pair (steps, values) as two arrays of one length."""
    if len(curve) != 2:
        raise ValueError(f"{name} has {len(curve)} parts; it should be a pair (steps, values)")
    return _numbers("step", **{f"{name}[0]": curve[0], f"{name}[1]": curve[1]})


def shade_stages(ax: "Axes", boundaries: Numbers, labels: Sequence[str] = (), *, intervals: Numbers = ()) -> None:
    """Shade the spans between consecutive `boundaries` (in the units of the x axis), labelled along the top.

    `intervals`, one for each boundary inside, are drawn as bars along the bottom: where that boundary may be.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from slt_jax.plotting import shade_stages
        >>> figure, ax = plt.subplots()
        >>> _ = ax.set(xlim=(0, 100))
        >>> shade_stages(ax, [0, 40, 100], ["A", "B"])
        >>> [text.get_text() for text in ax.texts]
        ['A', 'B']
        >>> plt.close(figure)
    """
    (edges,) = _numbers("boundary", boundaries=boundaries)
    spans = _pairs("intervals", intervals)
    left_limit, right_limit = ax.get_xlim()
    logarithmic = ax.get_xscale() == "log"
    if logarithmic:
        left_limit = max(left_limit, np.finfo(float).tiny)
    for index, (left, right) in enumerate(itertools.pairwise(edges.tolist())):
        left, right = max(left, left_limit), min(right, right_limit)
        if left >= right:
            continue
        ax.axvspan(left, right, color=STAGE_COLORS[index % len(STAGE_COLORS)], zorder=0, linewidth=0)
        if index < len(labels):
            middle = np.sqrt(left * right) if logarithmic else (left + right) / 2
            ax.text(
                middle, 1.01, labels[index], transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=8
            )  # fmt: skip
    for low, high in spans.tolist():
        ax.plot(
            [max(low, left_limit), high], [0.015, 0.015], transform=ax.get_xaxis_transform(), color="0.25", linewidth=2.5,
            solid_capstyle="butt",
        )  # fmt: skip
    ax.set_xlim(left_limit, right_limit)


def plot_development(
    ax: "Axes",
    loss_steps: Numbers,
    loss: Numbers,
    llc_steps: Numbers,
    llc: Numbers,
    llc_std_error: Numbers,
    *,
    llc_reference: Numbers = None,
    llc_smooth: Numbers = None,
) -> "Axes":
    """Loss (left axis) and LLC with two-standard-error bars (right axis, returned) against the training step, log scale.

    `llc_smooth` and `llc_reference` are curves, (steps, values); the first is drawn in place of the straight lines between the
    estimates.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from slt_jax.plotting import plot_development
        >>> figure, ax = plt.subplots()
        >>> right = plot_development(ax, [1, 10, 100], [5.0, 3.0, 2.0], [1, 100], [0.1, 7.0], [0.05, 0.2])
        >>> right.get_ylabel()
        'LLC (bars: 2 standard errors)'
        >>> plt.close(figure)
    """
    steps, losses = _numbers("step", loss_steps=loss_steps, loss=loss)
    llc_steps, llc, llc_std_error = _numbers("step", llc_steps=llc_steps, llc=llc, llc_std_error=llc_std_error)
    smooth = None if llc_smooth is None else _curve("llc_smooth", llc_smooth)
    reference = None if llc_reference is None else _curve("llc_reference", llc_reference)
    ax.set_xscale("log")
    visible = steps > 0
    ax.plot(steps[visible], losses[visible], color=LOSS_COLOR, linewidth=1.5)
    ax.set_xlabel("training step")
    ax.set_ylabel("loss (mean squared error)", color=LOSS_COLOR)
    ax.tick_params(axis="y", colors=LOSS_COLOR)
    other = ax.twinx()
    other.spines["right"].set_visible(True)  # also in a style without it
    other.errorbar(
        llc_steps,
        llc,
        yerr=2 * llc_std_error,
        color=LLC_COLOR,
        marker="o",
        markersize=4,
        linewidth=1.5,
        linestyle="-" if smooth is None else "none",
        capsize=2,
    )
    if smooth is not None:
        other.plot(*smooth, color=LLC_COLOR, linewidth=1.5)
    if reference is not None:
        other.plot(*reference, color=LLC_COLOR, linestyle=":", linewidth=1, label="authors' LLC")
        other.legend(loc="center left", fontsize=8)
    other.set_ylabel("LLC (bars: 2 standard errors)", color=LLC_COLOR)
    other.tick_params(axis="y", colors=LLC_COLOR)
    return other


def plot_curves(
    ax: "Axes",
    steps: Numbers,
    curves: Mapping[str, Numbers],
    *,
    ylabel: str,
    reference_lines: Mapping[str, float] | None = None,
    colormap: str | None = None,
    legend_title: str | None = None,
) -> None:
    """Several curves against the training step on a log scale, with optional labelled horizontal references.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from slt_jax.plotting import plot_curves
        >>> figure, ax = plt.subplots()
        >>> plot_curves(ax, [1, 10, 100], {"loss": [5.0, 3.0, 2.0]}, ylabel="loss")
        >>> ax.get_xscale()
        'log'
        >>> plt.close(figure)
    """
    import matplotlib

    names = {f"curve '{label}'": values for label, values in curves.items()}
    at, *lines = _numbers("step", **{"steps": steps, **names})
    ax.set_xscale("log")
    visible = at > 0
    colors: Any = [None] * len(curves)
    if colormap is not None:
        colors = matplotlib.colormaps[colormap](np.linspace(0.1, 0.9, len(curves)))
    for label, values, color in zip(curves, lines, colors, strict=True):
        ax.plot(at[visible], values[visible], label=label, color=color, linewidth=1.3)
    for label, value in (reference_lines or {}).items():
        ax.axhline(value, color="0.4", linestyle="--", linewidth=0.9, label=label)
    ax.set_xlabel("training step")
    ax.set_ylabel(ylabel)
    if len(curves) + len(reference_lines or {}) > 1:
        ax.legend(fontsize=7, title=legend_title, title_fontsize=7)


def plot_traces(ax: "Axes", burnin: Numbers, draws: Numbers, *, thinning: int = 1, window: int = 25) -> None:
    """Running mean of nβ(L - L*) along every chain, `(chain, step)`; burn-in is grey, its end marked; `[]` for no burn-in.

    Example:
        >>> import matplotlib.pyplot as plt, numpy as np
        >>> from slt_jax.plotting import plot_traces
        >>> figure, ax = plt.subplots()
        >>> plot_traces(ax, [], np.zeros((4, 100)))
        >>> len(ax.lines) >= 4
        True
        >>> plt.close(figure)
    """
    (late,) = _numbers("chain step", draws=draws)
    early_draws = _array("burnin", burnin)
    if early_draws.shape == (0,):
        early_draws = np.zeros((len(late), 0))
    (early_draws,) = _numbers("chain step", burnin=early_draws)
    if len(early_draws) != len(late):
        raise ValueError(f"burnin has {len(early_draws)} chains and draws {len(late)}; give both of the same chains")
    num_burnin = early_draws.shape[1]
    smooth = np.ones(window) / window
    position_of_all = np.concatenate([np.arange(num_burnin), num_burnin + thinning * np.arange(late.shape[1])])
    for before, after in zip(early_draws, late, strict=True):
        whole, position = np.concatenate([before, after]), position_of_all
        if len(whole) >= window:
            whole, position = np.convolve(whole, smooth, mode="valid"), position[window - 1 :]
        early = position < num_burnin
        ax.plot(position[early], whole[early], color="0.6", linewidth=0.8)
        ax.plot(position[~early], whole[~early], linewidth=0.8)
    if num_burnin:
        ax.axvline(num_burnin, color="0.3", linestyle=":", linewidth=0.9)
    ax.set_xlabel("sampling step")
    ax.set_ylabel("nβ (L - L*)")


def plot_rhat(ax: "Axes", steps: Numbers, rhat: Numbers, *, limit: float = 1.05) -> None:
    """Rank-normalised R-hat of every estimate against the training step, with the customary limit.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from slt_jax.plotting import plot_rhat
        >>> figure, ax = plt.subplots()
        >>> plot_rhat(ax, [1, 10, 100], [1.0, 1.01, 1.2])
        >>> ax.get_ylabel()
        'R-hat'
        >>> plt.close(figure)
    """
    steps, rhat = _numbers("step", steps=steps, rhat=rhat)
    ax.set_xscale("log")
    ax.plot(steps, rhat, marker="o", markersize=4, color=LLC_COLOR)
    ax.axhline(limit, color="0.4", linestyle="--", linewidth=0.9)
    ax.text(0.01, limit, f"{limit:g}", transform=ax.get_yaxis_transform(), va="bottom", fontsize=7, color="0.4")
    ax.set_xlabel("training step")
    ax.set_ylabel("R-hat")


def plot_trajectory(
    ax: "Axes", path: Numbers, stage_of: Numbers, *, points: Numbers = None, centers: Numbers = None
) -> None:
    """A plane path `(grid, 2)` coloured by stage, with the checkpoints and the centres of its osculating circles.

    Centres further from the middle of the path than twice its extent are left out: there the path is nearly straight.

    Example:
        >>> import matplotlib.pyplot as plt, numpy as np
        >>> from slt_jax.plotting import plot_trajectory
        >>> figure, ax = plt.subplots()
        >>> plot_trajectory(ax, np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 1.0]]), np.array([0, 0, 1]))
        >>> len(ax.lines)
        3
        >>> plt.close(figure)
    """
    path, stages = _pairs("path", path), np.asarray(stage_of)
    if len(path) == 0 or stages.shape != path.shape[:1] or stages.dtype.kind not in "iu":
        raise ValueError(
            f"stage_of has shape {stages.shape} for a path {path.shape}; give each point its stage's number"
        )
    if points is not None:
        ax.plot(*_pairs("points", points).T, ".", color="0.75", markersize=3, zorder=1)
    if centers is not None:
        centers = _pairs("centers", centers)
        reach = 2 * np.ptp(path, axis=0).max()
        near = np.linalg.norm(centers - path.mean(axis=0), axis=1) < reach
        limits = ax.dataLim.frozen()
        ax.plot(*np.where(near[:, None], centers, np.nan).T, color="0.6", linewidth=0.8, zorder=2)
        ax.dataLim.set(limits)
    for stage in np.unique(stages).tolist():
        inside = np.flatnonzero(stages == stage)
        span = slice(max(inside[0] - 1, 0), inside[-1] + 1)
        ax.plot(path[span, 0], path[span, 1], color=STAGE_INKS[stage % len(STAGE_INKS)], linewidth=1.8, zorder=3)
    ax.plot(*path[0], "o", color="black", markersize=4, zorder=4)
    ax.autoscale_view()
    ax.margins(0.08)


def plot_heat_map(
    ax: "Axes",
    values: Numbers,
    rows: Numbers,
    columns: Numbers,
    *,
    row_label: str,
    column_label: str,
    value_label: str,
) -> None:
    """`values` `(row, column)` as colours with the number in every cell; NaN cells are grey and say so.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from slt_jax.plotting import plot_heat_map
        >>> figure, ax = plt.subplots()
        >>> plot_heat_map(ax, [[1.0, float("nan")]], [1e-3], [10, 100], row_label="step size", column_label="nβ",
        ...               value_label="LLC")
        >>> [text.get_text() for text in ax.texts]
        ['1', 'diverged']
        >>> plt.close(figure)
    """
    import matplotlib

    (values,), (rows,), (columns,) = (
        _numbers("row column", values=values), _numbers("row", rows=rows), _numbers("column", columns=columns)
    )  # fmt: skip
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"values has shape {values.shape} for {len(rows)} rows and {len(columns)} columns")
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


def plot_estimates_against_truth(ax: "Axes", truth: Numbers, estimates: Mapping[str, Sequence[Numbers]]) -> None:
    """Estimates, label -> (means, standard errors), with bars of two standard errors against the exact values `truth`.

    Log axes, with the line of equality.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from slt_jax.plotting import plot_estimates_against_truth
        >>> figure, ax = plt.subplots()
        >>> plot_estimates_against_truth(ax, [1.0, 2.0], {"SGLD": ([1.1, 1.9], [0.1, 0.1])})
        >>> ax.get_xscale()
        'log'
        >>> plt.close(figure)
    """
    for (label, pair), marker in zip(estimates.items(), itertools.cycle("osD^vPX*"), strict=False):
        if len(pair) != 2:
            raise ValueError(f"estimates of '{label}' have {len(pair)} parts; give a pair (means, standard errors)")
        named = {"truth": truth, f"means of '{label}'": pair[0], f"standard errors of '{label}'": pair[1]}
        exact, mean, std_error = _numbers("model", **named)
        ax.errorbar(exact, mean, yerr=2 * std_error, fmt=marker, markersize=3, linewidth=0.8, alpha=0.8, label=label)
    low, high = float(np.nanmin(truth)) * 0.8, float(np.nanmax(truth)) * 1.2
    ax.plot([low, high], [low, high], color="0.4", linewidth=0.9)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("exact local learning coefficient")
    ax.set_ylabel("estimate (bars: 2 standard errors)")
    ax.legend(fontsize=8)


def plot_step_table(ax: "Axes", delta: Numbers, used: Numbers = ()) -> None:
    """A Turing machine's step table: a column per symbol read, a row per state, in each cell what is done.

    Args:
        ax: where to draw.
        delta: rows (symbol, state, new symbol, new state, move) as of `theory.TuringMachine`.
        used: the pairs (symbol, state) to be shaded, those that the machine meets.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from slt_jax.plotting import plot_step_table
        >>> figure, ax = plt.subplots()
        >>> plot_step_table(ax, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 1]], used=[(0, 0)])
        >>> [text.get_text().split("\\n")[0] for text in ax.texts]
        ['write 1, stay', 'write 0, right']
        >>> plt.close(figure)
    """
    rows = np.asarray(delta, int)
    shaded = {(int(symbol), int(state)) for symbol, state in np.asarray(used, int).reshape(-1, 2)}
    symbols, states = 1 + int(rows[:, 0].max()), 1 + int(rows[:, 1].max())
    arrows = {-1: "left", 0: "stay", 1: "right"}
    for symbol, state, new_symbol, new_state, move in rows.tolist():
        color = STAGE_COLORS[0] if (symbol, state) in shaded else "white"
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
