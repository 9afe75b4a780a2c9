"""Which head is which, and what happened to it: small questions to stored results, shared by text and figures."""

from typing import NamedTuple

import numpy as np
import xarray

__all__ = ["Change", "best_head", "change", "crossing", "head_name", "window"]


def head_name(layer: int, head: int) -> str:
    """A head's name as in arXiv 2410.02984, counted from 0."""
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


def window(steps: np.ndarray, values: np.ndarray) -> tuple[int, int]:
    """When a curve rises: the last step at or below a tenth of its range and the first at nine tenths of it."""
    low, high = values.min(), values.max()
    end = int(np.argmax(values >= low + 0.9 * (high - low)))
    below = np.flatnonzero(values[: end + 1] <= low + 0.1 * (high - low))
    return int(steps[below[-1] if len(below) else 0]), int(steps[end])


class Change(NamedTuple):
    """How a measured curve moved between two checkpoints."""

    start: int
    end: int
    change: float
    std_error: float


def change(curve: xarray.DataArray, std_error: xarray.DataArray, between: tuple[int, int]) -> Change:
    """The change of `curve` over the checkpoints that enclose `between`."""
    kept = curve.notnull()
    steps = curve.checkpoint.values[kept.values]
    before, after = steps[steps <= between[0]], steps[steps >= between[1]]
    start, end = int(before[-1] if len(before) else steps[0]), int(after[0] if len(after) else steps[-1])
    moved = float(curve.sel(checkpoint=end) - curve.sel(checkpoint=start))
    error = float(np.hypot(std_error.sel(checkpoint=end), std_error.sel(checkpoint=start)))
    return Change(start, end, moved, error)
