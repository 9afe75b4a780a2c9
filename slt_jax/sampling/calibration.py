"""A step size with a reason, from the curvature at w*, and a burn-in from the slowest direction's relaxation time.

SGLD on a quadratic with curvature a = nβh + γ overestimates by the factor 1/(1 - εa/4) and is unstable at εa ≥ 4
(`theory.quadratic_sgld_llc`). So ε = c/(nβ h_max + γ), whatever the model, n or nβ; every kernel says its own c and what a
step is in its meaning (`Kernel.step_for`). Three things are not read off the curvature at w* and are looked up by short
pilot chains or at the gradients: the scale that an adaptive preconditioner settles at; the curvature where the chains live,
which is another one around a w* that fits its data too well or at which the Hessian vanishes; and the heat of minibatch
noise, which shortens the step until it adds less than a twentieth.
"""

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_jax.arguments import check_key
from slt_jax.backend import full_precision
from slt_jax.linalg import hessian_vector_product
from slt_jax.posterior import LocalPosterior, check_posterior
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.center import top_eigenvalue
from slt_jax.sampling.checks import check_on_host
from slt_jax.sampling.inspection import HEATING_LIMIT, Inspection
from slt_jax.sampling.look import HESSIAN_EXAMPLES, Look, Measured, judge, measure
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.pilot import find_neighbourhood, pilot_ends, settled_scale
from slt_jax.sampling.sgld import SGLD, sgld
from slt_jax.typing import Array, Params, PRNGKey

__all__ = ["Calibration", "calibrate", "top_curvature"]

