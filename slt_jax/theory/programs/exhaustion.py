"""All machines of a small size that solve a problem, with their lengths and learning coefficients."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np

from slt_jax.theory.programs.coefficient import ProgramLearningCoefficient, coefficients
from slt_jax.theory.programs.machine import MOVES, SynthesisProblem, TuringMachine
from slt_jax.theory.singular import whole_number

__all__ = ["Atlas", "atlas", "solvers"]

MOST = 10**6
"""Machines that are searched one after another at most."""


@dataclass(frozen=True)
class Atlas:
    """Every solver of a problem.

    Attributes:
        machines: the solvers, in the order of their tables.
        programs: what is known of each.
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

    >>> len(solvers(SynthesisProblem([[0], [1]], [[0], [1]], steps=1)))
    5184
    """
    problem.check(whole_number("symbols", symbols, 1), whole_number("states", states, 1))
    rows = list(product(range(symbols), range(states), MOVES))
    pairs = list(product(range(symbols), range(states)))
    if len(rows) ** len(pairs) > MOST:
        raise ValueError(
            f"there are {len(rows) ** len(pairs):,} machines of this size, above the {MOST:,} that are searched"
        )
    found = []
    for choices in _blocks(len(rows), len(pairs)):
        tables = np.array(rows)[choices].reshape(len(choices), symbols, states, 3)
        for index in np.flatnonzero(_solve(tables, problem)):
            chosen = [(*pair, *rows[choice]) for pair, choice in zip(pairs, choices[index], strict=True)]
            found.append(TuringMachine(symbols, states, chosen))
    return found


def atlas(
    problem: SynthesisProblem,
    semantics: str = "markov",
    potential: str = "nll",
    prior: str = "uniform",
    symbols: int = 2,
    states: int = 2,
) -> Atlas:
    """The exact learning coefficient of every solver; arguments and errors as of `solvers` and `program`."""
    machines = solvers(problem, symbols, states)
    return Atlas(machines, coefficients(machines, problem, semantics, potential, prior))


def _blocks(num_rows: int, num_pairs: int, size: int = 1 << 16) -> Iterator[np.ndarray]:
    """Every choice of a row for each pair, `(machine, pair)`, in blocks that fit into memory."""
    for first in range(0, num_rows**num_pairs, size):
        numbers = np.arange(first, min(first + size, num_rows**num_pairs))
        yield np.stack(np.unravel_index(numbers, (num_rows,) * num_pairs), axis=1)


def _solve(tables: np.ndarray, problem: SynthesisProblem) -> np.ndarray:
    """Which of the `tables` `(machine, symbol, state, new symbol/new state/move)` solve `problem`, `(machine,)` of bool."""
    machine = np.arange(len(tables))
    right = np.ones(len(tables), bool)
    reach = problem.steps + abs(problem.square or 0)
    for word, accepted in zip(problem.inputs, problem.accepted, strict=True):
        tape = np.zeros((len(tables), 2 * reach + 1), np.int64)
        shown = word[: reach + 1]
        tape[:, reach : reach + len(shown)] = shown
        head, state = np.full(len(tables), reach), np.zeros(len(tables), np.int64)
        for _ in range(problem.steps):
            row = tables[machine, tape[machine, head], state]
            tape[machine, head], state, head = row[:, 0], row[:, 1], head + row[:, 2]
        output = state if problem.square is None else tape[machine, head + problem.square]
        right &= np.isin(output, accepted)
    return right
