"""The computing half of `programs`: every part once, kept as a piece, and all of it as one dataset."""

from itertools import product
from typing import Any

import jax
import numpy as np
import xarray

from configs.programs import Programs
from experiments.programs import exact, sampled
from experiments.programs.correction import GUARDS, REDUNDANCY, VARIANTS
from experiments.programs.machines import (
    CASES,
    PADDED,
    PROBLEMS,
    RIVALS,
    STEPPED,
    Case,
    Rivals,
    case_named,
)
from experiments.programs.quadrature import factors, one_step_values
from experiments.programs.tempering import free_energies, ladder_to
from slt_jax.progress import progress_bar
from slt_jax.theory import LearningCoefficient, finite_nbeta_llc, program
from slt_jax.theory.programs import SEMANTICS
from slt_jax.typing import PRNGKey
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder

__all__ = ["SAMPLERS", "check", "run"]

SAMPLERS = ("SGLD", "NUTS")
PADDED_CASE = "bit, least λ"
"""The machine whose padded versions are also tempered and sampled."""
Row = dict[str, np.ndarray]


def check(config: Programs) -> None:
    """UserError for a name that does not exist, before anything is written."""
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
    if _extra(config) < 0:
        raise UserError(f"max_states = {config.max_states}; it must be at least 2")
    if max(config.nbetas) > config.largest_nbeta:
        raise UserError(f"largest_nbeta = {config.largest_nbeta:g}; it must be at least every one of nbetas")


def run(config: Programs, folder: RunFolder) -> tuple[xarray.Dataset, list[str]]:
    """Compute whatever is not in `folder` yet; returns the results and one sentence for every estimate that diverged."""
    jobs = _jobs(config)
    rows: dict[str, Row] = {}
    with progress_bar("programs", len(jobs)) as update:
        for finished, (name, compute) in enumerate(jobs.items(), 1):
            rows[name] = folder.piece(name, compute)
            update(finished, name)
    return _dataset(config, rows), [name for name, row in rows.items() if row.get("diverged")]


def _jobs(config: Programs) -> dict[str, Any]:
    """What computes each piece, by the piece's name, in the order of the report."""
    jobs: dict[str, Any] = {}
    for problem, semantics in _atlases(config):
        steps = config.atlas.bit_steps if problem == "bit" else config.atlas.steps
        jobs[f"atlas/{problem}/{semantics}"] = lambda p=problem, s=semantics, t=steps: exact.atlas(p, t, s)
    jobs["padding"] = lambda: exact.padding(_extra(config))
    jobs["steps"] = lambda: exact.steps(config.max_steps)
    jobs["correction"] = exact.correction
    for case in map(case_named, config.cases):
        jobs[f"ladder/{_slug(case.name)}"] = lambda c=case: _ladder(config, c)
        for nbeta, sampler in product(config.nbetas, SAMPLERS):
            jobs[_estimate(case, nbeta, sampler)] = lambda c=case, n=nbeta, s=sampler: _sample(config, c, n, s)
    for extra, prior in product(range(_extra(config) + 1), exact.PADDING_PRIORS):
        jobs[_padded_ladder(extra, prior)] = lambda e=extra, p=prior: _temper_padded(config, e, p)
    for extra in range(_extra(config) + 1):
        case, nbeta = _padded(extra), config.nbetas[0]
        jobs[_estimate(case, nbeta, "NUTS")] = lambda c=case, n=nbeta: _sample(config, c, n, "NUTS")
    for which, case in RIVALS[config.rivals]._asdict().items():
        jobs[f"rivals/{which}"] = lambda c=case: _ladder(config, c)
    for localization in config.leaving.localizations:
        jobs[f"leaving/{localization:g}"] = lambda g=localization: sampled.leaving(
            _key(config, "leaving", f"{g:g}"), case_named(config.leaving.case), config.leaving, g
        )
    return jobs


def _atlases(config: Programs) -> list[tuple[str, str]]:
    return list(product(config.atlas.problems, config.atlas.semantics))


def _extra(config: Programs) -> int:
    """Idle states at most."""
    return config.max_states - CASES[PADDED_CASE].machine.states


def _slug(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "-").replace("/", "over").replace("=", "is")


def _estimate(case: Case, nbeta: float, sampler: str) -> str:
    return f"estimates/{_slug(case.name)}/{nbeta:g}/{sampler.lower()}"


