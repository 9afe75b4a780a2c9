"""Transition kernels of the local posterior: stochastic-gradient Langevin dynamics and the Nosé-Hoover thermostat.

Every kernel evaluates the loss *after* its move: `StepInfo.loss` belongs to `State.params`, the gradient found on the
way is kept for the next move, and a chain's first recorded value is never its starting point. The minibatch is fresh at
every evaluation, so the recorded loss is an unbiased estimate of L_n at the recorded parameter.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from blackjax.sgmcmc import diffusions
from jax.flatten_util import ravel_pytree

from slt_jax.posterior import LocalPosterior, draw_indices, minibatch_center_loss, minibatch_loss_and_gradient
from slt_jax.sampling.preconditioners import Metric, Preconditioner
from slt_jax.trees import squared_norm
from slt_jax.typing import Array, Params, PRNGKey, Scalar

__all__ = [
    "Integrator",
    "Kernel",
    "SGLDState",
    "SGNHTState",
    "StepInfo",
    "evaluate_minibatch",
    "log_density_gradient",
    "sgld",
    "sgnht",
    "standard_normal_vector",
]

NOISE_BLOCK = 16_384  # see `standard_normal_vector`


class StepInfo(NamedTuple):
    """What a step reports about the state it arrived at.

    Attributes:
        loss: mean minibatch loss at the new parameter, a scalar, in the units of the loss.
        center_loss: mean loss at w* on the same minibatch. Not computed unless it is used.
        grad_norm: Euclidean norm of the minibatch gradient of the loss at the new parameter.
    """

    loss: Array
    center_loss: Array
    grad_norm: Array


class Kernel(NamedTuple):
    """A transition kernel. Hashable, holds no data; equal settings compile once.

    Attributes:
        init: `(key, posterior) -> State`, at w*. `State.params` is the sampled (part of the) parameter.
        step: `(key, state, posterior, step_size, metric=None) -> (State, StepInfo)`.
        name: "sgld", "sgnht", ...; says which step size `calibrate` should propose.
        batch_size: examples per step; `None` means all of them.
    """

    init: Callable[[PRNGKey, LocalPosterior], Any]
    step: Callable[..., tuple[Any, StepInfo]]
    name: str
    batch_size: int | None


class SGLDState(NamedTuple):
    """State of `sgld`: the parameter and the minibatch gradient of the loss there; the preconditioner's moments and the
    standard normal noise of the last step, where they are used."""

    params: Params
    gradient: Params
    preconditioner: Any = None
    noise: Params | None = None


class SGNHTState(NamedTuple):
    """State of `sgnht`: parameter, momentum, and the thermostat's excess ξ - A over the injected friction."""

    params: Params
    momentum: Params
    thermostat: Array


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}; it must be at least 1, or None for the full data")


def evaluate_minibatch(
    key: PRNGKey, posterior: LocalPosterior, params: Params, batch_size: int | None
) -> tuple[Params, StepInfo]:
    """Minibatch gradient of the loss at `params`, and what to report there."""
    indices = draw_indices(key, posterior.n, batch_size)
    loss, gradient = minibatch_loss_and_gradient(posterior, params, indices)
    center_loss = minibatch_center_loss(posterior, indices)
    return gradient, StepInfo(loss, center_loss, jnp.sqrt(squared_norm(gradient)))


def log_density_gradient(posterior: LocalPosterior, params: Params, loss_gradient: Params) -> Params:
    """-∇U = -( nβ g + γ(w - w*) )."""
    return jax.tree.map(
        lambda g, w, center: -(posterior.nbeta * g + posterior.localization * (w - center)),
        loss_gradient,
        params,
        posterior.center,
    )


Integrator: TypeAlias = Literal["euler", "leimkuhler_matthews"]


