"""Finite values without asymptotics: nβE[L] and the free energy F(nβ) of a program by sequential Monte Carlo.

The local posterior has the prior z ~ N(z*, 1/γ) on amplitudes. Nothing depends on their phases, so it is a posterior over
s = log|z|² alone, where the weight of a wrong value is the logarithm of a gamma variable and that of a right value of a Rice
variable squared. In s the loss is a sum of exponentials of linear functions, as good as convex, and its curvature is of the
order of λ whatever nβ is: one step size serves all temperatures. (In z the step has to shrink like 1/nβ.) Particles drawn from
the prior are carried through a ladder of nβ by blackjax's tempered sequential Monte Carlo with Hamiltonian moves;
independent repeats give the error. A Dirichlet prior with other exponents α is a gamma variable of shape α.
"""

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import blackjax
import blackjax.smc.tempered as tempered
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc.resampling import systematic

from configs.programs import Tempering
from slt_jax.models import turing
from slt_jax.theory import SynthesisProblem, TuringMachine
from slt_jax.typing import Array, Params, PRNGKey

__all__ = ["Ladder", "free_energies", "ladder_to"]

SMALLEST = 0.1
"""The first nβ above zero."""


class Ladder(NamedTuple):
    """Values along a ladder of nβ, mean and standard error over repeats, each `(rung,)`.

    Attributes:
        nbeta: the rungs.
        value: nβE[L].
        value_error: its standard error.
        free_energy: F(nβ) = -log ∫ exp(-nβL) dprior.
        free_energy_error: its standard error.
        acceptance: of the moves at the rung, the worst repeat.
    """

    nbeta: np.ndarray
    value: np.ndarray
    value_error: np.ndarray
    free_energy: np.ndarray
    free_energy_error: np.ndarray
    acceptance: np.ndarray


def ladder_to(largest: float, ratio: float, through: tuple[float, ...] = ()) -> np.ndarray:
    """Rungs from `SMALLEST` up, each at most `ratio` times the one before, among them those in `through` and `largest`."""
    stops = sorted({SMALLEST, *through, largest})
    rungs = [np.array([SMALLEST])]
    for low, high in pairwise(stops):
        count = int(np.ceil(np.log(high / low) / np.log(ratio)))
        # The stop itself, to the last bit: it is looked up later.
        rungs.append(np.append(np.geomspace(low, high, count + 1)[1:-1], high))
    return np.concatenate(rungs)


def free_energies(
    key: PRNGKey,
    machine: TuringMachine,
    problem: SynthesisProblem,
    semantics: str,
    localization: float,
    ladder: np.ndarray,
    budget: Tempering,
    wrong_exponents: dict[str, float] | None = None,
) -> Ladder:
    """nβE[L] and F(nβ) of the local posterior around `machine`, under the NLL, in double precision.

    Args:
        key: typed PRNG key.
        machine: whose amplitudes are the centre.
        problem: what it solves.
        semantics: how steps are run.
        localization: γ of the amplitudes.
        ladder: increasing nβ.
        budget: particles, repeats, moves.
        wrong_exponents: the Dirichlet exponent α of the wrong values by part (`"write"`, `"state"`, `"move"`); default 1,
            which is the flat measure on amplitudes.
    """
    with jax.enable_x64(True):
        prior = _prior(machine, localization, wrong_exponents or {})
        draw_key, key = jax.random.split(key)
        particles = _draw(draw_key, prior, (budget.repeats, budget.particles))
        keys = jax.random.split(key, budget.repeats)
        found = _populations(keys, particles, prior, jnp.asarray(ladder), problem, semantics, budget)
    losses, gains, acceptance = map(np.asarray, found)
    values, energies = losses * ladder, -np.cumsum(gains, axis=1)
    error = 1 / np.sqrt(budget.repeats)
    return Ladder(
        np.asarray(ladder), values.mean(0), error * values.std(0, ddof=1), energies.mean(0),
        error * energies.std(0, ddof=1), acceptance.min(0),
    )  # fmt: skip


