"""What is computed exactly: atlases, padding, growth with the number of steps, and machines that put their errors right."""

import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from experiments.programs.correction import REDUNDANCY, VARIANTS
from experiments.programs.machines import PADDED, STEPPED, problem_named, table_of
from slt_jax import theory
from slt_jax.theory.programs import coefficients

__all__ = ["PADDING_PRIORS", "STEP_SEMANTICS", "atlas", "correction", "padding", "steps"]

PADDING_PRIORS = ("uniform", "unit-error-mass")
STEP_SEMANTICS = ("naive", "gps", "markov")
Arrays = dict[str, Any]


def atlas(problem: str, steps: int, semantics: str) -> Arrays:
    """Every solver of a problem, `(program,)`: length, λ as a fraction, m, errors fatal alone, table; the bound is asserted.

    `strict` marks the programs whose λ is below that of every shortest one; `seconds` are those of the processor.
    """
    started = time.process_time()
    found = theory.atlas(problem_named(problem, steps), semantics)
    programs = found.programs
    for program in programs:
        if not program.learning_coefficient <= program.bound == 4 * program.used_tuples:
            raise ArithmeticError(f"{problem}, {semantics}: λ is above its bound, so the theory or its code is wrong")
    strict = np.isin(np.arange(len(programs)), found.simple_against_short())
    return {
        "length": [program.used_tuples for program in programs],
        "numerator": [program.learning_coefficient.numerator for program in programs],
        "denominator": [program.learning_coefficient.denominator for program in programs],
        "multiplicity": [program.multiplicity for program in programs],
        "fatal": [len(program.linear_syndromes) for program in programs],
        "strict": strict,
        "table": np.array([table_of(machine) for machine in found.machines], np.int8),
        "seconds": time.process_time() - started,
    }


def padding(extra_states: int) -> Arrays:
    """λ of one-bit machines, t = 3, with idle states added, `(machine, semantics, prior, extra states)`."""
    problem = problem_named("bit", 3)
    values = [
        theory.program(machine.padded(extra), problem, semantics, prior=prior).learning_coefficient
        for machine, semantics, prior, extra in product(
            PADDED.values(), STEP_SEMANTICS, PADDING_PRIORS, range(extra_states + 1)
        )
    ]
    return _fractions(values, (len(PADDED), len(STEP_SEMANTICS), len(PADDING_PRIORS), extra_states + 1))


def steps(max_steps: int) -> Arrays:
    """λ and m against t = 1, ..., `(machine, semantics, t)`; 0 where the machine does not solve its problem."""
    values, multiplicities = [], []
    for (name, machine), semantics, t in product(STEPPED.values(), STEP_SEMANTICS, range(1, max_steps + 1)):
        try:
            found = theory.program(machine, problem_named(name, t), semantics)
        except ValueError:
            values.append(Fraction(0))
            multiplicities.append(0)
        else:
            values.append(found.learning_coefficient)
            multiplicities.append(found.multiplicity)
    shape = (len(STEPPED), len(STEP_SEMANTICS), max_steps)
    return {**_fractions(values, shape), "multiplicity": np.array(multiplicities).reshape(shape)}


def correction() -> Arrays:
    """Machines with redundancy beside plain ones, `(machine, semantics)`, and the guard's twelve variants, `(variant, ...)`.

    `fatal` counts the errors that are fatal alone.
    """
    machines = [
        _numbers(theory.program(each.machine, each.problem, semantics))
        for each, semantics in product(REDUNDANCY.values(), STEP_SEMANTICS)
    ]
    variants = list(_variants())
    shapes = (len(REDUNDANCY), len(STEP_SEMANTICS)), (len(VARIANTS), len(STEP_SEMANTICS))
    return {
        f"{name}_{key}": np.array([row[key] for row in rows]).reshape(shape)
        for name, rows, shape in (("machine", machines, shapes[0]), ("variant", variants, shapes[1]))
        for key in ("numerator", "denominator", "multiplicity", "fatal", "length")
    }


def _variants() -> Iterator[dict[str, int]]:
    problem = problem_named("bit", 3)
    together = {semantics: coefficients(list(VARIANTS.values()), problem, semantics) for semantics in STEP_SEMANTICS}
    for i, semantics in product(range(len(VARIANTS)), STEP_SEMANTICS):
        yield _numbers(together[semantics][i])


def _numbers(program: theory.ProgramLearningCoefficient) -> dict[str, int]:
    return {
        "numerator": program.learning_coefficient.numerator,
        "denominator": program.learning_coefficient.denominator,
        "multiplicity": program.multiplicity,
        "fatal": len(program.linear_syndromes),
        "length": program.used_tuples,
    }


def _fractions(values: list[Fraction], shape: tuple[int, ...]) -> Arrays:
    return {
        "numerator": np.array([value.numerator for value in values]).reshape(shape),
        "denominator": np.array([value.denominator for value in values]).reshape(shape),
    }
