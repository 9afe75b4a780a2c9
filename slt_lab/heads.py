"""Attention heads as a reader sees them: their names, a panel for each, which is best, and when something was measured."""

from typing import TYPE_CHECKING

import numpy as np
import xarray

from slt_jax.plotting import LLC_COLOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["best_head", "crossing", "head_name", "head_panels", "tidy_log_axis", "where_measured"]


def where_measured(results: xarray.Dataset, estimate: str) -> xarray.Dataset:
    """`results` at the checkpoints at which the LLC `estimate` was measured: it is there, or its chains are said to be lost."""
    measured = results[estimate].notnull()
    lost = results[f"{estimate}_diverged"]
    measured = measured | lost.any([dim for dim in lost.dims if dim not in measured.dims])
    return results.isel(checkpoint=np.flatnonzero(measured.any([dim for dim in measured.dims if dim != "checkpoint"])))


def head_name(layer: int, head: int) -> str:
    """A head's name, counted from 0."""
    return f"{layer}:{head}"


def best_head(results: xarray.Dataset, score: str) -> tuple[int, int]:
    """(layer, head) with the highest `score` at the last step."""
    last = results[score].isel(step=-1).values
    layer, head = np.unravel_index(np.argmax(last), last.shape)
    return int(layer), int(head)


def crossing(steps: np.ndarray, values: np.ndarray, level: float, *, falling: bool = False) -> int | None:
    """The first step at which `values` is at or beyond `level`, or `None`."""
    beyond = values <= level if falling else values >= level
    return int(steps[np.argmax(beyond)]) if beyond.any() else None


def tidy_log_axis(ax: "Axes") -> None:
    """Label decades only: the numbers between them run into each other on a small panel."""
    from matplotlib.ticker import NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())


def head_panels(results: xarray.Dataset) -> tuple["Figure", np.ndarray]:
    """A figure with a named panel `(layer, head)` for the refined LLC of every head over training."""
    import matplotlib.pyplot as plt

    layers, heads = results.sizes["layer"], results.sizes["head"]
    size = (2.3 * heads, 2.2 * layers)
    figure, axes = plt.subplots(
        layers, heads, figsize=size, layout="constrained", squeeze=False, sharex=True, sharey=True
    )  # fmt: skip
    for (layer, head), ax in np.ndenumerate(axes):
        tidy_log_axis(ax)
        ax.set_title(head_name(layer, head), fontsize=9)
    for ax in axes[:, 0]:
        ax.set_ylabel("refined LLC", color=LLC_COLOR, fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("training step", fontsize=8)
    return figure, axes
