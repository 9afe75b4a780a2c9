"""Short pilot chains: what the curvature at w* does not say.

At a w* whose Hessian vanishes the stiff places are elsewhere: on w₁²w₂² a chain far out on one axis sees nβ·2w² along the
other. So the stiffest curvature is looked up where the posterior lives: along pilot chains, whose own step comes from draws
of the prior, where everything is at least as stiff. On a quadratic this agrees with the curvature at w*.

An adaptive preconditioner settles at a scale that depends on the gradients it meets, and those on the step: a pilot of the
kernel itself finds it, from the step that is safe for the largest scale there can be.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from slt_jax.backend import full_precision
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.chains import init_chain, run
from slt_jax.sampling.driver import sample
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.sgld import AVERAGED_FRACTION, SGLD, sgld
from slt_jax.typing import Array, Params, PRNGKey, Scalar

__all__ = ["Neighbourhood", "find_neighbourhood", "pilot_ends", "settled_scale", "stiffest_curvature", "with_center"]

DRAWS = 10  # places looked at per pilot chain
LARGEST_DROP = 10.0  # by which a round may lower the stiffest curvature
SCALE_CHAINS, SCALE_ROUNDS, LARGEST_GAIN, LONGEST_PILOT = 4, 3, 30.0, 4000


class Neighbourhood(NamedTuple):
    """Where the posterior lives.

    Attributes:
        places: w* and draws of pilot chains, a tree like w* with leading axis `place`.
        stiffest: the stiffest curvature of nβL + γ/2|w - w*|² there, in the units of the metric it was looked up with.
    """

    places: Params
    stiffest: float


@full_precision()
def find_neighbourhood(
    key: PRNGKey,
    posterior: LocalPosterior,
    *,
    batch_size: int | None,
    metric: Metric | None = None,
    num_chains: int = 32,
    num_steps: int = 2000,
    rounds: int = 3,
) -> Neighbourhood:
    """Find the stiffest curvature of the posterior's neighbourhood in `rounds` of short chains.

    Args:
        key: typed PRNG key.
        posterior: what will be sampled.
        batch_size: examples per gradient of the pilot chains.
        metric: in whose units the curvature is given.
        num_chains, num_steps, rounds: of the pilot.

    Raises:
        ValueError: if γ = 0, for then the prior has no draws; if the pilot chains diverge.
    """
    if not float(posterior.localization) > 0:
        raise ValueError("localization = 0; the pilot starts from draws of the prior and needs localization > 0")
    draw_key, curvature_key, chain_key = jax.random.split(key, 3)
    center = ravel_pytree(posterior.center)[0]
    width = posterior.localization**-0.5
    draws = center[None] + width * jax.random.normal(draw_key, (num_chains, center.size), center.dtype)
    places = with_center(posterior, draws)
    stiffest = stiffest_curvature(curvature_key, posterior, places)
    for number in range(rounds):
        samples = sample(
            jax.random.fold_in(chain_key, number), posterior, sgld(batch_size, integrator="leimkuhler_matthews"),
            step_size=AVERAGED_FRACTION / stiffest, num_chains=num_chains, num_draws=DRAWS,
            thinning=-(-num_steps // DRAWS), baseline=0.0, observables={"w": _ravel}, layout="vmap", inspection=False,
        )  # fmt: skip
        places = with_center(posterior, jnp.asarray(samples.observables["w"]).reshape(-1, center.size))
        # A chain that has hardly left w* sees little of what is stiff: believe it only so far.
        seen = stiffest_curvature(curvature_key, posterior, places)
        if not math.isfinite(seen):
            raise ValueError(
                f"pilot chains diverged at step_size {AVERAGED_FRACTION / stiffest:g}; raise localization or num_chains"
            )
        stiffest = max(seen, stiffest / LARGEST_DROP)
    if metric is not None:
        stiffest = stiffest_curvature(curvature_key, posterior, places, metric)
    return Neighbourhood(places, stiffest)


def _ravel(params: Params) -> Array:
    return ravel_pytree(params)[0]


def with_center(posterior: LocalPosterior, others: Array) -> Params:
    """w* and the ravelled `others`, `(place, parameters)`, as one tree with leading axis `place`."""
    center, unravel = ravel_pytree(posterior.center)
    return jax.vmap(unravel)(jnp.concatenate([center[None], others]))


@full_precision()
def stiffest_curvature(key: PRNGKey, posterior: LocalPosterior, places: Params, metric: Metric | None = None) -> float:
    """The largest curvature of nβL + γ/2|w - w*|² at any of `places`, in the units of `metric`, from all the data."""
    return float(jnp.max(_curvatures(key, posterior, places, metric)))


@partial(jax.jit, static_argnames="num_iterations")
def _curvatures(
    key: PRNGKey, posterior: LocalPosterior, places: Params, metric: Metric | None, num_iterations: int = 30
) -> Array:
    """Top eigenvalue (in modulus) of G^½(nβ∇²L + γ)G^½ at each place, by power iteration, shape `(place,)`."""
    flat, unravel = ravel_pytree(posterior.center)

    def mean_loss(params: Params) -> Array:
        return jnp.mean(posterior.losses(params, posterior.data))

    def scaled(vector: Array) -> Array:
        return vector if metric is None else metric.sqrt(vector)

    def top(place: Params) -> Array:
        def product(vector: Array) -> Array:
            direction = scaled(vector)
            hessian = jax.jvp(jax.grad(mean_loss), (place,), (unravel(direction),))[1]
            return scaled(posterior.nbeta * ravel_pytree(hessian)[0] + posterior.localization * direction)

        def iterate(_: Array, vector: Array) -> Array:
            image = product(vector)
            return image / jnp.linalg.norm(image)

        start = jax.random.normal(key, flat.shape, flat.dtype)
        vector = jax.lax.fori_loop(0, num_iterations, iterate, start / jnp.linalg.norm(start))
        return jnp.abs(jnp.vdot(vector, product(vector)))

    return jax.lax.map(top, places)


def settled_scale(
    key: PRNGKey, posterior: LocalPosterior, kernel: SGLD, stiffest: float, measure: Callable[[Params], float]
) -> tuple[Params, float]:
    """The scale that the kernel's preconditioner settles at, and the stiffest curvature in its units.

    Args:
        key: typed PRNG key.
        posterior: what will be sampled.
        kernel: SGLD with a preconditioner.
        stiffest: the stiffest curvature without a matrix.
        measure: `scale -> stiffest curvature in its units`.
    """
    assert kernel.preconditioner is not None
    steps = min(LONGEST_PILOT, math.ceil(10 * kernel.preconditioner.memory))
    step_size = kernel.step_for(stiffest)
    for number in range(SCALE_ROUNDS):
        keys = jax.random.split(jax.random.fold_in(key, number), SCALE_CHAINS)
        ends = pilot_ends(keys, posterior, None, step_size, steps, kernel=kernel)
        scale = jax.tree.map(lambda leaf: leaf.mean(axis=0), jax.vmap(kernel.diagonal)(ends))
        scaled = measure(scale)
        step_size = min(kernel.step_fraction / scaled, LARGEST_GAIN * step_size)
    return scale, scaled


@partial(jax.jit, static_argnames="kernel")
def pilot_ends(
    keys: Array,
    posterior: LocalPosterior,
    metric: Metric | None,
    step_size: Scalar,
    num_steps: int | Array,
    *,
    kernel: Kernel,
) -> Any:
    """The states of `kernel` after `num_steps` from w*, one for every key, leading axis `chain`."""

    def end(key: PRNGKey) -> Any:
        chain = init_chain(key, posterior, kernel)
        walked, _ = run(
            chain, posterior, kernel, step_size=step_size, num_draws=1, thinning=num_steps, metric=metric,
            record_center_loss=False,
        )  # fmt: skip
        return walked.kernel_state

    return jax.lax.map(end, keys)
