"""The samplers that are compared, and one rule that gives each its step size on every model.

`calibrate` looks at the curvature at w*. At w* = 0 of a singular model that curvature vanishes, and the stiff places are
elsewhere: on w₁²w₂² a chain far out on one axis sees nβ·2w² along the other. So the rule here is the same c/(stiffest
curvature), with the curvature looked up where the posterior lives: along short pilot chains, whose own step comes from
draws of the prior, where everything is at least as stiff. On a quadratic the two rules agree.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from experiments.run_folder import RunFolder
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.calibration import STEP_FRACTION, THERMOSTAT_FRACTION
from slt_jax.sampling.curvature_metric import curvature_metric
from slt_jax.sampling.driver import sample
from slt_jax.sampling.kernels import Kernel, sgld, sgnht
from slt_jax.sampling.preconditioners import Metric, adam, rmsprop
from slt_jax.typing import Array, Params, PRNGKey

__all__ = ["Pilot", "Sampler", "Tuned", "pilot", "samplers", "slug", "stored_pilot", "tune"]

STABILIZER = 0.1
MOMENTUM = 0.9
DRAWS = 10  # places looked at per pilot chain
LARGEST_DROP = 10.0  # by which a round may lower the stiffest curvature


class Sampler(NamedTuple):
    """A kernel and how far it may go.

    Attributes:
        name: as shown in tables.
        kernel: what moves.
        fraction: the share c of 1/(stiffest curvature) that a step is, after the kernel's own largest scale is divided
            out; for SGNHT the square of its step.
        with_metric: whether a `curvature_metric` is handed in.
        patience: how many times as many steps as the others it is given, where its own are that much shorter.
    """

    name: str
    kernel: Kernel
    fraction: float
    with_metric: bool = False
    patience: int = 1


def samplers(batch_size: int | None) -> list[Sampler]:
    """Every sampler of the library, with gradients of `batch_size` examples.

    An adaptive scale is at most 1/stabilizer, and Adam's averaged gradient lags 1/(1 - b₁) steps behind; their steps are
    shorter by these factors, which keeps them as stable as SGLD wherever they go. SGNHT's one thermostat cannot absorb noise
    that differs between directions: on minibatches its friction is stronger and its step half as long, against heating.
    """
    average = partial(sgld, batch_size, integrator="leimkuhler_matthews")
    adaptive = STEP_FRACTION * STABILIZER
    thermostat, its_fraction = sgnht(batch_size), THERMOSTAT_FRACTION
    if batch_size is not None:
        thermostat, its_fraction = sgnht(batch_size, friction=0.05), THERMOSTAT_FRACTION / 4
    return [
        Sampler("SGLD, Euler", sgld(batch_size), STEP_FRACTION),
        Sampler("SGLD, Leimkuhler-Matthews", average(), STEP_FRACTION),
        Sampler("RMSProp-SGLD", sgld(batch_size, rmsprop(stabilizer=STABILIZER)), adaptive),
        Sampler("Adam-SGLD", sgld(batch_size, adam(MOMENTUM, stabilizer=STABILIZER)), adaptive * (1 - MOMENTUM)),
        Sampler("SGNHT", thermostat, its_fraction),
        Sampler("metric SGLD", average(), STEP_FRACTION, with_metric=True),
    ]


class Pilot(NamedTuple):
    """Where the posterior lives: w* and places along pilot chains, leading axis `place`, and the stiffest curvature there,
    γ included."""

    places: Params
    stiffest: float


class Tuned(NamedTuple):
    """What goes into `sample` for one sampler on one posterior."""

    step_size: float
    metric: Metric | None


def pilot(
    key: PRNGKey,
    posterior: LocalPosterior,
    *,
    batch_size: int | None,
    num_chains: int = 32,
    num_steps: int = 2000,
    rounds: int = 3,
) -> Pilot:
    """Find the stiffest curvature of the posterior's neighbourhood in `rounds` of short chains.

    Raises:
        ValueError: if γ = 0, for then the prior has no draws; if the pilot chains diverge.
    """
    if not float(posterior.localization) > 0:
        raise ValueError("localization = 0; the pilot starts from draws of the prior and needs localization > 0")
    draw_key, curvature_key, chain_key = jax.random.split(key, 3)
    center = ravel_pytree(posterior.center)[0]
    width = posterior.localization**-0.5
    draws = center[None] + width * jax.random.normal(draw_key, (num_chains, center.size))
    places = _with_center(posterior, draws)
    stiffest = _stiffest(curvature_key, posterior, places)
    for number in range(rounds):
        samples = sample(
            jax.random.fold_in(chain_key, number), posterior, sgld(batch_size, integrator="leimkuhler_matthews"),
            step_size=STEP_FRACTION / stiffest, num_chains=num_chains, num_draws=DRAWS, thinning=-(-num_steps // DRAWS),
            baseline=0.0, observables={"w": _ravel}, layout="vmap",
        )  # fmt: skip
        places = _with_center(posterior, jnp.asarray(samples.observables["w"]).reshape(-1, center.size))
        # A chain that has hardly left w* sees little of what is stiff: believe it only so far.
        seen = _stiffest(curvature_key, posterior, places)
        if not math.isfinite(seen):
            raise ValueError(
                f"pilot chains diverged at step_size {STEP_FRACTION / stiffest:g}; raise localization or num_chains"
            )
        stiffest = max(seen, stiffest / LARGEST_DROP)
    return Pilot(places, stiffest)


def _ravel(params: Params) -> Array:
    return ravel_pytree(params)[0]


def _with_center(posterior: LocalPosterior, others: Array) -> Params:
    """w* and the ravelled `others`, `(place, parameters)`, as one tree with leading axis `place`."""
    center, unravel = ravel_pytree(posterior.center)
    return jax.vmap(unravel)(jnp.concatenate([center[None], others]))


def slug(sampler: Sampler) -> str:
    """The sampler's name as a file name."""
    return sampler.name.lower().replace(",", "").replace(" ", "-")


def stored_pilot(folder: RunFolder, name: str, key: PRNGKey, posterior: LocalPosterior, **options: Any) -> Pilot:
    """`pilot`, or what it found earlier in this run."""
    unravel = ravel_pytree(posterior.center)[1]

    def compute() -> dict[str, Any]:
        found = pilot(key, posterior, **options)
        return {"places": jax.vmap(_ravel)(found.places), "stiffest": found.stiffest}

    stored = folder.piece(name, compute)
    return Pilot(jax.vmap(unravel)(jnp.asarray(stored["places"])), float(stored["stiffest"]))


def tune(key: PRNGKey, posterior: LocalPosterior, found: Pilot, sampler: Sampler) -> Tuned:
    """Step size, and metric if there is one, of `sampler`: one rule for all models."""
    if not sampler.with_metric:
        squared = sampler.fraction / found.stiffest
        return Tuned(squared**0.5 if sampler.kernel.name == "sgnht" else squared, None)
    metric_key, curvature_key = jax.random.split(key)
    metric = curvature_metric(metric_key, posterior)
    return Tuned(sampler.fraction / _stiffest(curvature_key, posterior, found.places, metric), metric)


def _stiffest(key: PRNGKey, posterior: LocalPosterior, places: Params, metric: Metric | None = None) -> float:
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
