"""Small questions to stored results: when a curve rises, and by how much it moves."""

from typing import NamedTuple

import numpy as np
import xarray

__all__ = ["Change", "largest_change", "window"]


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


def largest_change(curve: xarray.DataArray, std_error: xarray.DataArray, between: tuple[int, int]) -> Change:
    """The largest move of `curve` between two of the checkpoints that enclose `between`; NaN if there are not two."""
    steps = curve.checkpoint.values[curve.notnull().values]
    before, after = steps[steps <= between[0]], steps[steps >= between[1]]
    first, last = (before[-1:], after[:1])
    inside = steps[
        (steps >= (first[0] if len(first) else between[0])) & (steps <= (last[0] if len(last) else between[1]))
    ]
    if len(inside) < 2:
        return Change(*between, float("nan"), float("nan"))
    values, errors = (array.sel(checkpoint=inside).values for array in (curve, std_error))
    moves = np.triu(values[None, :] - values[:, None])  # from row to column, forwards in time
    i, j = np.unravel_index(np.abs(moves).argmax(), moves.shape)
    return Change(int(inside[i]), int(inside[j]), float(moves[i, j]), float(np.hypot(errors[i], errors[j])))
