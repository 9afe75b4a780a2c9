"""Kinetic Langevin dynamics that keeps its momentum where the loss is flat and loses it where the loss is stiff.

Through flat directions SGLD diffuses: n steps carry it √n step lengths. Momentum carries it further, but minibatch noise,
which acts along stiff directions, then heats those by the same factor. A constant metric tells the two apart, so the
friction here is a matrix with the metric's eigenvectors: complete along `Metric.directions`, weak in the rest.

The integrator is BAOAB: one gradient a step, and exact position variances on a Gaussian at every stable step size. With
complete friction everywhere it is the Leimkuhler-Matthews scheme of `sgld` with ε = h².

Source: Leimkuhler & Matthews 2013, "Rational construction of stochastic numerical methods for molecular sampling".
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.kernels import Kernel, StepInfo, evaluate_minibatch, log_density_gradient, standard_normal_vector
from slt_jax.sampling.preconditioners import Metric
from slt_jax.typing import Array, Params, PRNGKey, Scalar

__all__ = ["UnderdampedState", "underdamped"]


class UnderdampedState(NamedTuple):
    """Parameter, momentum in the coordinates G^{-1/2}(w - w*), ravelled, and the minibatch gradient of the loss.

    The momentum lacks the last kick, which the next step makes together with its own.
    """

    params: Params
    momentum: Array
    gradient: Params


@lru_cache
def underdamped(batch_size: int | None, persistence: float = 0.95) -> Kernel:
    """Kinetic Langevin dynamics; `step_size` is the integrator's step h, of the order of √ε of SGLD.

    Stable where h²·a < 4, a the curvature nβh + γ in the metric's units; with `curvature_metric` and h² ≤ 0.5 that holds
    with room to spare, also once the chain has wandered to where former flat directions are stiff.

    Args:
        batch_size: examples per gradient, drawn with replacement; `None` uses all of them.
        persistence: share of the momentum that survives a step in flat directions (in all of them without a metric), in
            [0, 1). Diffusion there is (1 + persistence)/(1 - persistence) times that of SGLD with ε = h².

    Raises:
        ValueError: if `batch_size` is below 1 or `persistence` outside [0, 1).
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}; it must be at least 1, or None for the full data")
    if not 0 <= persistence < 1:
        raise ValueError(f"persistence = {persistence}; it is the share of momentum kept per step, in [0, 1)")
    return Kernel(partial(_init, batch_size), partial(_step, batch_size, persistence), "underdamped", batch_size)


def _init(batch_size: int | None, key: PRNGKey, posterior: LocalPosterior) -> UnderdampedState:
    gradient, _ = evaluate_minibatch(key, posterior, posterior.center, batch_size)
    at_rest = jnp.zeros_like(ravel_pytree(posterior.center)[0])
    return UnderdampedState(posterior.center, at_rest, gradient)


def _step(
    batch_size: int | None,
    persistence: float,
    key: PRNGKey,
    state: UnderdampedState,
    posterior: LocalPosterior,
    step_size: Scalar,
    metric: Metric | None = None,
) -> tuple[UnderdampedState, StepInfo]:
    noise_key, batch_key = jax.random.split(key)
    force = log_density_gradient(posterior, state.params, state.gradient)
    flat_force, unravel = ravel_pytree(force)
    noise = standard_normal_vector(noise_key, flat_force)
    momentum, travel = _kick_and_drift(state.momentum, flat_force, noise, step_size, persistence, metric)
    params = jax.tree.map(jnp.add, state.params, unravel(travel))
    gradient, info = evaluate_minibatch(batch_key, posterior, params, batch_size)
    return UnderdampedState(params, momentum, gradient), info


def _kick_and_drift(
    momentum: Array, force: Array, noise: Array, step_size: Scalar, persistence: float, metric: Metric | None
) -> tuple[Array, Array]:
    """The momentum p' after a kick and a refreshment, and the way h·G^{1/2}(p + p')/2 made before and after the latter.

        p = momentum + h·G^{1/2}·force,    p' = C·p + √(1 - C²)·noise

    With C = 0 along the metric's directions U and `persistence` in the rest. U is read twice.
    """
    fresh = (1 - persistence**2) ** 0.5
    if metric is None:
        kicked = momentum + step_size * force
        refreshed = persistence * kicked + fresh * noise
        return refreshed, step_size / 2 * (kicked + refreshed)
    rest, along = jnp.sqrt(metric.rest), jnp.sqrt(metric.scales)
    momentum_u, force_u, noise_u = jnp.stack([momentum, force, noise]) @ metric.directions
    kick_u = step_size * (along - rest) * force_u  # what U adds to rest·force
    kicked_u = momentum_u + step_size * along * force_u
    refresh_u = persistence * (kick_u - kicked_u) + (1 - fresh) * noise_u
    travel_u = rest * (kick_u + refresh_u) + (along - rest) * (kicked_u + noise_u)
    refresh_extra, travel_extra = jnp.stack([refresh_u, travel_u]) @ metric.directions.T
    kicked = momentum + step_size * rest * force
    refreshed = persistence * kicked + fresh * noise
    travel = step_size / 2 * (rest * (kicked + refreshed) + travel_extra)
    return refreshed + refresh_extra, travel
