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

One compilation serves every checkpoint as long as `loss_fn` is the same function: define it once, and let parameters and data
come in as arguments. What compiles again, seconds and tens of megabytes each time:

* a function made anew in the loop: a lambda, a nested `def`, a new `functools.partial`, a method of a new object (two of
  them are different functions, though they read alike). A frozen dataclass with `__call__`, or a module of flax linen,
  whose settings are equal is the same function;
* arrays or numbers that change and are closed over: put them into `data` or `params`;
* other shapes or types of parameters or data, and another kernel, `chunk_size` or observable.

`sample` warns once (`slt_jax.sampling.recompilation.RecompilationWarning`) when a third function of one definition arrives that is bound to
no other numbers, strings or tuples of them: those are settings of another model, which has to be compiled.
"""

Observable: TypeAlias = Callable[[Params], Array]
"""`params -> array`: a quantity recorded along a chain, evaluated at the full parameter after the step.

An observable that needs data should be a `jax.tree_util.Partial` carrying it, so that new data does not recompile.
"""