FLATTEST = 1e-3  # with γ = 0 nothing bounds the relaxation time; then directions down to this share of a_max set it
SILENT = 1.0  # a top curvature below this many γ says nothing about the neighbourhood
STIFFER, LARGEST_RISE = 1.5, 10.0  # what is believed of places that pilot chains reach, against w*
PLACES, PLACE_ROUNDS, LONGEST_WALK, PLACE_ITERATIONS = 4, 5, 500, 15
PILOT, SCALE = 2, 3  # streams of the key beside its own


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

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([2.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> found = slt_jax.calibrate(jax.random.key(0), posterior)
        >>> round(found.top_curvature), found.heating  # nβ times the largest curvature; no minibatches, no heat
        (200, 0.0)
    """

    step_size: float
    num_burnin: int
    top_curvature: float
    heating: float = 0.0
    batch_size: int | None = None
    inspection: Inspection = Inspection()  # noqa: RUF009 (frozen)


@full_precision()
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
        num_iterations: power iterations at most; they start at the look's largest Ritz vector and end when the eigenvalue
            changes by less than a thousandth.
        max_examples: the Hessian is averaged over about this many examples at most.
        chunk_size: examples per Hessian-vector product at a time; default the batch size, or more where the model is small.
            Results do not depend on it beyond rounding.

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
    measured = measure(key, posterior, kernel.batch_size or batch_size, chunk_size)
    if measured.ritz is None:
        raise ValueError(
            "loss_fn cannot be differentiated twice, so no step follows from its curvature; give step_size and num_burnin"
        )
    curvature = _Curvature(posterior, measured, num_iterations, max_examples)
    stiffest, flattest, scale = _extremes(key, kernel, metric, curvature)
    # The bound that `step_for` puts on a scale is replaced by the one that was found.
    unit = 1.0 if scale is None else kernel.step_for(1.0, 1.0)

    def step_for(stiffest: float) -> float:
        return kernel.step_for(stiffest, step_fraction) / unit

    if curvature.top > SILENT * float(posterior.localization):
        stiffest = _lived_in(key, kernel, metric, scale, curvature, stiffest, flattest, step_for)
    seen = judge(measured, float(posterior.nbeta), float(posterior.localization))
    return _with_heating(seen, kernel, step_for(stiffest), flattest, curvature.top, metric, scale)


class _Curvature:
    """The largest curvature at w*, continued from the look's Krylov space on more examples, by its compiled program."""

    def __init__(self, posterior: LocalPosterior, measured: Measured, num_iterations: int, max_examples: int) -> None:
        assert measured.ritz is not None
        self.posterior, self.ritz = posterior, measured.ritz
        self.num_iterations = num_iterations
        self.center, self.max_examples = measured.center, max_examples
        largest = self.ritz.vectors[:, np.abs(self.ritz.values).argmax()]
        value = top_eigenvalue(self._product, largest, num_iterations)
        if not math.isfinite(value):
            raise ValueError(
                "the Hessian of the loss at center is not finite; check that loss_fn is smooth and finite at w*"
            )
        self.top = float(posterior.nbeta) * value
        """The largest eigenvalue of nβ∇²L, without γ."""

    def _product(self, vector: np.ndarray) -> np.ndarray:
        return self.center.derivatives(vector[None], self.max_examples).products[0]

    def at(self, place: Params) -> "_Curvature":
        """The same at another place, from fewer examples."""
        other = copy(self)
        other.center = replace(self.center, posterior=replace(self.center.posterior, center=place))
        other.max_examples, other.num_iterations = HESSIAN_EXAMPLES, PLACE_ITERATIONS
        return other

    def within(self, root: Callable[[np.ndarray], np.ndarray]) -> float:
        """The largest eigenvalue of G^½(nβ∇²L + γ)G^½, `root` being G^½."""
        nbeta, localization = float(self.posterior.nbeta), float(self.posterior.localization)

        def product(vector: np.ndarray) -> np.ndarray:
            direction = root(vector)
            return root(nbeta * self._product(direction) + localization * direction)

        # A sum of all Ritz vectors: none of them need be the stiffest in another metric.
        return top_eigenvalue(product, root(self.ritz.vectors.sum(axis=1)), self.num_iterations)


def _extremes(
    key: PRNGKey, kernel: Kernel, metric: Metric | None, curvature: _Curvature
) -> tuple[float, float, Params | None]:
    """The stiffest and the flattest curvature in the units of the kernel's matrix, and that matrix if it is adaptive."""
    posterior, top = curvature.posterior, curvature.top
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
        stiffest = curvature.within(_root(metric, None))
    flattest = max(localization, FLATTEST * stiffest) if localization == 0 else localization
    if metric is not None and localization > 0:
        flattest = localization * float(jnp.minimum(metric.rest, metric.scales.min()))
    if silent or not isinstance(kernel, SGLD) or kernel.preconditioner is None:
        return stiffest, flattest, None

    pilot_key = jax.random.fold_in(key, SCALE)
    scale, stiffest = settled_scale(
        pilot_key, posterior, kernel, stiffest, lambda scale: curvature.within(_root(None, scale))
    )
    return stiffest, flattest * float(ravel_pytree(scale)[0].min()), scale


def _root(metric: Metric | None, scale: Params | None) -> Callable[[np.ndarray], np.ndarray]:
    """G^½ on ravelled vectors."""
    if metric is not None:
        return lambda vector: np.asarray(metric.sqrt(vector))
    if scale is None:
        return lambda vector: vector
    roots = np.sqrt(np.asarray(ravel_pytree(scale)[0]))
    return lambda vector: roots * vector


def _lived_in(
    key: PRNGKey,
    kernel: Kernel,
    metric: Metric | None,
    scale: Params | None,
    curvature: _Curvature,
    stiffest: float,
    flattest: float,
    step_for: Callable[[float], float],
) -> float:
    """The stiffest curvature where short chains at its own step end, if it is more than at w*.

    A well-trained classifier is flat at w* and thirty times as stiff where its posterior lives; a step for w* is unstable there,
    and the chains agree on a wrong number.
    """
    keys = jax.random.split(jax.random.fold_in(key, PILOT), PLACES)
    root = _root(metric, scale)
    for _ in range(PLACE_ROUNDS):
        step_size = step_for(stiffest)
        steps = math.ceil(min(LONGEST_WALK, kernel.relaxation_steps(step_size, flattest)))
        ends = pilot_ends(keys, curvature.posterior, metric, step_size, steps, kernel=kernel).params
        places = [jax.tree.map(lambda leaf, one=one: np.asarray(leaf)[one], ends) for one in range(PLACES)]
        found = max(curvature.at(place).within(root) if _finite(place) else math.inf for place in places)
        if found <= STIFFER * stiffest:
            return stiffest
        stiffest = min(found, LARGEST_RISE * stiffest) if math.isfinite(found) else LARGEST_RISE * stiffest
    return stiffest


def _finite(tree: Params) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


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
) -> Array:
    """Largest eigenvalue (in modulus) of nβ∇²L_n at w*, by power iteration on Hessian-vector products, for use under `jit`.

    The Hessian is averaged over `num_chunks * chunk` examples, `chunk` at a time.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> from slt_jax.sampling.calibration import top_curvature
        >>> model = quadratic([2.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> round(float(top_curvature(jax.random.key(0), posterior, num_chunks=1, chunk=1)), 2)
        200.0
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
