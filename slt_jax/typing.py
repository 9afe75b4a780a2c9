"""The roles everything else is written against, each stated once.

`LossFn` is the door through which every model enters the library: a flax module, an equinox model or a dict of
arrays all become `(params, batch) -> losses`, one loss per example.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax

__all__ = ["Array", "Batch", "LossFn", "Observable", "PRNGKey", "Params", "Scalar"]

Array: TypeAlias = jax.Array
PRNGKey: TypeAlias = jax.Array
Scalar: TypeAlias = int | float | jax.Array

Params: TypeAlias = Any
"""A pytree of floating-point arrays."""

Batch: TypeAlias = Any
"""A pytree of arrays that share their leading axis, one entry per example."""

LossFn: TypeAlias = Callable[[Params, Batch], Array]
"""`(params, batch) -> losses`, shape `(batch,)`, in nats where the loss is a negative log-likelihood.

One loss per example; the library takes the mean. Paired baselines, WAIC and influence functions need them apart.
"""

Observable: TypeAlias = Callable[[Params], Array]
"""`params -> array`: a quantity recorded along a chain, evaluated at the full parameter after the step.

An observable that needs data should be a `jax.tree_util.Partial` carrying it, so that new data does not recompile.
"""
