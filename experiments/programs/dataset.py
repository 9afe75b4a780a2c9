"""All of a run as one dataset, in which every part has dims of its own."""

from typing import Any

import numpy as np
import xarray

from configs.programs import Programs
from experiments.programs import exact
from experiments.programs.correction import GUARDS, REDUNDANCY, VARIANTS
from experiments.programs.machines import PADDED, RIVALS, STEPPED, Case, Rivals, case_named
from experiments.programs.pieces import (
    atlas_piece,
    atlases,
    estimate_piece,
    extra_states,
    ladder_piece,
    padded_case,
    padded_piece,
    sampled_extras,
)
from experiments.programs.quadrature import factors, one_step_values
from slt_jax.theory import LearningCoefficient, finite_nbeta_llc, program
from slt_jax.theory.programs import used_tuples
from slt_jax.theory.programs.machine import MOVES

__all__ = ["SAMPLERS", "dataset"]

SAMPLERS = ("SGLD", "NUTS")
Row = dict[str, np.ndarray]


def dataset(config: Programs, rows: dict[str, Row]) -> xarray.Dataset:
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
    found = [rows[atlas_piece(problem, semantics)] for problem, _, semantics in atlases(config)]
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
            "atlas_problem": ("atlas", _names(problem for problem, _, _ in atlases(config))),
            "atlas_semantics": ("atlas", _names(semantics for *_, semantics in atlases(config))),
            "atlas_steps": ("atlas", [steps for _, steps, _ in atlases(config)]),
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
            "extra": np.arange(extra_states(config) + 1),
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
    ladders = [rows[ladder_piece(case)] for case in cases]
    courses = {
        f"course_{key}": (("case", "rung"), np.array([ladder[key] for ladder in ladders]))
        for key in ("value", "value_error", "acceptance")
    }
    estimates = {
        f"estimate_{key}": (
            ("case", "nbeta", "sampler"),
            [[[float(rows[estimate_piece(c, n, m)][key]) for m in SAMPLERS] for n in config.nbetas] for c in cases],
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
    ladder = rows[ladder_piece(case)]
    at = int(np.flatnonzero(ladder["nbeta"] == nbeta)[0])
    by_quadrature = (np.nan, np.nan)
    if factors(case.machine, case.question):
        by_quadrature = one_step_values(case.machine, case.question, nbeta, config.localization)
    found = {key: float(ladder[key][at]) for key in ("value", "value_error", "free_energy", "free_energy_error")}
    return {**found, "quadrature": by_quadrature[0], "free_energy_quadrature": by_quadrature[1]}


def _course_part(config: Programs, rows: dict[str, Row]) -> xarray.Dataset:
    """Ladders to large nβ (padded machines, rivals) and the chains that may leave."""
    extras, keys = sampled_extras(config), ("value", "value_error", "free_energy", "free_energy_error", "acceptance")
    variables: dict[str, Any] = {}
    for key in keys:
        ladders = [[rows[padded_piece(e, prior)][key] for e in extras] for prior in exact.PADDING_PRIORS]
        variables[f"padded_{key}"] = (("prior", "sampled_extra", "rung"), np.array(ladders))
        variables[f"rivals_{key}"] = (("rival", "rung"), np.array([rows[f"rivals/{r}"][key] for r in Rivals._fields]))
    for key in ("mean", "std_error"):
        values = [float(rows[estimate_piece(padded_case(e), config.nbetas[0], "NUTS")][key]) for e in extras]
        variables[f"padded_nuts_{key}"] = ("sampled_extra", values)
    known = [program(case.machine, case.question, case.semantics) for case in RIVALS[config.rivals]]
    variables["rivals_title"] = ("rival", _names(case.title for case in RIVALS[config.rivals]))
    variables["rivals_coefficient"] = ("rival", [float(found.learning_coefficient) for found in known])
    variables["rivals_multiplicity"] = ("rival", [found.multiplicity for found in known])
    variables["rivals_length"] = ("rival", [found.used_tuples for found in known])
    variables["rivals_log_tables"] = ("rival", [_log_tables(case) for case in RIVALS[config.rivals]])
    chains = [rows[f"leaving/{g:g}"] for g in config.leaving.localizations]
    for key in ("energy", "coefficient", "length"):
        variables[f"leaving_{key}"] = (("localization", "chain", "draw"), np.array([row[key] for row in chains]))
    variables["leaving_step_size"] = ("localization", [float(row["step_size"]) for row in chains])
    coords = {
        "rung_nbeta": ("rung", rows["rivals/short"]["nbeta"]),
        "sampled_extra": np.array(extras),
        "rival": _names(Rivals._fields),
        "localization": list(config.leaving.localizations),
    }
    return xarray.Dataset(variables, coords=coords)


def _log_tables(case: Case) -> float:
    """log of how many machines run this program: the rows that it does not meet are free."""
    machine = case.machine
    free = machine.symbols * machine.states - len(used_tuples(machine, case.question))
    return float(free * np.log(machine.symbols * machine.states * len(MOVES)))
