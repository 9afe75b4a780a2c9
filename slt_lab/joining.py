"""Datasets of several measures and subjects joined into one: where something was not measured a number is NaN, a truth value False,
a text empty."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

__all__ = ["beside", "merged"]

AXES = ("step", "checkpoint")


def merged(parts: Sequence[xarray.Dataset]) -> xarray.Dataset:
    """Datasets of other variables, at other checkpoints, as one."""
    steps: dict[str, list[int]] = {}
    for part in parts:
        for axis in AXES:
            if axis in part.coords:
                steps[axis] = sorted({*steps.get(axis, []), *part[axis].values.tolist()})
    return xarray.merge([_spread(part, steps) for part in parts], compat="no_conflicts")


def beside(parts: Sequence[xarray.Dataset], index: xarray.DataArray) -> xarray.Dataset:
    """Datasets of the same variables along a new dimension `index`."""
    steps = {
        axis: sorted({step for part in parts if axis in part.coords for step in part[axis].values.tolist()})
        for axis in AXES
    }
    names = dict.fromkeys(name for part in parts for name in part.data_vars)
    spread = [_spread(part, {axis: values for axis, values in steps.items() if axis in part.coords}) for part in parts]
    whole = [_with(part, names, spread) for part in spread]
    return xarray.concat(whole, index, coords="minimal", compat="equals", join="exact")


def _with(part: xarray.Dataset, names: Mapping[Any, None], others: Sequence[xarray.Dataset]) -> xarray.Dataset:
    """`part` with the variables that only other subjects have, empty."""
    for name in names:
        if name not in part:
            model = next(other[name] for other in others if name in other)
            part = part.assign({name: xarray.full_like(model, _empty(model))})
    return part


def _spread(part: xarray.Dataset, steps: Mapping[str, list[int]]) -> xarray.Dataset:
    own = {axis: values for axis, values in steps.items() if axis in part.coords}
    return part.reindex(own, fill_value={name: _empty(variable) for name, variable in part.data_vars.items()})


def _empty(variable: xarray.DataArray) -> Any:
    """What stands where `variable` was not measured."""
    if variable.dtype == bool:
        return False
    return "" if variable.dtype.kind in "UO" else np.nan
