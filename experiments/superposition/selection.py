"""The posterior over all phases against n, by tempered sequential Monte Carlo of blackjax.

    p(w | n) ∝ exp(-n L(w)) N(w; 0, I),   L the exact population loss

n itself is the temperature: particles are drawn from the prior at n = 0, and on the way to the largest n every posterior in
between is passed. Particles that have become more probable are copied, then all are moved by Hamiltonian steps. A phase that
no step can reach any more keeps its share of particles and gains or loses by its weight, as it should.
"""

from functools import partial
from typing import NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling, tempered

from configs.superposition import Selection
from experiments.superposition.landscape import descend, loss_of
from slt_jax.theory.superposition import Polygon
from slt_jax.typing import Array, PRNGKey

__all__ = ["Path", "basins", "crossing", "shares", "temper", "temperatures"]

STIFFEST = 5.0  # above the curvatures of the loss near its polygons; sets the Hamiltonian step together with n
STEP = 1.2  # of that scale: nine in ten moves are accepted from n = 30 on
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
    largest, size = float(settings.examples[-1]), settings.num_particles
    prior_key, path_key = jax.random.split(key)
    kernel = tempered.build_kernel(
        lambda point: -0.5 * jnp.sum(point**2), lambda point: -largest * loss_of(features, point),
        blackjax.hmc.build_kernel(), blackjax.hmc.init, resampling.systematic,
    )  # fmt: skip

    def stage(carry: tuple, each: tuple) -> tuple:
        state, free_energy = carry
        index, n = each
        step = STEP / jnp.sqrt(1 + STIFFEST * state.tempering_param * largest)
        moves = {
            "step_size": step[None], "num_integration_steps": jnp.array([settings.num_leapfrog]),
            "inverse_mass_matrix": jnp.ones((1, 3 * features)),
        }  # fmt: skip
        state, info = kernel(jax.random.fold_in(path_key, index), state, settings.num_moves, n / largest, moves)
        free_energy -= info.log_likelihood_increment
        return (state, free_energy), jnp.mean(info.update_info.acceptance_rate)

    def to_reported(carry: tuple, stages: tuple) -> tuple:
        acceptance: Array
        (state, free_energy), acceptance = jax.lax.scan(stage, carry, stages)
        return (state, free_energy), Path(state.particles, state.weights, jnp.mean(acceptance), free_energy)

    schedule = jnp.asarray(temperatures(settings))
    start = tempered.init(jax.random.normal(prior_key, (size, 3 * features)))
    start = start._replace(tempering_param=jnp.zeros(()))
    indices = jnp.arange(schedule.size).reshape(schedule.shape)
    return jax.lax.scan(to_reported, (start, jnp.zeros(())), (indices, schedule))[1]


def temperatures(settings: Selection) -> np.ndarray:
    """n of every stage, `(reported, stage)`: geometric between the reported ones, from 1/4 up to the first."""
    ends = np.asarray(settings.examples, np.float32)
    starts = np.concatenate([[0.25], ends[:-1]])
    shares = np.arange(1, settings.stages + 1) / settings.stages
    return (starts[:, None] * (ends / starts)[:, None] ** shares).astype(np.float32)


def basins(paths: Path, features: int) -> np.ndarray:
    """L at the minimum in whose basin each particle is, `(..., particle)`."""
    points = paths.particles.reshape(-1, paths.particles.shape[-1])
    ends = descend(points, features)
    return np.asarray(jax.vmap(partial(loss_of, features))(ends)).reshape(paths.weights.shape)


def shares(ends: np.ndarray, weights: np.ndarray, phases: list[Polygon]) -> np.ndarray:
    """The posterior share of each phase and, last, of whatever is none of them: `(..., phase + 1)`."""
    in_phase = np.stack([np.abs(ends - phase.loss) < SAME for phase in phases], axis=-1)
    known = (weights[..., None] * in_phase).sum(axis=-2)
    return np.concatenate([known, 1 - known.sum(axis=-1, keepdims=True)], axis=-1)


def crossing(examples: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The last n at which the share `second` overtakes `first`, linear in log n between the reported ones; NaN if none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        lead = np.log(second) - np.log(first)
    for i in range(len(examples) - 2, -1, -1):
        if lead[i] < 0 <= lead[i + 1] and np.isfinite(lead[i : i + 2]).all():
            along = lead[i] / (lead[i] - lead[i + 1])
            return float(np.exp((1 - along) * np.log(examples[i]) + along * np.log(examples[i + 1])))
    return float("nan")
