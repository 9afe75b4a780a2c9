"""Error correction on purpose: machines that put an error of their own right, beside plain ones for the same function.

**A second look.** The program reads a bit on square 0. On a 1 it goes to state 1 and stays, reading again in every step; on a
0 it walks left over blanks in state 0. Those are three rows. The fourth, (0, 1), is met only after an error: the machine is in
state 1 and does not see its bit. What is written there is the guard: it costs no length, for the program never uses it.

**A vote.** The bit comes three times. The vote counts ones in its state, which takes four states, and any count above one means
yes; the plain machine looks once and holds the answer.
"""

from itertools import product
from typing import NamedTuple

from experiments.programs.machines import machine_of, problem_named
from slt_jax.theory import SynthesisProblem, TuringMachine
from slt_jax.theory.programs.machine import MOVES

__all__ = ["GUARDS", "REDUNDANCY", "VARIANTS", "Redundant", "guarded"]

GUARDS = {"unguarded": (0, 0, -1), "guard with errors of its own": (1, 0, 0), "guarded": (0, 1, 0)}
"""New symbol, new state and move of the row (0, 1)."""


class Redundant(NamedTuple):
    """A machine and what it solves."""

    machine: TuringMachine
    problem: SynthesisProblem


def guarded(guard: tuple[int, int, int]) -> TuringMachine:
    """The program that looks again, with `guard` in the row that only an error leads to."""
    return machine_of([(0, 0, 0, 0, -1), (1, 0, 1, 1, 0), (1, 1, 1, 1, 0), (0, 1, *guard)])


VARIANTS = {guard: guarded(guard) for guard in product(range(2), range(2), MOVES)}
"""The program with each of the twelve guards."""

COPIES = 3


def _with_four_states(rows: dict[tuple[int, int], tuple[int, int, int]]) -> TuringMachine:
    """`rows`, and elsewhere: write what is read, keep the state, go right."""
    every = {(a, q): (a, q, 1) for a in range(2) for q in range(COPIES + 1)} | rows
    return TuringMachine(2, COPIES + 1, [(*pair, *row) for pair, row in every.items()])


_BIT = problem_named("bit", 3)
_COPIES = SynthesisProblem([[0] * COPIES, [1] * COPIES], [[0, 1], [2, 3]], COPIES)

REDUNDANCY = {
    **{f"second look, {name}": Redundant(guarded(guard), _BIT) for name, guard in GUARDS.items()},
    "three copies, one look": Redundant(_with_four_states({(1, 0): (1, 3, 1)}), _COPIES),
    "three copies, vote": Redundant(
        _with_four_states({(1, q): (1, min(q + 1, COPIES), 1) for q in range(COPIES + 1)}), _COPIES
    ),
}
"""By name, the plain machine of each function before those with redundancy."""
