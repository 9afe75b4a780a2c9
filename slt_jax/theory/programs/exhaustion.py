"""All machines of a small size that solve a problem, with their lengths and learning coefficients."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np

from slt_jax.theory.programs.coefficient import ProgramLearningCoefficient, coefficients
from slt_jax.theory.programs.machine import MOVES, SynthesisProblem, TuringMachine
from slt_jax.theory.singular import whole_number

__all__ = ["Atlas", "all_tables", "atlas", "deterministic_outputs", "solvers"]

MOST = 10**6
"""Machines that are searched one after another at most."""
BLOCK = 1 << 16


@dataclass(frozen=True)
class Atlas:
    """Every solver of a problem.

    Attributes:
        machines: the solvers, in the order of their tables.
        programs: what is known of each.

    Example:
        >>> from slt_jax.theory import SynthesisProblem, atlas
        >>> found = atlas(SynthesisProblem([[0]], [[1]], steps=1, output=("square", 0)), states=1)
        >>> len(found.machines) == len(found.programs)
        True
    """

    machines: list[TuringMachine]
    programs: list[ProgramLearningCoefficient]

    def least(self) -> dict[int, Fraction]:
        """The least λ at each program length, by length."""
        least: dict[int, Fraction] = {}
        for found in self.programs:
            length, value = found.used_tuples, found.learning_coefficient
            least[length] = min(value, least.get(length, value))
        return dict(sorted(least.items()))

    def simple_against_short(self) -> list[int]:
        """Indices of the machines whose λ is below that of every shortest solver, least λ first: simpler, and longer.

        Empty where some shortest solver has the least λ.
        """
        least = self.least()
        if not least:
            return []
        shortest = next(iter(least.values()))
        longer = [i for i, found in enumerate(self.programs) if found.learning_coefficient < shortest]
        return sorted(longer, key=lambda i: self.programs[i].learning_coefficient)


def solvers(problem: SynthesisProblem, symbols: int = 2, states: int = 2) -> list[TuringMachine]:
    """Every machine with `symbols` symbols and `states` states that solves `problem`, by exhaustion.

    Raises:
        ValueError: for more than a million machines, or a problem that machines of this size cannot state.

    >>> from slt_jax.theory import SynthesisProblem, solvers
    >>> len(solvers(SynthesisProblem([[0], [1]], [[0], [1]], steps=1)))
    5184
    """
    if not isinstance(problem, SynthesisProblem):
        raise ValueError(f"problem must be a SynthesisProblem, got {type(problem).__name__}")
    problem.check(whole_number("symbols", symbols, 1), whole_number("states", states, 1))
    pairs = list(np.ndindex(symbols, states))
    return [
        TuringMachine(symbols, states, [(*pair, *table[pair]) for pair in pairs])
        for tables in all_tables(symbols, states)
        for table in tables[_solve(tables, problem)]
    ]


def atlas(
    problem: SynthesisProblem,
    semantics: str = "markov",
    potential: str = "nll",
    prior: str = "uniform",
    symbols: int = 2,
    states: int = 2,
) -> Atlas:
    """The exact learning coefficient of every solver; arguments and errors as of `solvers` and `program`.

    Example:
        >>> from slt_jax.theory import SynthesisProblem, atlas
        >>> found = atlas(SynthesisProblem([[0]], [[1]], steps=1, output=("square", 0)), states=1)
        >>> len(found.machines), min(one.learning_coefficient for one in found.programs)
        (6, Fraction(3, 1))
    """
    machines = solvers(problem, symbols, states)
    return Atlas(machines, coefficients(machines, problem, semantics, potential, prior))


def all_tables(symbols: int, states: int, most: int = MOST) -> Iterator[np.ndarray]:
    """The tables `(machine, symbol, state, new symbol/new state/move)` of all machines of a size, in blocks that fit into memory.

    Raises:
        ValueError: if there are more than `most`.
    """
    rows = np.array(list(product(range(symbols), range(states), MOVES)))
    pairs = symbols * states
    if pairs * np.log10(len(rows)) > 15:
        raise ValueError(f"there are more than 10^15 machines of this size, above the {most:,} that are searched")
    count = len(rows) ** pairs
    if count > most:
        raise ValueError(f"there are {count:,} machines of this size, above the {most:,} that are searched")
    for first in range(0, count, BLOCK):
        numbers = np.arange(first, min(first + BLOCK, count))
        choices = np.stack(np.unravel_index(numbers, (len(rows),) * pairs), axis=1)
        yield rows[choices].reshape(len(choices), symbols, states, 3)


def deterministic_outputs(tables: np.ndarray, problem: SynthesisProblem) -> np.ndarray:
    """What machines answer, `(machine, input)`.

    `tables` `(machine, symbol, state, 3)` hold new symbol, new state and move of every pair (symbol, state).
    """
    machine = np.arange(len(tables))
    reach = problem.steps + abs(problem.square or 0)
    outputs = []
    for word in problem.inputs:
        tape = np.zeros((len(tables), 2 * reach + 1), np.int64)
        shown = word[: reach + 1]
        tape[:, reach : reach + len(shown)] = shown
        head, state = np.full(len(tables), reach), np.zeros(len(tables), np.int64)
        for _ in range(problem.steps):
            row = tables[machine, tape[machine, head], state]
            tape[machine, head], state, head = row[:, 0], row[:, 1], head + row[:, 2]
        outputs.append(state if problem.square is None else tape[machine, head + problem.square])
    return np.stack(outputs, axis=1)


def _solve(tables: np.ndarray, problem: SynthesisProblem) -> np.ndarray:
    """Which of the `tables` solve `problem`, `(machine,)` of bool."""
    outputs = deterministic_outputs(tables, problem)
    right = [np.isin(column, accepted) for column, accepted in zip(outputs.T, problem.accepted, strict=True)]
    return np.all(right, axis=0)
