"""The exact population loss as a function of ravelled parameters: its curvatures, and the minimum that a point descends to."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from slt_jax.models.superposition import population_loss, to_params
from slt_jax.theory.superposition import Polygon
from slt_jax.typing import Array, Params

__all__ = ["curvatures", "descend", "hessian_of", "loss_of", "to_point", "unravel"]

DESCENT, MOMENTUM, DESCENT_STEPS = 0.1, 0.8, 600


def unravel(features: int, point: Array) -> Params:
    """The parameters of a point that `ravel_pytree` made: biases, then the two rows of the weights."""
    return {"biases": point[:features], "weights": point[features:].reshape(2, features)}


def to_point(phase: Polygon) -> Array:
    """A polygon, ravelled."""
    return ravel_pytree(to_params(phase))[0]


@partial(jax.jit, static_argnums=0)
def loss_of(features: int, point: Array) -> Array:
    """L at a ravelled point."""
    return population_loss(unravel(features, point))


@partial(jax.jit, static_argnums=1)
def curvatures(point: Array, features: int) -> Array:
    """Eigenvalues of the Hessian of L, ascending; at a kink, that of one of its sides."""
    return jnp.linalg.eigvalsh(hessian_of(point, features))


@partial(jax.jit, static_argnums=1)
def hessian_of(point: Array, features: int) -> Array:
    """The Hessian of L, `(parameter, parameter)`; at a kink, that of one of its sides."""
    return jax.hessian(partial(loss_of, features))(point)


@partial(jax.jit, static_argnums=1)
def descend(points: Array, features: int) -> Array:
    """Where descent with momentum (heavy ball) ends from each of `points`, `(point, parameter)`."""
    slope = jax.grad(partial(loss_of, features))

    def step(_: Array, state: tuple) -> tuple:
        place, velocity = state
        velocity = MOMENTUM * velocity - DESCENT * jax.vmap(slope)(place)
        return place + velocity, velocity

    return jax.lax.fori_loop(0, DESCENT_STEPS, step, (points, jnp.zeros_like(points)))[0]
