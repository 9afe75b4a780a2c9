"""Second-order geometry at a parameter: Hessian trace and top eigenvalues, Fisher trace, effective dimension.

Everything works through products with the Hessian of the mean loss, never the matrix; loss functions come in through the one
door `LossFn`, and data and parameters are arguments, so that all checkpoints of a model share one compilation.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Key

from slt_jax.linalg import hessian_matvec, hessian_vector_product, top_eigenpairs
from slt_jax.trees import leading_axis, num_parameters
from slt_jax.typing import Array, Batch, LossFn, Params, Scalar

__all__ = [
    "EffectiveDimension",
    "TraceEstimate",
    "effective_dimension",
    "fisher_trace",
    "gaussian_effective_dimension",
    "hessian_spectrum",
    "hessian_trace",
]


class TraceEstimate(NamedTuple):
    """A trace and the standard error of its estimate, in the units of the loss per squared parameter.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.estimators.curvature import fisher_trace
        >>> found = fisher_trace(lambda w, x: 0.5 * (w - x) ** 2, jnp.zeros(()), jnp.array([-1.0, 1.0]))
        >>> float(found.mean), float(found.std_error)
        (1.0, 0.0)
    """

    mean: Array
    std_error: Array


class EffectiveDimension(NamedTuple):
    """½ Σ aᵢ/(aᵢ + γ) over the spectrum a of nβ∇²L.

    Attributes:
        lower: the sum over the leading eigenvalues that were computed.
        upper: `lower` plus ½ Σ aᵢ/γ over the rest, from the trace: close when the rest lies well below γ.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.estimators.curvature import effective_dimension
        >>> found = effective_dimension(jnp.ones(2), 2.0, nbeta=99.0, localization=1.0)
        >>> round(found.lower, 3), round(found.upper, 3)  # two stiff directions: nearly 2/2
        (0.99, 0.99)
    """

    lower: float
    upper: float


@partial(jax.jit, static_argnames=("loss_fn", "num_probes", "chunk_size"))
def hessian_trace(
    key: Key[Array, ""],
    loss_fn: LossFn,
    params: Params,
    data: Batch,
    *,
    num_probes: int = 32,
    chunk_size: int | None = None,
) -> TraceEstimate:
    """tr ∇²L(w) of the mean loss over `data` by Hutchinson's estimator, E[zᵀHz] with random signs z.

    Args:
        key: typed PRNG key.
        loss_fn: `(params, batch) -> losses`, one per example.
        params: w.
        data: pytree of arrays with leading axis n.
        num_probes: Hessian-vector products; the standard error is their spread over √num_probes.
        chunk_size: examples per pass.

    Raises:
        ValueError: if `num_probes` is below 2, where there is no spread to measure.

    Source: Hutchinson 1990; signs have the least variance of all independent probes with unit variance.

    Example:
        >>> import jax
        >>> from slt_jax.estimators.curvature import hessian_trace
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([3.0, 1.0])
        >>> float(hessian_trace(jax.random.key(0), model.loss_fn, model.center, model.data).mean)
        4.0
    """
    if num_probes < 2:
        raise ValueError(f"num_probes = {num_probes}; the standard error needs at least 2")
    flat, unravel = ravel_pytree(params)

    def quadratic_form(probe_key: Array) -> Array:
        signs = jax.random.rademacher(probe_key, flat.shape, flat.dtype)
        product = hessian_vector_product(loss_fn, params, data, unravel(signs), chunk_size=chunk_size)
        return jnp.vdot(signs, ravel_pytree(product)[0])

    return _mean_and_error(jax.lax.map(quadratic_form, jax.random.split(key, num_probes)))


@partial(jax.jit, static_argnames=("loss_fn", "chunk_size"))
def fisher_trace(loss_fn: LossFn, params: Params, data: Batch, *, chunk_size: int = 64) -> TraceEstimate:
    """Trace of the Fisher information, the mean over examples of |∇ℓᵢ(w)|².

    With data as observed this is the empirical Fisher information; with labels drawn from the model at w and a loss that is a
    negative log-likelihood, the Fisher information itself. The standard error is that of the mean over the examples.

    Args:
        loss_fn: `(params, batch) -> losses`, one per example.
        params: w.
        data: pytree of arrays with leading axis n ≥ 2.
        chunk_size: examples whose gradients are held at once, n_chunk x parameters.

    Raises:
        ValueError: if there are fewer than 2 examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.estimators.curvature import fisher_trace
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2  # gradients -x_i at w = 0
        >>> float(fisher_trace(loss_fn, jnp.zeros(()), jnp.array([-2.0, 0.0, 2.0, 0.0])).mean)
        2.0
    """
    if leading_axis(data) < 2:
        raise ValueError("data has 1 example; the standard error of the Fisher trace needs at least 2")

    def squared_gradient(example: Batch) -> Array:
        single = jax.tree.map(lambda leaf: leaf[None], example)
        gradient = jax.grad(lambda w: loss_fn(w, single)[0])(params)
        flat = ravel_pytree(gradient)[0]
        return jnp.vdot(flat, flat)

    return _mean_and_error(jax.lax.map(squared_gradient, data, batch_size=min(chunk_size, leading_axis(data))))


def _mean_and_error(values: Array) -> TraceEstimate:
    return TraceEstimate(values.mean(), values.std(ddof=1) / values.size**0.5)


@partial(jax.jit, static_argnames=("loss_fn", "rank", "num_matvecs", "chunk_size"))
def hessian_spectrum(
    key: Key[Array, ""],
    loss_fn: LossFn,
    params: Params,
    data: Batch,
    *,
    rank: int,
    num_matvecs: int | None = None,
    chunk_size: int | None = None,
) -> Float[Array, " rank"]:
    """The `rank` largest eigenvalues of ∇²L(w), largest first, shape `(rank,)`; see `linalg.top_eigenpairs` for their accuracy.

    Args:
        key: typed PRNG key of the first block of vectors.
        loss_fn, params, data, chunk_size: as in `hessian_trace`.
        rank: number of eigenvalues.
        num_matvecs: Hessian-vector products to spend, default 2·rank + 32.

    Raises:
        ValueError: if `rank` is not between 1 and the number of parameters.

    Example:
        >>> import jax
        >>> from slt_jax.estimators.curvature import hessian_spectrum
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([3.0, 1.0, 0.0])
        >>> values = hessian_spectrum(jax.random.key(0), model.loss_fn, model.center, model.data, rank=2)
        >>> [round(float(value), 3) for value in values]
        [3.0, 1.0]
    """
    matvec = hessian_matvec(loss_fn, params, data, chunk_size=chunk_size)
    return top_eigenpairs(key, matvec, num_parameters(params), rank, num_matvecs=num_matvecs).values


def gaussian_effective_dimension(
    eigenvalues: Float[Array | np.ndarray, " rank"], nbeta: Scalar, localization: Scalar
) -> Float[Array, ""]:
    """½ Σ aᵢ/(aᵢ + γ), a = nβ times `eigenvalues`: the LLC that SGLD's target has if the loss is exactly quadratic.

    Negative eigenvalues, which no minimum has, count as zero.

    Args:
        eigenvalues: of ∇²L at w*.
        nbeta: nβ.
        localization: γ > 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.estimators.curvature import gaussian_effective_dimension
        >>> round(float(gaussian_effective_dimension(jnp.array([1.0, 1.0, 0.0]), nbeta=99.0, localization=1.0)), 3)
        0.99
    """
    curvature = nbeta * jnp.clip(jnp.asarray(eigenvalues), 0)
    return 0.5 * jnp.sum(curvature / (curvature + localization))


def effective_dimension(
    eigenvalues: Float[Array | np.ndarray, " rank"],
    trace: Scalar,
    *,
    nbeta: float,
    localization: float,
) -> EffectiveDimension:
    """The Gaussian companion of the LLC from the leading eigenvalues and the trace of ∇²L(w*).

    What the LLC has beyond it only the higher orders of the loss explain.

    Args:
        eigenvalues: leading eigenvalues of ∇²L (`hessian_spectrum`).
        trace: tr ∇²L (`hessian_trace`); what the leading eigenvalues leave of it bounds the rest.
        nbeta: nβ.
        localization: γ.

    Raises:
        ValueError: if `localization` is not positive: the sum would only count the rank.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.estimators.curvature import effective_dimension
        >>> found = effective_dimension(jnp.array([2.0]), 2.01, nbeta=100.0, localization=1.0)  # the rest has 0.01
        >>> round(found.lower, 3), round(found.upper, 3)
        (0.498, 0.998)
    """
    if localization <= 0:
        raise ValueError(f"localization = {localization}; the effective dimension needs it positive")
    lower = float(gaussian_effective_dimension(eigenvalues, nbeta, localization))
    rest = max(0.0, float(trace) - float(jnp.sum(jnp.asarray(eigenvalues))))
    return EffectiveDimension(lower, lower + 0.5 * nbeta * rest / localization)
