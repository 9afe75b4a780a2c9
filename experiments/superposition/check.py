"""The same free energies by two other roads: draws of the prior for the whole, and each phase by itself, from its Gaussian.

A phase by itself, without the others: its circles are alike, so one is integrated and multiplied by their number. On it the
angle is integrated exactly, by a slice. With T the generator of the rotations, w* the polygon and t = Tw*/|Tw*|,

    ∫ f(w) dw = 2π ∫ f(v) <Tv, t> dv  over v with <v, t> = 0 and <Tv, t> > 0,      f invariant under rotations.

Particles are drawn from the Gaussian that the prior and the Hessian H at w* make, of precision nH + 1 and mean
(nH + 1)^-1 nHw*, and carried to the posterior on the slice. A silent feature has H = 0: it starts at the prior. What has left for
another phase, or for another labelling of this one, does not count. Only the loss and the mover are shared with `selection`.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from configs.superposition import Check
from experiments.superposition.landscape import descend, hessian_of, loss_of, to_point
from experiments.superposition.selection import SAME, Path, carry, hamiltonian_step
from slt_jax.theory.superposition import Polygon, polygon
from slt_jax.typing import Array, PRNGKey

__all__ = ["FAMILIES", "labellings", "phase_free_energy", "prior_free_energy"]

FAMILIES = ("5-gons", "6-gon")
"""What is integrated by itself: the 5-gon with 5+, between which there is no barrier at these n, and the 6-gon."""


def prior_free_energy(key: PRNGKey, examples: np.ndarray, num_draws: int, features: int) -> dict[str, np.ndarray]:
    """-log ∫ exp(-nL) dprior for each n, its standard error, and the effective number of draws: a plain mean over draws."""
    keys = jax.random.split(key, -(-num_draws // 4096))
    draws = jax.lax.map(
        lambda one: jax.vmap(partial(loss_of, features))(jax.random.normal(one, (4096, 3 * features))), keys
    )
    exponents = -np.asarray(examples, float)[:, None] * np.asarray(draws, float).ravel()[None, :]
    first, second = logsumexp(exponents, axis=1), logsumexp(2 * exponents, axis=1)
    count = exponents.shape[1]
    effective = np.exp(2 * first - second)
    return {
        "prior_free_energy": math.log(count) - first, "prior_std_error": np.sqrt(1 / effective - 1 / count),
        "prior_effective_draws": effective,
    }  # fmt: skip


def labellings(phase: Polygon) -> int:
    """How many circles: choices of live features times their cyclic orders."""
    return math.comb(phase.features, phase.sides) * math.factorial(phase.sides - 1)


def phase_free_energy(key: PRNGKey, name: str, n: float, settings: Check) -> dict[str, np.ndarray]:
    """-log ∫ exp(-nL) dprior over one of `FAMILIES`: one value for each population, and their acceptance, `(repeat,)`."""
    phase = polygon(6, 5 if name == "5-gons" else 6)
    targets = [phase.loss, polygon(6, 5, 1).loss] if name == "5-gons" else [phase.loss]
    generator, basis, tangent = _slice(phase)
    hessian = np.asarray(hessian_of(to_point(phase), 6), float)
    precision = basis.T @ (n * hessian + np.eye(len(hessian))) @ basis
    mean = np.linalg.solve(precision, n * basis.T @ hessian @ np.asarray(to_point(phase), float))
    gaussian = _Gaussian(
        *(jnp.asarray(one, jnp.float32) for one in (mean, np.linalg.cholesky(precision), basis, generator.T @ tangent))
    )
    paths = _populations(jax.random.split(key, settings.num_repeats), jnp.float32(n), settings, gaussian)
    points = np.asarray(paths.particles[:, 0]) @ basis.T
    ends = np.asarray(descend(jnp.asarray(points.reshape(-1, points.shape[-1])), 6))
    here = _is_copy(ends, phase, targets).reshape(points.shape[:2])
    share = np.sum(np.asarray(paths.weights[:, 0]) * here, axis=1)
    return {
        "energy": np.asarray(paths.free_energy[:, 0]) - np.log(share) - math.log(labellings(phase)),
        "acceptance": np.asarray(paths.acceptance[:, 0]),
    }


def _slice(phase: Polygon) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The generator T, an orthonormal basis of what is across the circle, `(parameter, parameter - 1)`, and t."""
    c = phase.features
    generator = np.zeros((3 * c, 3 * c))  # biases, then the rows of the weights: (first, second) to (-second, first)
    generator[c : 2 * c, 2 * c :], generator[2 * c :, c : 2 * c] = -np.eye(c), np.eye(c)
    tangent = generator @ np.asarray(to_point(phase), float)
    tangent /= np.linalg.norm(tangent)
    return generator, np.linalg.svd(tangent[None])[2][1:].T, tangent


class _Gaussian(NamedTuple):
    """Where particles start on the slice: mean and Cholesky factor of the precision, the basis, and T'·t."""

    mean: Array
    root: Array
    basis: Array
    across: Array


@partial(jax.jit, static_argnums=2)
def _populations(keys: PRNGKey, n: Array, settings: Check, gaussian: _Gaussian) -> Path:
    mean, root, basis, across = gaussian
    size = mean.shape[0]
    log_volume = jnp.sum(jnp.log(jnp.diagonal(root))) - size / 2 * math.log(2 * math.pi)
    schedule = np.arange(1, settings.stages + 1, dtype=np.float32)[None] / settings.stages

    def log_start(v: Array) -> Array:
        return log_volume - 0.5 * jnp.sum((root.T @ (v - mean)) ** 2)

    def log_target(v: Array) -> Array:
        point = basis @ v
        turning = jnp.dot(across, point)  # <Tv, t>
        log_turning = jnp.where(turning > 0, jnp.log(2 * math.pi * jnp.maximum(turning, 1e-6)), -jnp.inf)
        return -n * loss_of(6, point) - 0.5 * jnp.sum(v**2) - 9 * math.log(2 * math.pi) + log_turning

    def population(key: PRNGKey) -> Path:
        start_key, path_key = jax.random.split(key)
        normal = jax.random.normal(start_key, (size, settings.num_particles))
        start = mean[None] + jax.scipy.linalg.solve_triangular(root.T, normal, lower=False).T
        return carry(
            path_key, start, log_start, lambda v: log_target(v) - log_start(v), schedule, lambda _: hamiltonian_step(n),
            settings,
        )  # fmt: skip

    return jax.lax.map(population, keys)


def _is_copy(ends: np.ndarray, phase: Polygon, losses: list[float]) -> np.ndarray:
    """Whether descent ended at one of `losses` with the corners of `phase` in its order: not at another labelling."""
    value = np.asarray(jax.vmap(partial(loss_of, 6))(jnp.asarray(ends)))
    right = np.any([np.abs(value - loss) < SAME for loss in losses], axis=0)
    columns = ends[:, 6:].reshape(-1, 2, 6)
    lengths = np.linalg.norm(columns, axis=1)
    alive = np.all((lengths > phase.radius / 2) == (np.arange(6) < phase.sides), axis=1)
    angles = np.arctan2(columns[:, 1, : phase.sides], columns[:, 0, : phase.sides])
    turned = np.mod(angles - angles[:, :1] + 1e-6, 2 * math.pi)
    return right & alive & np.all(np.diff(turned, axis=1) > 0, axis=1)
