"""The posterior over all phases against n, by tempered sequential Monte Carlo of blackjax.

    p(w | n) ∝ exp(-n L(w)) N(w; 0, I),   L the exact population loss

n itself is the temperature: particles are drawn from the prior at n = 0, and on the way to the largest n every posterior in
between is passed. Particles that have become more probable are copied, then all are moved by Hamiltonian steps. There are no
swaps: blackjax has no parallel tempering, and populations need none.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling, tempered

from configs.superposition import Check, Selection
from experiments.superposition.landscape import descend, loss_of
from slt_jax.theory.superposition import Polygon
from slt_jax.typing import Array, PRNGKey

__all__ = [
    "SAME",
    "Path",
    "Pooled",
    "basins",
    "carry",
    "crossing",
    "hamiltonian_step",
    "pooled",
    "shares",
    "temper",
    "temperatures",
]

STIFFEST = 5.0  # above the curvatures of the loss near its polygons; sets the Hamiltonian step together with n
STEP = 1.2  # of that scale, at most: nine in ten moves are accepted from n = 30 on
SHORTEST = (
    0.5  # of that step: each particle has its own, or directions whose period a move happens to be would stand still
)
SAME = 1e-3  # losses this near to that of a polygon are its own; no two polygons are nearer than 7e-3


class Path(NamedTuple):
    """What one population of particles leaves at the reported n; arrays `(n, ...)`.

    Attributes:
        particles: ravelled parameters, `(n, particle, parameter)`.
        weights: `(n, particle)`, summing to 1 over particles.
        acceptance: mean acceptance of the Hamiltonian steps since the last reported n.
        free_energy: -log ∫ exp(-n L) dprior.
    """

    particles: Array
    weights: Array
    acceptance: Array
    free_energy: Array


@partial(jax.jit, static_argnames=("settings", "features"))
def temper(key: PRNGKey, settings: Selection, features: int) -> Path:
    """One population from n = 0 through `settings.examples`, with `settings.stages` temperatures up to each."""
    largest = float(settings.examples[-1])
    prior_key, path_key = jax.random.split(key)
    return carry(
        path_key, jax.random.normal(prior_key, (settings.num_particles, 3 * features)),
        lambda point: -0.5 * jnp.sum(point**2), lambda point: -largest * loss_of(features, point),
        temperatures(settings) / largest, lambda share: hamiltonian_step(share * largest), settings,
    )  # fmt: skip


def hamiltonian_step(n: Array | float) -> Array:
    """The step for the posterior of n examples: that of its stiffest direction."""
    return STEP / jnp.sqrt(1 + STIFFEST * n)


def carry(
    key: PRNGKey, particles: Array, log_start: Callable, log_ratio: Callable, schedule: np.ndarray, step_at: Callable,
    settings: Selection | Check,
) -> Path:  # fmt: skip
    """Particles drawn from exp(log_start) through exp(log_start + t·log_ratio), t along `schedule`, `(reported, stage)`.

    A phase that no step can reach any more keeps its particles and gains or loses by its weight. `free_energy` is that of the
    ratio: -log of the mean of exp(t·log_ratio) over the start.
    """
    kernel = tempered.build_kernel(
        log_start, log_ratio, blackjax.hmc.build_kernel(), blackjax.hmc.init, resampling.systematic
    )

    def stage(passed: tuple, each: tuple) -> tuple:
        state, free_energy = passed
        index, share = each
        move_key, length_key = jax.random.split(jax.random.fold_in(key, index))
        lengths = jax.random.uniform(length_key, particles.shape[:1], minval=SHORTEST)
        moves = {
            "step_size": step_at(state.tempering_param) * lengths, "num_integration_steps": jnp.array([settings.num_leapfrog]),
            "inverse_mass_matrix": jnp.ones((1, particles.shape[1])),
        }  # fmt: skip
        state, info = kernel(move_key, state, settings.num_moves, share, moves)
        free_energy -= info.log_likelihood_increment
        return (state, free_energy), jnp.mean(info.update_info.acceptance_rate)

    def to_reported(passed: tuple, stages: tuple) -> tuple:
        acceptance: Array
        (state, free_energy), acceptance = jax.lax.scan(stage, passed, stages)
        return (state, free_energy), Path(state.particles, state.weights, jnp.mean(acceptance), free_energy)

    start = tempered.init(particles)._replace(tempering_param=jnp.zeros(()))
    indices = jnp.arange(schedule.size).reshape(schedule.shape)
    return jax.lax.scan(to_reported, (start, jnp.zeros(())), (indices, jnp.asarray(schedule)))[1]


def temperatures(settings: Selection) -> np.ndarray:
    """n of every stage, `(reported, stage)`: geometric between the reported ones, from 1/4 up to the first."""
    ends = np.asarray(settings.examples, np.float32)
    starts = np.concatenate([[0.25], ends[:-1]])
    shares = np.arange(1, settings.stages + 1) / settings.stages
    return (starts[:, None] * (ends / starts)[:, None] ** shares).astype(np.float32)


def basins(paths: Path, features: int) -> np.ndarray:
    """L at the minimum in whose basin each particle is, `(..., particle)`."""
    ends = descend(paths.particles.reshape(-1, paths.particles.shape[-1]), features)
    return np.asarray(jax.vmap(partial(loss_of, features))(ends)).reshape(paths.weights.shape)


def shares(ends: np.ndarray, weights: np.ndarray, phases: list[Polygon]) -> np.ndarray:
    """The posterior share of each phase and, last, of whatever is none of them: `(..., phase + 1)`."""
    in_phase = np.stack([np.abs(ends - phase.loss) < SAME for phase in phases], axis=-1)
    known = (weights[..., None] * in_phase).sum(axis=-2)
    return np.concatenate([known, 1 - known.sum(axis=-1, keepdims=True)], axis=-1)


class Pooled(NamedTuple):
    """Populations together, each by its ∫ exp(-nL) dprior, and the errors of delete-one-population jackknives.

    Attributes:
        share, share_error: of families of phases, `(n, family)`.
        free_energy, free_energy_error: of the families, `(n, family)`; infinite where a family has no particle.
        lead, lead_error: the free energy of the first rival minus that of the second, `(n,)`: the log of the ratio of their shares.
        crossing, crossing_error: n at which one family overtakes another.
    """

    share: np.ndarray
    share_error: np.ndarray
    free_energy: np.ndarray
    free_energy_error: np.ndarray
    lead: np.ndarray
    lead_error: np.ndarray
    crossing: float
    crossing_error: float


def pooled(
    examples: np.ndarray, share: np.ndarray, free_energy: np.ndarray, families: Sequence[Sequence[int]], rivals: tuple[int, int],
) -> Pooled:  # fmt: skip
    """Families of states, of `share` `(repeat, n, state)` and `free_energy` `(repeat, n)`; the second rival overtakes the first."""
    joined = np.stack([share[..., list(one)].sum(axis=-1) for one in families], axis=-1)
    lowest = free_energy.min(axis=0)
    masses = np.exp(lowest - free_energy)[..., None] * np.maximum(joined, 0)  # (repeat, n, family)

    def of(masses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        mass = masses.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            energy, share_of = lowest[:, None] - np.log(mass), mass / mass.sum(axis=-1, keepdims=True)
            lead = energy[:, rivals[0]] - energy[:, rivals[1]]
        return share_of, energy, lead, np.array(crossing(examples, *mass.T[list(rivals)]))

    count = len(masses)
    left = [of(np.delete(masses, i, axis=0)) for i in range(count)]
    errors = []
    for values in zip(*left, strict=True):
        with np.errstate(invalid="ignore"):
            errors.append(np.sqrt((count - 1) / count * np.sum((values - np.mean(values, axis=0)) ** 2, axis=0)))
    shares_of, energies, lead, where = of(masses)
    return Pooled(shares_of, errors[0], energies, errors[1], lead, errors[2], float(where), float(errors[3]))


def crossing(examples: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The last n at which the share `second` overtakes `first`, linear in log n between the reported ones; NaN if none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        lead = np.log(second) - np.log(first)
    for i in range(len(examples) - 2, -1, -1):
        if lead[i] < 0 <= lead[i + 1] and np.isfinite(lead[i : i + 2]).all():
            along = lead[i] / (lead[i] - lead[i + 1])
            return float(np.exp((1 - along) * np.log(examples[i]) + along * np.log(examples[i + 1])))
    return float("nan")