@lru_cache
def sgld(
    batch_size: int | None, preconditioner: Preconditioner | None = None, integrator: Integrator = "euler"
) -> Kernel:
    """Stochastic-gradient Langevin dynamics, w ← w - ε/2·(nβ g + γ(w - w*)) + √ε·N, N ~ N(0, I) at each step.

    With a preconditioner or a metric, ε/2 and √ε are multiplied by G and G^{1/2}.

    Args:
        batch_size: examples per gradient, drawn uniformly with replacement; `None` uses all of them at every step.
        preconditioner: `rmsprop(...)` or `adam(...)`; `None` for the identity.
        integrator: "euler" is the step above, whose variances are too large by 1/(1 - εa/4) in a direction of curvature
            a = nβh + γ. "leimkuhler_matthews" replaces N by the mean of this step's and the last step's N: the same cost
            and the same stability limit εa < 4, but Gaussian variances are exact at any stable step and other averages are
            biased in second order of ε only. It needs a constant G.

    Raises:
        ValueError: if `batch_size` is below 1, or an adaptive preconditioner is given to "leimkuhler_matthews".

    Source: Welling & Teh 2011; Lau et al. 2023 (arXiv 2308.12108), eq. 14. Leimkuhler & Matthews 2013, "Rational
    construction of stochastic numerical methods for molecular sampling", eq. 2.
    """
    _check_batch_size(batch_size)
    if integrator not in ("euler", "leimkuhler_matthews"):
        raise ValueError(f"integrator = '{integrator}'; it must be 'euler' or 'leimkuhler_matthews'")
    averaged = integrator == "leimkuhler_matthews"
    if averaged and preconditioner is not None:
        raise ValueError("integrator 'leimkuhler_matthews' needs a constant metric; give no preconditioner, or 'euler'")
    return Kernel(
        partial(_init_sgld, batch_size, preconditioner, averaged),
        partial(_step_sgld, batch_size, preconditioner),
        "sgld" if preconditioner is None else "preconditioned_sgld",
        batch_size,
    )


def _init_sgld(
    batch_size: int | None,
    preconditioner: Preconditioner | None,
    averaged: bool,
    key: PRNGKey,
    posterior: LocalPosterior,
) -> SGLDState:
    batch_key, noise_key = jax.random.split(key)
    gradient, _ = evaluate_minibatch(batch_key, posterior, posterior.center, batch_size)
    moments = None if preconditioner is None else preconditioner.init(posterior.center)
    noise = _standard_normal(noise_key, posterior.center) if averaged else None
    return SGLDState(posterior.center, gradient, moments, noise)


def _step_sgld(
    batch_size: int | None,
    preconditioner: Preconditioner | None,
    key: PRNGKey,
    state: SGLDState,
    posterior: LocalPosterior,
    step_size: Scalar,
    metric: Metric | None = None,
) -> tuple[SGLDState, StepInfo]:
    noise_key, batch_key = jax.random.split(key)
    if preconditioner is None:
        drift, scale, moments = state.gradient, None, None
    else:
        drift, scale, moments = preconditioner.update(state.gradient, state.preconditioner)
    force = log_density_gradient(posterior, state.params, drift)
    noise = fresh = _standard_normal(noise_key, state.params)
    if state.noise is not None:
        noise = jax.tree.map(lambda last, now: (last + now) / 2, state.noise, fresh)
    params = _langevin_move(state.params, force, noise, step_size, scale, metric)
    gradient, info = evaluate_minibatch(batch_key, posterior, params, batch_size)
    return SGLDState(params, gradient, moments, None if state.noise is None else fresh), info


def _standard_normal(key: PRNGKey, like: Params) -> Params:
    """N(0, I) in the shape of `like`."""
    flat, unravel = ravel_pytree(like)
    # Behind a barrier, or XLA's CPU backend draws the whole vector again for every leaf that is cut out of it.
    return unravel(jax.lax.optimization_barrier(standard_normal_vector(key, flat)))


