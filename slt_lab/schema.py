"""`results.zarr` as one schema: every variable has its dims, its name in words and its units."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from slt_lab.measure import Variable

if TYPE_CHECKING:
    import xarray

__all__ = ["along", "described"]


def described(
    values: Mapping[str, Any], variables: Mapping[str, Variable], coords: Mapping[str, Sequence]
) -> "xarray.Dataset":
    """The dataset of `values`, each as `variables` describes it.

    Raises:
        ValueError: if a value is not described, or a description has no value.
    """
    import xarray

    if odd := sorted(values.keys() ^ variables.keys()):
        raise ValueError(f"values and descriptions do not match: {', '.join(odd)}")
    return xarray.Dataset(
        {
            name: (one.dims, np.asarray(values[name]), {"long_name": one.long_name, "units": one.units})
            for name, one in variables.items()
        },
        coords={name: list(each) for name, each in coords.items()},
    )


def along(axes: Sequence[str], variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """The same quantities, measured at every place of `axes`."""
    return {name: replace(one, dims=(*axes, *one.dims)) for name, one in variables.items()}