def _padded_ladder(extra: int, prior: str) -> str:
    return f"padded/{extra}/{prior}"


def _padded(extra: int) -> Case:
    case = CASES[PADDED_CASE]
    if not extra:
        return case  # under its own name, so that it is not measured twice
    return case._replace(name=f"{case.name}, padded by {extra}", machine=case.machine.padded(extra))


def _key(config: Programs, *labels: str) -> PRNGKey:
    """A key that belongs to its labels, whatever else is computed beside them."""
    key = jax.random.key(config.seed)
    for byte in "/".join(labels).encode():
        key = jax.random.fold_in(key, byte)
    return key


def _sample(config: Programs, case: Case, nbeta: float, sampler: str) -> dict[str, Any]:
    posterior = sampled.local_posterior(case, nbeta, config.localization)
    key = _key(config, _estimate(case, nbeta, sampler))
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
    case = _padded(extra)
    sizes = {"write": case.machine.symbols, "state": case.machine.states, "move": 3}
    exponents = {part: 1.0 if prior == "uniform" else 1 / (size - 1) for part, size in sizes.items()}
    return _ladder(config, case, wrong_exponents=exponents)


def _dataset(config: Programs, rows: dict[str, Row]) -> xarray.Dataset:
    """One dataset: dims of each part are its own."""
    parts = [
        _atlas_part(config, rows),
        _exact_parts(config, rows),
        _measured_part(config, rows),
        _course_part(config, rows),
    ]
    return xarray.merge(parts)


def _names(values: Any) -> np.ndarray:
    # As objects: zarr stores those as strings of any length, which its format specifies.
    return np.array(list(values), object)


def _atlas_part(config: Programs, rows: dict[str, Row]) -> xarray.Dataset:
    """All programs of all atlases one after another, dim `program`; `atlas_of` says whose."""
    found = [rows[f"atlas/{problem}/{semantics}"] for problem, semantics in _atlases(config)]
    steps = [config.atlas.bit_steps if problem == "bit" else config.atlas.steps for problem, _ in _atlases(config)]
    joined = {
        f"program_{name}": ("program", np.concatenate([row[name] for row in found]))
        for name in ("length", "numerator", "denominator", "multiplicity", "fatal", "strict")
    }
    counts = [len(row["length"]) for row in found]
    return xarray.Dataset(
        {
            **joined,
            "program_table": (("program", "pair", "row"), np.concatenate([row["table"] for row in found])),
            "program_atlas": ("program", np.repeat(np.arange(len(found)), counts)),
            "atlas_problem": ("atlas", _names(problem for problem, _ in _atlases(config))),
            "atlas_semantics": ("atlas", _names(semantics for _, semantics in _atlases(config))),
            "atlas_steps": ("atlas", steps),
            "atlas_seconds": ("atlas", [float(row["seconds"]) for row in found]),
        }
    )


def _exact_parts(config: Programs, rows: dict[str, Row]) -> xarray.Dataset:
    padding, steps, correction = rows["padding"], rows["steps"], rows["correction"]
    dims = {
        "padding": ("padded_machine", "known_semantics", "prior", "extra"),
        "steps": ("stepped_machine", "known_semantics", "t"),
        "machine": ("redundant_machine", "known_semantics"),
        "variant": ("guard", "known_semantics"),
    }
    variables = {f"padding_{key}": (dims["padding"], value) for key, value in padding.items()}
    variables |= {f"steps_{key}": (dims["steps"], value) for key, value in steps.items()}
    variables |= {f"correction_{key}": (dims[key.split("_")[0]], value) for key, value in correction.items()}
    return xarray.Dataset(
        variables,
        coords={
            "padded_machine": _names(PADDED),
            "known_semantics": _names(exact.STEP_SEMANTICS),
            "prior": _names(exact.PADDING_PRIORS),
            "extra": np.arange(_extra(config) + 1),
            "stepped_machine": _names(STEPPED),
            "t": np.arange(1, config.max_steps + 1),
            "redundant_machine": _names(REDUNDANCY),
            "guard": _names(" ".join(map(str, guard)) for guard in VARIANTS),
            "named_guard": _names(GUARDS),
        },
    )