def standard_normal_vector(key: PRNGKey, like: Array) -> Array:
    """N(0, I) of the length and type of the vector `like`, drawn in blocks of at most `NOISE_BLOCK` numbers.

    Each block is blackjax's overdamped Langevin step h·force + √(2h)·N without force, h = ½. XLA's CPU backend spreads a
    long draw over its threads at every round of the generator, which costs more than it saves, and is several times
    slower yet at odd lengths (benchmarks/noise.py); so blocks are short and even. An accelerator draws the same numbers
    at once.
    """
    count = -(-like.size // NOISE_BLOCK)
    length = -(-like.size // count)
    zeros = jnp.zeros(length + length % 2, like.dtype)
    draw = partial(diffusions.overdamped_langevin(), position=zeros, logdensity_grad=zeros, step_size=0.5)
    if count == 1:
        return draw(key)[: like.size]
    keys = jax.random.split(key, count)
    blocks = jax.lax.map(draw, keys) if jax.default_backend() == "cpu" else jax.vmap(draw)(keys)
    return blocks.reshape(-1)[: like.size]


def _langevin_move(
    params: Params, force: Params, noise: Params, step_size: Scalar, scale: Params | None, metric: Metric | None
) -> Params:
    """w + h·G·force + √(2h)·G^{1/2}·noise, with blackjax's h = ε/2."""
    langevin_step = step_size / 2
    drift = jax.tree.map(lambda f: langevin_step * f, force)
    noise = jax.tree.map(lambda n: jnp.sqrt(2 * langevin_step) * n, noise)
    if metric is not None:
        if scale is not None:
            raise ValueError("give either a preconditioner or a metric, not both: their product is not a known law")
        return jax.tree.map(jnp.add, params, metric.step(drift, noise))
    if scale is not None:
        drift = jax.tree.map(jnp.multiply, scale, drift)
        noise = jax.tree.map(lambda s, n: jnp.sqrt(s) * n, scale, noise)
    return jax.tree.map(lambda w, d, n: w + d + n, params, drift, noise)


@lru_cache
def sgnht(batch_size: int | None, friction: float = 0.01) -> Kernel:
    """Stochastic-gradient Nosé-Hoover thermostat: momentum, and a friction that absorbs the noise of the gradient.

    `step_size` is the integrator's step h (w moves by h·momentum), of the order of √ε of SGLD; stable for
    h²·(nβ h_max + γ) < 4. The gradient is taken at the new position, which makes the integrator the symplectic Euler
    scheme instead of the explicit one (unstable without strong friction). Variances come out too small by a relative
    error of about `friction`. On minibatches, a direction whose force has noise of variance V beyond the directions' average
    comes out too hot by a share of about h²V/(2·friction), for the thermostat is one number: with friction 0.05 instead of
    0.01 and half the step the digits network's LLC went from 19% high to right (docs/results/digits).

    Args:
        batch_size: examples per gradient; `None` uses all of them.
        friction: share of the momentum that a step replaces by noise, A·h in the paper's symbols, in (0, 1).

    Source: Ding et al. 2014, "Bayesian sampling using stochastic gradient thermostats", algorithm 2.
    """
    _check_batch_size(batch_size)
    if not 0 < friction < 1:
        raise ValueError(f"friction = {friction}; it is the share of momentum replaced per step and must lie in (0, 1)")
    return Kernel(partial(_init_sgnht, batch_size), partial(_step_sgnht, batch_size, friction), "sgnht", batch_size)


def _init_sgnht(batch_size: int | None, key: PRNGKey, posterior: LocalPosterior) -> SGNHTState:
    del batch_size
    return SGNHTState(posterior.center, _standard_normal(key, posterior.center), jnp.zeros(()))


def _step_sgnht(
    batch_size: int | None,
    friction: float,
    key: PRNGKey,
    state: SGNHTState,
    posterior: LocalPosterior,
    step_size: Scalar,
    metric: Metric | None = None,
) -> tuple[SGNHTState, StepInfo]:
    noise_key, batch_key = jax.random.split(key)
    # In coordinates z = G^{-1/2}(w - w*) the dynamics has unit mass; only velocity and force are mapped back and forth.
    velocity = state.momentum if metric is None else metric.sqrt(state.momentum)
    params = jax.tree.map(lambda w, p: w + step_size * p, state.params, velocity)
    gradient, info = evaluate_minibatch(batch_key, posterior, params, batch_size)
    force = log_density_gradient(posterior, params, gradient)
    force = force if metric is None else metric.sqrt(force)
    alpha = friction / step_size
    diffusion = diffusions.sgnht(alpha=alpha, beta=0.0)
    _, momentum, thermostat = diffusion(
        noise_key, state.params, state.momentum, alpha + state.thermostat, force, step_size
    )
    return SGNHTState(params, momentum, thermostat - alpha), info
