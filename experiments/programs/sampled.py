"""Samplers on amplitudes: Langevin dynamics and NUTS beside exact values, and a chain that leaves for another program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.programs import Leaving, Nuts, Sgld
from experiments.programs.machines import Case
from slt_jax import theory
from slt_jax.estimators.llc import llc
from slt_jax.models import turing
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.driver import sample
from slt_jax.sampling.pilot import find_neighbourhood
from slt_jax.sampling.sampler import Sampler
from slt_jax.sampling.sgld import sgld
from slt_jax.theory import TuringMachine
from slt_jax.theory.programs.machine import MOVES
from slt_jax.typing import Array, Params, PRNGKey
from slt_lab.nuts import nuts_llc

__all__ = ["by_langevin", "by_nuts", "leaving", "local_posterior", "nearest_programs"]

STEP_FRACTION = 0.3
PARTS = ("write", "state", "move")
Arrays = dict[str, Any]


def local_posterior(case: Case, nbeta: float, localization: float) -> LocalPosterior:
    """exp(-nβL - γ/2 |z - z*|²) around the amplitudes of a machine, under the NLL."""
    model = turing.turing_program(case.machine, case.question, case.semantics)
    return LocalPosterior(model.loss_fn, model.data, model.center, nbeta, localization)


def by_langevin(key: PRNGKey, posterior: LocalPosterior, budget: Sgld) -> Arrays:
    """λ̂ by SGLD. At w* the curvature of second-order errors vanishes, so the step follows from that where the posterior
    lives, which pilot chains look up."""
    pilot_key, tune_key, key = jax.random.split(key, 3)
    found = find_neighbourhood(pilot_key, posterior, batch_size=None, num_steps=budget.pilot_steps)
    sampler = Sampler(sgld(None, integrator="leimkuhler_matthews"), step_fraction=STEP_FRACTION)
    samples = sample(
        key, posterior, sampler.tune(tune_key, posterior, neighbourhood=found), num_chains=budget.num_chains,
        num_burnin=budget.num_burnin, num_draws=budget.num_draws, thinning=budget.thinning, baseline="full", layout="vmap",
    )  # fmt: skip
    estimate = llc(samples)
    return {
        "mean": estimate.mean,
        "std_error": estimate.std_error,
        "rhat": estimate.rhat,
        "diverged": np.any(estimate.diverged),
        "step_size": np.mean(samples.step_size),
    }


def by_nuts(key: PRNGKey, posterior: LocalPosterior, budget: Nuts) -> Arrays:
    """λ̂ by NUTS; `diverged` means that λ̂ is not a number, as one bad proposal is rejected and harms nothing."""
    estimate = nuts_llc(
        key, posterior, num_chains=budget.num_chains, num_warmup=budget.num_warmup, num_draws=budget.num_draws,
        layout="vmap",
    )  # fmt: skip
    return {
        "mean": estimate.mean,
        "std_error": estimate.std_error,
        "rhat": estimate.rhat,
        "diverged": not np.isfinite(estimate.mean),
        "divergent": estimate.divergences,
    }


def leaving(key: PRNGKey, case: Case, settings: Leaving, localization: float) -> Arrays:
    """nβL, and λ and length of the nearest program, along chains from a machine, `(chain, draw)`; λ is NaN at no solver.

    Raises:
        FloatingPointError: if a chain diverged.
    """
    posterior = local_posterior(case, settings.nbeta, localization)
    tune_key, key = jax.random.split(key)
    tuned = Sampler(sgld(None, integrator="leimkuhler_matthews"), step_fraction=STEP_FRACTION).tune(tune_key, posterior)
    samples = sample(
        key, posterior, tuned, num_chains=settings.num_chains, num_draws=settings.num_draws, num_burnin=0,
        thinning=settings.thinning, baseline=0.0, layout="vmap", observables={"rows": _rows},
    )  # fmt: skip
    if not samples.finite.all():
        raise FloatingPointError(f"a chain from {case.title} diverged at localization {localization:g}")
    coefficients, lengths = nearest_programs(case, samples.observables["rows"])
    return {
        "energy": settings.nbeta * samples.loss,
        "coefficient": coefficients,
        "length": lengths,
        "step_size": tuned.step_size,
    }


def nearest_programs(case: Case, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """λ and length of the programs whose rows are given, `(chain, draw, part x pair)`; NaN and 0 where none solves."""
    size = (case.machine.symbols, case.machine.states)
    tables, index = np.unique(rows.reshape(-1, rows.shape[-1]).astype(int), axis=0, return_inverse=True)
    coefficients, lengths = np.full(len(tables), np.nan), np.zeros(len(tables), int)
    for i, table in enumerate(tables):
        written, states, moves = table.reshape(len(PARTS), -1)
        delta = [
            (*pair, b, r, MOVES[d]) for pair, b, r, d in zip(np.ndindex(size), written, states, moves, strict=True)
        ]
        try:
            found = theory.program(TuringMachine(*size, delta), case.question, case.semantics)
        except ValueError:
            continue
        coefficients[i], lengths[i] = float(found.learning_coefficient), found.used_tuples
    shape = rows.shape[:-1]
    return coefficients[index].reshape(shape), lengths[index].reshape(shape)


def _rows(params: Params) -> Array:
    """The likeliest value of every simplex."""
    likeliest = [jnp.argmax(jnp.sum(params[part] ** 2, axis=-1), axis=-1).reshape(-1) for part in PARTS]
    return jnp.concatenate(likeliest).astype(jnp.float32)