def _measured_part(config: Programs, rows: dict[str, Row]) -> xarray.Dataset:
    """Estimates `(case, nbeta, sampler)` beside the value at finite nβ and γ, and what λ and m predict."""
    cases = [case_named(name) for name in config.cases]
    each = [[_finite(config, case, nbeta, rows) for nbeta in config.nbetas] for case in cases]
    known = [program(case.machine, case.question, case.semantics) for case in cases]
    coefficients = [LearningCoefficient(found.learning_coefficient, found.multiplicity) for found in known]
    ladders = [rows[f"ladder/{_slug(case.name)}"] for case in cases]
    courses = {
        f"course_{key}": (("case", "rung"), np.array([ladder[key] for ladder in ladders]))
        for key in ("value", "value_error")
    }
    estimates = {
        f"estimate_{key}": (
            ("case", "nbeta", "sampler"),
            [[[float(rows[_estimate(c, n, m)][key]) for m in SAMPLERS] for n in config.nbetas] for c in cases],
        )
        for key in ("mean", "std_error", "rhat")
    }
    finite = {
        f"finite_{key}": (("case", "nbeta"), [[point[key] for point in line] for line in each]) for key in each[0][0]
    }
    return xarray.Dataset(
        {
            **estimates,
            **courses,
            **finite,
            "asymptotic": (("case", "nbeta"), [[finite_nbeta_llc(k, n) for n in config.nbetas] for k in coefficients]),
            "coefficient": ("case", [float(k.learning_coefficient) for k in coefficients]),
            "coefficient_name": ("case", _names(str(k.learning_coefficient) for k in coefficients)),
            "multiplicity": ("case", [k.multiplicity for k in coefficients]),
            "fatal": ("case", [len(found.linear_syndromes) for found in known]),
            "case_title": ("case", _names(case.title for case in cases)),
        },
        coords={"case": _names(config.cases), "nbeta": list(config.nbetas), "sampler": _names(SAMPLERS)},
    )


def _finite(config: Programs, case: Case, nbeta: float, rows: dict[str, Row]) -> dict[str, float]:
    """nβE[L] and F by tempering, and by quadrature where the loss factors (NaN elsewhere)."""
    ladder = rows[f"ladder/{_slug(case.name)}"]
    at = int(np.flatnonzero(ladder["nbeta"] == nbeta)[0])
    by_quadrature = (np.nan, np.nan)
    if factors(case.machine, case.question):
        by_quadrature = one_step_values(case.machine, case.question, nbeta, config.localization)
    found = {key: float(ladder[key][at]) for key in ("value", "value_error", "free_energy", "free_energy_error")}
    return {**found, "quadrature": by_quadrature[0], "free_energy_quadrature": by_quadrature[1]}


def _course_part(config: Programs, rows: dict[str, Row]) -> xarray.Dataset:
    """Ladders to large nβ (padded machines, rivals) and the chains that may leave."""
    extras, keys = range(_extra(config) + 1), ("value", "value_error", "free_energy", "free_energy_error")
    variables: dict[str, Any] = {}
    for key in keys:
        ladders = [[rows[_padded_ladder(e, prior)][key] for e in extras] for prior in exact.PADDING_PRIORS]
        variables[f"padded_{key}"] = (("prior", "extra", "rung"), np.array(ladders))
        variables[f"rivals_{key}"] = (("rival", "rung"), np.array([rows[f"rivals/{r}"][key] for r in Rivals._fields]))
    for key in ("mean", "std_error"):
        values = [float(rows[_estimate(_padded(e), config.nbetas[0], "NUTS")][key]) for e in extras]
        variables[f"padded_nuts_{key}"] = ("extra", values)
    known = [program(case.machine, case.question, case.semantics) for case in RIVALS[config.rivals]]
    variables["rivals_title"] = ("rival", _names(case.title for case in RIVALS[config.rivals]))
    variables["rivals_coefficient"] = ("rival", [float(found.learning_coefficient) for found in known])
    variables["rivals_multiplicity"] = ("rival", [found.multiplicity for found in known])
    variables["rivals_length"] = ("rival", [found.used_tuples for found in known])
    chains = [rows[f"leaving/{g:g}"] for g in config.leaving.localizations]
    for key in ("energy", "coefficient", "length"):
        variables[f"leaving_{key}"] = (("localization", "chain", "draw"), np.array([row[key] for row in chains]))
    variables["leaving_step_size"] = ("localization", [float(row["step_size"]) for row in chains])
    coords = {
        "rung_nbeta": ("rung", rows["rivals/short"]["nbeta"]),
        "rival": _names(Rivals._fields),
        "localization": list(config.leaving.localizations),
    }
    return xarray.Dataset(variables, coords=coords)
