"""Preconditioners: how far a step goes in each direction.

Two roles, because they are two different things:

* a `Preconditioner` adapts a diagonal to the gradients it sees (RMSProp-, Adam-SGLD; Hitchcock & Hoogland 2025), so it
  has a state and targets the posterior only as far as that state has settled;
* a `Metric` is a constant matrix, handed in as data, and leaves the target exactly unchanged.

Both act on a step the same way: w ← w - h·G∇U + √(2h)·G^{1/2}N with h = ε/2.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from slt_jax.typing import Array, Params

__all__ = ["Metric", "Preconditioner", "adam", "rmsprop"]


class Preconditioner(NamedTuple):
    """An adaptive diagonal metric. Hashable, holds no data; equal settings compile once.

    Attributes:
        init: `params -> state`.
        update: `(gradient, state) -> (drift, scale, state)`; `gradient` is that of the mean minibatch loss alone.
            `drift` replaces it in the step, `scale` is the diagonal of G, both pytrees like the parameters.
    """

    init: Callable[[Params], Any]
    update: Callable[[Params, Any], tuple[Params, Params, Any]]


class MomentState(NamedTuple):
    """Running moments of the loss gradient; `updates` is their number t."""

    updates: Array
    first: Params | None
    second: Params


@lru_cache
def rmsprop(decay: float = 0.99, stabilizer: float = 0.1) -> Preconditioner:
    """RMSProp-SGLD: v ← b₂v + (1-b₂)g², v₀ = 1, v̂ = v/(1-b₂ᵗ), scale 1/(√v̂ + a).

    Args:
        decay: b₂, in [0, 1).
        stabilizer: a, positive.

    Source: Hitchcock & Hoogland 2025 (arXiv 2507.21449), after Li et al. 2016 (arXiv 1512.07666).
    """
    _check_decay("decay", decay)
    _check_stabilizer(stabilizer)
    return Preconditioner(partial(_init_moments, momentum=False), partial(_update_moments, None, decay, stabilizer))


@lru_cache
def adam(first_decay: float = 0.9, second_decay: float = 0.99, stabilizer: float = 0.1) -> Preconditioner:
    """Adam-SGLD: the scale of `rmsprop`, and the bias-corrected mean m̂ of the gradient in place of g in the drift.

    Args:
        first_decay: b₁, in [0, 1).
        second_decay: b₂, in [0, 1).
        stabilizer: a, positive.

    Source: Hitchcock & Hoogland 2025 (arXiv 2507.21449).
    """
    _check_decay("first_decay", first_decay)
    _check_decay("second_decay", second_decay)
    _check_stabilizer(stabilizer)
    return Preconditioner(
        partial(_init_moments, momentum=True), partial(_update_moments, first_decay, second_decay, stabilizer)
    )


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} = {value}; it must lie in [0, 1)")


def _check_stabilizer(value: float) -> None:
    if not value > 0:
        raise ValueError(f"stabilizer = {value}; it must be positive, or directions without gradient have no step size")


def _init_moments(params: Params, *, momentum: bool) -> MomentState:
    # v starts at 1, not 0: the first steps are small instead of unbounded in directions whose first gradient is tiny.
    first = jax.tree.map(jnp.zeros_like, params) if momentum else None
    return MomentState(jnp.zeros((), jnp.int32), first, jax.tree.map(jnp.ones_like, params))


def _update_moments(
    first_decay: float | None, second_decay: float, stabilizer: float, gradient: Params, state: MomentState
) -> tuple[Params, Params, MomentState]:
    count = state.updates + 1
    second = jax.tree.map(lambda v, g: second_decay * v + (1 - second_decay) * g**2, state.second, gradient)
    correction = 1 - second_decay ** count.astype(jnp.float32)
    scale = jax.tree.map(lambda v: 1 / (jnp.sqrt(v / correction) + stabilizer), second)
    if first_decay is None:
        return gradient, scale, MomentState(count, None, second)
    first = jax.tree.map(lambda m, g: first_decay * m + (1 - first_decay) * g, state.first, gradient)
    drift = jax.tree.map(lambda m: m / (1 - first_decay ** count.astype(jnp.float32)), first)
    return drift, scale, MomentState(count, first, second)


class Metric(NamedTuple):
    """A constant matrix G, low-rank plus identity on the ravelled parameters; a pytree, passed in as data.

        G = U diag(s) Uᵀ + r (I - UUᵀ)

    Attributes:
        directions: U with orthonormal columns, shape `(parameters, rank)`.
        scales: s, the eigenvalues of G along those columns, shape `(rank,)`.
        rest: r, the eigenvalue of G in every other direction, a scalar.
    """

    directions: Array
    scales: Array
    rest: Array

    def step(self, gradient: Params, noise: Params) -> Params:
        """G·gradient + G^{1/2}·noise as a pytree like both; U is read twice, not four times."""
        flat_gradient, unravel = ravel_pytree(gradient)
        flat_noise, _ = ravel_pytree(noise)
        coefficients = jnp.stack([flat_gradient, flat_noise]) @ self.directions
        along = (self.scales - self.rest) * coefficients[0]
        along += (jnp.sqrt(self.scales) - jnp.sqrt(self.rest)) * coefficients[1]
        return unravel(self.rest * flat_gradient + jnp.sqrt(self.rest) * flat_noise + self.directions @ along)

    def sqrt(self, vector: Params) -> Params:
        """G^{1/2}·vector, a pytree like `vector`."""
        flat, unravel = ravel_pytree(vector)
        along = (jnp.sqrt(self.scales) - jnp.sqrt(self.rest)) * (flat @ self.directions)
        return unravel(jnp.sqrt(self.rest) * flat + self.directions @ along)
