"""A step size with a reason, from the curvature at w*, and a burn-in from the slowest direction's relaxation time.

SGLD on a quadratic with curvature a = nβh + γ overestimates by the factor 1/(1 - εa/4) and is unstable at εa ≥ 4
(`theory.quadratic_sgld_llc`). So ε = c/(nβ h_max + γ), whatever the model, n or nβ; every kernel says its own c and what a
step is in its meaning (`Kernel.step_for`). Three things are not read off the curvature at w* and are looked up by short
pilot chains or at the gradients: the scale that an adaptive preconditioner settles at; the curvature around a w* at which
the Hessian vanishes; and the heat of minibatch noise, which shortens the step until it adds less than a twentieth.
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from slt_jax.arguments import check_key
from slt_jax.linalg import hessian_vector_product
from slt_jax.posterior import LocalPosterior, check_posterior
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.checks import check_on_host
from slt_jax.sampling.inspection import HEATING_LIMIT, Inspection, Look, look
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.pilot import find_neighbourhood, settled_scale
from slt_jax.sampling.sgld import SGLD, sgld
from slt_jax.typing import Array, Params, PRNGKey

__all__ = ["Calibration", "calibrate", "top_curvature"]

FLATTEST = 1e-3  # with γ = 0 nothing bounds the relaxation time; then directions down to this share of a_max set it
SILENT = 1.0  # a top curvature below this many γ says nothing about the neighbourhood
LOOK, PILOT, SCALE, STIFFEST = range(1, 5)  # streams of the key beside its own


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        step_size: in the kernel's own meaning.
        num_burnin: steps in which a flat direction relaxes, 2/(εγ) for SGLD.
        top_curvature: the largest eigenvalue of nβ∇²L_n(w*), without γ.
        heating: share by which minibatch noise raises the LLC at this step, at most 0.05.
        batch_size: the batch size at which the step would not have had to be shortened for heating; the kernel's own if it
            had not to be, `None` for the full data.
        inspection: what was found at w*.
    """

    step_size: float
    num_burnin: int
    top_curvature: float
    heating: float = 0.0
    batch_size: int | None = None
    inspection: Inspection = Inspection()  # noqa: RUF009 (frozen)


