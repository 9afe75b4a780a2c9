"""A step size with a reason, from the curvature at w*, and a burn-in from the slowest direction's relaxation time.

SGLD on a quadratic with curvature a = nβh + γ overestimates by the factor 1/(1 - εa/4) and is unstable at εa ≥ 4
(DESIGN section 6; `theory.quadratic_sgld_llc`). So ε = c/(nβ h_max + γ) with c = 0.3 costs at most 8% in the stiffest
direction and less elsewhere, whatever the model, n or nβ.
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from slt_jax.linalg import hessian_vector_product
from slt_jax.posterior import LocalPosterior, check_posterior
from slt_jax.sampling.kernels import Kernel
from slt_jax.typing import Array, PRNGKey

__all__ = ["Calibration", "calibrate", "top_curvature"]

STEP_FRACTION = 0.3  # c of DESIGN section 6
THERMOSTAT_FRACTION = 0.1  # h² a_max of SGNHT: its variance bias is h²a/4, of first order in the squared step
FLATTEST = 1e-3  # with γ = 0 nothing bounds the relaxation time; then directions down to this share of a_max set it


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        step_size: in the kernel's own meaning.
        num_burnin: steps in which a flat direction relaxes, 2/(εγ) for SGLD.
        top_curvature: the largest eigenvalue of nβ∇²L_n(w*), without γ.
    """

    step_size: float
    num_burnin: int
    top_curvature: float


def calibrate(
    key: PRNGKey,
    posterior: LocalPosterior,
    *,
    batch_size: int | None,
    kernel: Kernel | None = None,
    num_iterations: int = 40,
    max_examples: int = 4096,
) -> Calibration:
    """Step size and burn-in for `posterior`.

    Args:
        key: typed PRNG key; chooses the examples and the first vector.
        posterior: what will be sampled.
        batch_size: examples per Hessian-vector product at a time (`None`: all that are used at once); results do not
            depend on it beyond rounding.
        kernel: what will sample; default SGLD. SGNHT gets its integrator's step, √(0.1/a_max).
        num_iterations: power iterations; the top eigenvalue is within a few percent long before 40.
        max_examples: the Hessian is averaged over at most this many examples.

    Raises:
        ValueError: if the posterior cannot be sampled, or its curvature is not finite.
    """
    check_posterior(posterior)
    count = min(posterior.n, max_examples)
    chunk = count if batch_size is None else min(batch_size, count)
    top = float(
        top_curvature(key, posterior, num_chunks=max(1, count // chunk), chunk=chunk, num_iterations=num_iterations)
    )
    if not math.isfinite(top):
        raise ValueError(
            "the Hessian of the loss at center is not finite; check that loss_fn is smooth and finite at w*"
        )
    localization = float(posterior.localization)
    stiffest = max(top, 0.0) + localization
    if stiffest == 0:
        raise ValueError("the loss is flat at center and localization = 0; no step size follows, give localization > 0")
    flattest = max(localization, FLATTEST * stiffest)
    if kernel is not None and kernel.name == "sgnht":
        step_size = math.sqrt(THERMOSTAT_FRACTION / stiffest)
        return Calibration(step_size, math.ceil(4 / (step_size * math.sqrt(flattest))), top)
    step_size = STEP_FRACTION / stiffest
    if localization > 0:
        flattest = localization
    return Calibration(step_size, math.ceil(2 / (step_size * flattest)), top)


@partial(jax.jit, static_argnames=("num_chunks", "chunk", "num_iterations"))
def top_curvature(
    key: PRNGKey, posterior: LocalPosterior, *, num_chunks: int, chunk: int, num_iterations: int = 40
) -> Array:
    """Largest eigenvalue (in modulus) of nβ∇²L_n at w*, by power iteration on Hessian-vector products.

    The Hessian is averaged over `num_chunks * chunk` examples, `chunk` at a time.
    """
    index_key, vector_key = jax.random.split(key)
    indices = jax.random.choice(index_key, posterior.n, (num_chunks * chunk,), replace=False)
    data = jax.tree.map(lambda leaf: leaf[indices], posterior.data)
    center, unravel = ravel_pytree(posterior.center)

    def product(vector: Array) -> Array:
        image = hessian_vector_product(posterior.losses, posterior.center, data, unravel(vector), chunk_size=chunk)
        return ravel_pytree(image)[0]

    def iterate(_: Array, vector: Array) -> Array:
        image = product(vector)
        norm = jnp.linalg.norm(image)
        return jnp.where(norm > 0, image / jnp.where(norm > 0, norm, 1.0), vector)

    start = jax.random.normal(vector_key, center.shape, center.dtype)
    vector = jax.lax.fori_loop(0, num_iterations, iterate, start / jnp.linalg.norm(start))
    return posterior.nbeta * jnp.abs(jnp.vdot(vector, product(vector)))
