"""The computing half of `programs`: every part once, kept as a piece."""

from itertools import product
from typing import Any

import jax
import numpy as np
import xarray

from configs.programs import Programs
from experiments.programs import exact, sampled
from experiments.programs.dataset import SAMPLERS, dataset
from experiments.programs.machines import CASES, PROBLEMS, RIVALS, Case, case_named
from experiments.programs.pieces import (
    PADDED_CASE,
    atlas_piece,
    atlases,
    estimate_piece,
    extra_states,
    ladder_piece,
    padded_case,
    padded_piece,
    sampled_extras,
)
from experiments.programs.tempering import free_energies, ladder_to
from slt_jax.progress import progress_bar
from slt_jax.theory.programs import SEMANTICS
from slt_jax.typing import PRNGKey
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.nuts import FEWEST_DRAWS, FEWEST_WARMUP
from slt_lab.settings import require

__all__ = ["check", "run"]


def check(config: Programs) -> None:
    """Refuse names that do not exist, and numbers from which nothing can be estimated, before anything is written."""
    lists = {
        "atlas.problems": (config.atlas.problems, PROBLEMS),
        "atlas.semantics": (config.atlas.semantics, tuple(SEMANTICS)),
        "cases": (config.cases, tuple(CASES)),
    }
    for name, (chosen, known) in lists.items():
        require(len(chosen) > 0, f"{name} is empty; there are: {', '.join(known)}")
    require(len(config.nbetas) > 0, "nbetas is empty; give at least one")
    for name in config.atlas.problems:
        if name not in PROBLEMS:
            raise UserError(f"there is no problem '{name}'; there are: {', '.join(PROBLEMS)}")
    for name in config.atlas.semantics:
        if name not in SEMANTICS:
            raise UserError(f"there are no semantics '{name}'; there are: {', '.join(SEMANTICS)}")
    for name in (*config.cases, config.leaving.case):
        case_named(name)
    if config.rivals not in RIVALS:
        raise UserError(f"there are no rivals '{config.rivals}'; there are: {', '.join(RIVALS)}")
    for name, states in (("max_states", config.max_states), ("max_sampled_states", config.max_sampled_states)):
        if states < CASES[PADDED_CASE].machine.states:
            raise UserError(f"{name} = {states}; it must be at least 2")
    require(
        min(config.nbetas) > 1,
        f"nbetas holds {min(config.nbetas):g}; the asymptotic value divides by log nβ and needs nβ > 1",
    )
    require(
        max(config.nbetas) <= config.largest_nbeta,
        f"largest_nbeta = {config.largest_nbeta:g}; it must be at least every one of nbetas",
    )
    require(config.localization > 0, "localization = 0; the prior on amplitudes needs it positive")
    _check_budgets(config)


def _check_budgets(config: Programs) -> None:
    tempering, sgld, nuts = config.tempering, config.sgld, config.nuts
    require(tempering.ratio >= 1.01, f"tempering.ratio = {tempering.ratio:g}; it must be at least 1.01")
    require(tempering.repeats >= 2, f"tempering.repeats = {tempering.repeats}; their spread needs at least 2")
    require(sgld.num_draws >= 4, f"sgld.num_draws = {sgld.num_draws}; a standard error needs at least 4")
    require(
        nuts.num_warmup >= FEWEST_WARMUP, f"nuts.num_warmup = {nuts.num_warmup}; it must be at least {FEWEST_WARMUP}"
    )
    require(nuts.num_draws >= FEWEST_DRAWS, f"nuts.num_draws = {nuts.num_draws}; it must be at least {FEWEST_DRAWS}")
    draws = config.leaving.num_draws
    require(draws >= 4, f"leaving.num_draws = {draws}; the last quarter of the draws needs at least 4")


def run(config: Programs, folder: RunFolder) -> tuple[xarray.Dataset, list[str]]:
    """Compute whatever is not in `folder` yet; returns the results and one sentence for every estimate that diverged."""
    jobs = _jobs(config)
    rows: dict[str, dict[str, np.ndarray]] = {}
    with progress_bar("programs", len(jobs)) as update:
        for finished, (name, compute) in enumerate(jobs.items(), 1):
            rows[name] = folder.piece(name, compute)
            update(finished, name)
    return dataset(config, rows), [name for name, row in rows.items() if row.get("diverged")]


def _jobs(config: Programs) -> dict[str, Any]:
    """What computes each piece, by the piece's name, in the order of the report."""
    jobs: dict[str, Any] = {}
    for problem, steps, semantics in atlases(config):
        jobs[atlas_piece(problem, semantics)] = lambda p=problem, s=semantics, t=steps: exact.atlas(p, t, s)
    jobs["padding"] = lambda: exact.padding(extra_states(config))
    jobs["steps"] = lambda: exact.steps(config.max_steps)
    jobs["correction"] = exact.correction
    for case in map(case_named, config.cases):
        jobs[ladder_piece(case)] = lambda c=case: _ladder(config, c)
        for nbeta, sampler in product(config.nbetas, SAMPLERS):
            jobs[estimate_piece(case, nbeta, sampler)] = lambda c=case, n=nbeta, s=sampler: _sample(config, c, n, s)
    for extra, prior in product(sampled_extras(config), exact.PADDING_PRIORS):
        jobs[padded_piece(extra, prior)] = lambda e=extra, p=prior: _temper_padded(config, e, p)
    for extra in sampled_extras(config):
        case, nbeta = padded_case(extra), config.nbetas[0]
        jobs[estimate_piece(case, nbeta, "NUTS")] = lambda c=case, n=nbeta: _sample(config, c, n, "NUTS")
    for which, case in RIVALS[config.rivals]._asdict().items():
        jobs[f"rivals/{which}"] = lambda c=case: _ladder(config, c)
    for localization in config.leaving.localizations:
        jobs[f"leaving/{localization:g}"] = lambda g=localization: sampled.leaving(
            _key(config, "leaving", f"{g:g}"), case_named(config.leaving.case), config.leaving, g
        )
    return jobs


def _key(config: Programs, *labels: str) -> PRNGKey:
    """A key that belongs to its labels, whatever else is computed beside them."""
    key = jax.random.key(config.seed)
    for byte in "/".join(labels).encode():
        key = jax.random.fold_in(key, byte)
    return key


def _sample(config: Programs, case: Case, nbeta: float, sampler: str) -> dict[str, Any]:
    posterior = sampled.local_posterior(case, nbeta, config.localization)
    key = _key(config, estimate_piece(case, nbeta, sampler))
    if sampler == "NUTS":
        return sampled.by_nuts(key, posterior, config.nuts)
    return sampled.by_langevin(key, posterior, config.sgld)


def _ladder(config: Programs, case: Case, **options: Any) -> dict[str, Any]:
    nbetas = ladder_to(config.largest_nbeta, config.tempering.ratio, config.nbetas)
    key = _key(config, "ladder", case.title, *map(str, options.values()))
    found = free_energies(
        key, case.machine, case.question, case.semantics, config.localization, nbetas, config.tempering, **options
    )
    return found._asdict()


def _temper_padded(config: Programs, extra: int, prior: str) -> dict[str, Any]:
    """Under the second prior a wrong value out of k - 1 has the Dirichlet exponent 1/(k - 1)."""
    case = padded_case(extra)
    sizes = {"write": case.machine.symbols, "state": case.machine.states, "move": 3}
    exponents = {part: 1.0 if prior == "uniform" else 1 / (size - 1) for part, size in sizes.items()}
    return _ladder(config, case, wrong_exponents=exponents)