class _Prior(NamedTuple):
    """The law of s = log|z|² on each simplex; trees of `(symbol, state, value)`, but for `gamma`."""

    right: Params
    exponents: Params
    gamma: Array


def _prior(machine: TuringMachine, gamma: float, exponents: dict[str, float]) -> _Prior:
    right = {part: z[..., 0] == 1 for part, z in turing.amplitudes(machine).items()}
    shapes = {part: jnp.full(which.shape, exponents.get(part, 1.0)) for part, which in right.items()}
    return _Prior(right, shapes, jnp.asarray(gamma))


def _draw(key: PRNGKey, prior: _Prior, count: tuple[int, int]) -> Params:
    """Draws of s, a tree of `(*count, symbol, state, value)`; by numpy, where a gamma variable needs no compilation."""
    rng, gamma = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist()), float(prior.gamma)
    drawn = {}
    for part, right in sorted(prior.right.items()):
        wrong = rng.gamma(np.asarray(prior.exponents[part]), 2 / gamma, (*count, *right.shape))
        moved = np.array([1.0, 0.0]) + rng.standard_normal((*count, *right.shape, 2)) / np.sqrt(gamma)
        drawn[part] = jnp.log(np.where(right, np.sum(moved**2, axis=-1), wrong))
    return drawn


def _log_prior(prior: _Prior, s: Params) -> Array:
    total = jnp.zeros(())
    for part, x in s.items():
        radius = jnp.exp(x / 2)
        wrong = prior.exponents[part] * x - prior.gamma / 2 * radius**2
        # Rice: I0 is i0e times an exponential that completes the square.
        bessel = jnp.log(jax.scipy.special.i0e(prior.gamma * radius))
        rice = x - prior.gamma / 2 * (radius - 1) ** 2 + bessel
        total += jnp.sum(jnp.where(prior.right[part], rice, wrong))
    return total


def _mean_loss(problem: SynthesisProblem, semantics: str, s: Params) -> Array:
    z = {part: jnp.stack([jnp.exp(x / 2), jnp.zeros_like(x)], axis=-1) for part, x in s.items()}
    return jnp.mean(turing.loss_function(problem, semantics)(z, jnp.arange(len(problem.inputs))))


@partial(jax.jit, static_argnames=("problem", "semantics", "budget"))
def _populations(
    keys: PRNGKey,
    particles: Params,
    prior: _Prior,
    ladder: Array,
    problem: SynthesisProblem,
    semantics: str,
    budget: Tempering,
) -> tuple[Array, Array, Array]:
    """Mean loss, gain of log Z and acceptance, `(repeat, rung)`; one program serves all machines of a problem."""
    loss = partial(_mean_loss, problem, semantics)
    kernel = tempered.build_kernel(
        partial(_log_prior, prior), lambda s: -loss(s), blackjax.hmc.build_kernel(), blackjax.hmc.init, systematic
    )

    def population(key: PRNGKey, start: Params) -> tuple[Array, Array, Array]:
        # The prior's own widths, so that one step size suits narrow and wide coordinates.
        widths = jnp.concatenate([jnp.var(x, axis=0).reshape(-1) for _, x in sorted(start.items())])
        settings = {
            "step_size": jnp.array([budget.step_size]),
            "inverse_mass_matrix": widths[None],
            "num_integration_steps": jnp.array([budget.leapfrogs]),
        }

        def rung(state: tempered.TemperedSMCState, at: tuple[PRNGKey, Array]) -> tuple:
            state, info = kernel(at[0], state, budget.moves, at[1], settings)
            mean = jnp.sum(state.weights * jax.vmap(loss)(state.particles))
            return state, (mean, info.log_likelihood_increment, jnp.mean(info.update_info.acceptance_rate))

        return jax.lax.scan(rung, tempered.init(start), (jax.random.split(key, len(ladder)), ladder))[1]

    return jax.vmap(population)(keys, particles)