def calibrate(
    key: PRNGKey,
    posterior: LocalPosterior,
    *,
    kernel: Kernel | None = None,
    metric: Metric | None = None,
    batch_size: int | None = None,
    step_fraction: float | None = None,
    num_iterations: int = 40,
    max_examples: int = 4096,
    chunk_size: int | None = None,
) -> Calibration:
    """Step size and burn-in for `posterior`, right for every kernel, preconditioner and metric.

    Args:
        key: typed PRNG key; chooses the examples and the first vector.
        posterior: what will be sampled.
        kernel: what will sample; default SGLD in the integrator of Leimkuhler and Matthews.
        metric: the constant metric that will be given to `sample`.
        batch_size: of the default kernel, where none is given.
        step_fraction: c, instead of the kernel's own.
        num_iterations: power iterations; the top eigenvalue is within a few percent long before 40.
        max_examples: the Hessian is averaged over at most this many examples.
        chunk_size: examples per Hessian-vector product at a time; default the batch size. Results do not depend on it beyond
            rounding.

    Raises:
        ValueError: if the posterior cannot be sampled (see `inspect`), its curvature is not finite, or nothing bounds a step.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * w**2 + 0 * x
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.zeros(2), jnp.zeros(()), 99.0, 1.0)
        >>> round(slt_jax.calibrate(jax.random.key(0), posterior).step_size, 6)
        0.003
    """
    check_on_host("calibrate", key, posterior)
    check_key(key)
    check_posterior(posterior)
    kernel = sgld(batch_size, integrator="leimkuhler_matthews") if kernel is None else kernel
    seen = look(jax.random.fold_in(key, LOOK), posterior)
    count = min(posterior.n, max_examples)
    chunk = chunk_size or kernel.batch_size or batch_size or count
    chunk = min(chunk, count)
    chunks = max(1, count // chunk)
    top = float(top_curvature(key, posterior, num_chunks=chunks, chunk=chunk, num_iterations=num_iterations))
    if not math.isfinite(top):
        raise ValueError(
            "the Hessian of the loss at center is not finite; check that loss_fn is smooth and finite at w*"
        )
    stiffest, flattest, scale = _extremes(key, posterior, kernel, metric, top, chunks, chunk)
    step_size = kernel.step_for(stiffest, step_fraction)
    if scale is not None:  # the bound that `step_for` puts on a scale is replaced by the one that was found
        step_size /= kernel.step_for(1.0, 1.0)
    return _with_heating(seen, kernel, step_size, flattest, top, metric, scale)


def _extremes(
    key: PRNGKey,
    posterior: LocalPosterior,
    kernel: Kernel,
    metric: Metric | None,
    top: float,
    chunks: int,
    chunk: int,
) -> tuple[float, float, Params | None]:
    """The stiffest and the flattest curvature in the units of the kernel's matrix, and that matrix if it is adaptive."""
    localization = float(posterior.localization)
    stiffest = max(top, 0.0) + localization
    if stiffest == 0:
        raise ValueError("the loss is flat at center and localization = 0; no step size follows, give localization > 0")
    silent = top <= SILENT * localization
    if silent:
        found = find_neighbourhood(
            jax.random.fold_in(key, PILOT), posterior, batch_size=kernel.batch_size, metric=metric
        )
        stiffest = found.stiffest
    elif metric is not None:
        measure = partial(top_curvature, jax.random.fold_in(key, STIFFEST), posterior, num_chunks=chunks, chunk=chunk)
        stiffest = float(measure(metric=metric))
    flattest = max(localization, FLATTEST * stiffest) if localization == 0 else localization
    if metric is not None and localization > 0:
        flattest = localization * float(jnp.minimum(metric.rest, metric.scales.min()))
    if silent or not isinstance(kernel, SGLD) or kernel.preconditioner is None:
        return stiffest, flattest, None
    pilot_key = jax.random.fold_in(key, SCALE)
    measure = partial(top_curvature, pilot_key, posterior, num_chunks=chunks, chunk=chunk)
    scale, stiffest = settled_scale(pilot_key, posterior, kernel, stiffest, lambda s: float(measure(scale=s)))
    return stiffest, flattest * float(ravel_pytree(scale)[0].min()), scale


def _with_heating(
    seen: Look,
    kernel: Kernel,
    step_size: float,
    flattest: float,
    top: float,
    metric: Metric | None,
    scale: Params | None,
) -> Calibration:
    """The calibration whose step is short enough for the minibatches."""
    heat = partial(seen.heating, kernel, metric=metric, scale=scale)
    heating, batch_size = heat(step_size), kernel.batch_size
    if heating > HEATING_LIMIT and batch_size is not None:
        batch_size = math.ceil(batch_size * heating / HEATING_LIMIT)
        order = math.log2(heating / heat(step_size / 2))  # 1 where heat goes with the step, 2 where with its square
        step_size *= (HEATING_LIMIT / heating) ** (1 / order)
        heating = heat(step_size)
    inspection = seen.heated(kernel, step_size, metric=metric, scale=scale)
    num_burnin = math.ceil(kernel.relaxation_steps(step_size, flattest))
    return Calibration(step_size, num_burnin, top, heating, batch_size, inspection)


@partial(jax.jit, static_argnames=("num_chunks", "chunk", "num_iterations"))
def top_curvature(
    key: PRNGKey,
    posterior: LocalPosterior,
    *,
    num_chunks: int,
    chunk: int,
    num_iterations: int = 40,
    metric: Metric | None = None,
    scale: Params | None = None,
) -> Array:
    """Largest eigenvalue (in modulus) of nβ∇²L_n at w*, by power iteration on Hessian-vector products.

    With a matrix G, `metric` or the diagonal `scale`, that of G^{1/2}(nβ∇²L_n + γ)G^{1/2} instead. The Hessian is averaged
    over `num_chunks * chunk` examples, `chunk` at a time.
    """
    index_key, vector_key = jax.random.split(key)
    indices = jax.random.choice(index_key, posterior.n, (num_chunks * chunk,), replace=False)
    data = jax.tree.map(lambda leaf: leaf[indices], posterior.data)
    center, unravel = ravel_pytree(posterior.center)
    plain = metric is None and scale is None

    def root(vector: Array) -> Array:
        if metric is not None:
            return metric.sqrt(vector)
        return vector if scale is None else jnp.sqrt(ravel_pytree(scale)[0]) * vector

    def product(vector: Array) -> Array:
        direction = root(vector)
        image = hessian_vector_product(posterior.losses, posterior.center, data, unravel(direction), chunk_size=chunk)
        flat = ravel_pytree(image)[0]
        return flat if plain else root(posterior.nbeta * flat + posterior.localization * direction)

    def iterate(_: Array, vector: Array) -> Array:
        image = product(vector)
        norm = jnp.linalg.norm(image)
        return jnp.where(norm > 0, image / jnp.where(norm > 0, norm, 1.0), vector)

    start = jax.random.normal(vector_key, center.shape, center.dtype)
    vector = jax.lax.fori_loop(0, num_iterations, iterate, start / jnp.linalg.norm(start))
    value = jnp.abs(jnp.vdot(vector, product(vector)))
    return posterior.nbeta * value if plain else value
