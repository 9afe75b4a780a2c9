"""The synthesis problems and the machines that the experiment looks at."""

from functools import partial
from typing import NamedTuple

from slt_jax.theory import SynthesisProblem, TuringMachine
from slt_lab.errors import UserError

__all__ = [
    "CASES", "PADDED", "PROBLEMS", "RIVALS", "STEPPED", "Case", "Rivals", "case_named", "code_word", "machine_of",
    "problem_named", "table_of",
]  # fmt: skip

WORDS = ((0, 0), (0, 1), (1, 0), (1, 1))
TRUTH = {
    "and": (0, 0, 0, 1), "or": (0, 1, 1, 1), "nor": (1, 0, 0, 0), "xor": (0, 1, 1, 0),
    "zero-then-one": (0, 1, 0, 0), "one-then-zero": (0, 0, 1, 0),
}  # fmt: skip
PROBLEMS = (*TRUTH, "bit")
DETECT = "detect-A"


def problem_named(name: str, steps: int) -> SynthesisProblem:
    """Two bits are read, and the state says whether the answer is yes; for the bit the state repeats it.

    `detect-A` has three symbols, blank, A and B; the state says whether the word of one letter is an A.

    Raises:
        UserError: for an unknown name.
    """
    if name == "bit":
        return SynthesisProblem([[0], [1]], [[0], [1]], steps)
    if name == DETECT:
        return SynthesisProblem([[1], [2]], [[1], [0]], steps)
    if name not in TRUTH:
        raise UserError(f"there is no problem '{name}'; there are: {', '.join((*PROBLEMS, DETECT))}")
    return SynthesisProblem(WORDS, [[output] for output in TRUTH[name]], steps)


machine_of = partial(TuringMachine, 2, 2)
DETECTOR = TuringMachine(
    3, 2, [[0, 0, 0, 0, 0], [0, 1, 0, 1, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 0], [2, 0, 2, 0, 1], [2, 1, 2, 1, 0]]
)
BIT_LEAST = machine_of([[0, 0, 0, 0, -1], [0, 1, 0, 1, -1], [1, 0, 0, 1, -1], [1, 1, 0, 1, -1]])
BIT_MIDDLE = machine_of([[0, 0, 0, 0, -1], [0, 1, 0, 0, -1], [1, 0, 1, 1, 0], [1, 1, 1, 1, 0]])
BIT_LARGEST = machine_of([[0, 0, 1, 0, 0], [0, 1, 0, 0, -1], [1, 0, 1, 1, 0], [1, 1, 1, 0, 0]])
AND_LONG_T4 = machine_of([[0, 0, 0, 1, -1], [0, 1, 0, 0, -1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1]])
AND_SHORT_T4 = machine_of([[0, 0, 0, 0, 1], [0, 1, 0, 0, 1], [1, 0, 0, 1, -1], [1, 1, 0, 0, -1]])
AND_SHORT = machine_of([[0, 0, 0, 0, 1], [0, 1, 0, 0, -1], [1, 0, 0, 1, 0], [1, 1, 0, 0, -1]])
AND_LONG = machine_of([[0, 0, 0, 0, -1], [0, 1, 0, 0, -1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 0]])
XOR_SHORT = machine_of([[0, 0, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1], [1, 1, 0, 0, -1]])
XOR_LONG = machine_of([[0, 0, 0, 0, 1], [0, 1, 0, 1, 1], [1, 0, 0, 1, 1], [1, 1, 0, 0, 0]])


class Case(NamedTuple):
    """A machine that solves a problem, under one semantics.

    Attributes:
        name: unique, short, as shown in tables.
        machine: the machine.
        problem: the name of its problem.
        steps: t.
        semantics: how noisy steps are run.
    """

    name: str
    machine: TuringMachine
    problem: str
    steps: int
    semantics: str

    @property
    def question(self) -> SynthesisProblem:
        """What the machine solves."""
        return problem_named(self.problem, self.steps)

    @property
    def title(self) -> str:
        """Name, number of steps and semantics."""
        return f"{self.name}, t = {self.steps}, {self.semantics}"


CASES = {
    case.name: case
    for case in (
        Case("detect-A, one step", DETECTOR, DETECT, 1, "markov"),
        Case("detect-A, two steps", DETECTOR, DETECT, 2, "gps"),
        Case("bit, least λ", BIT_LEAST, "bit", 3, "markov"),
        Case("bit, λ = 28/3", BIT_MIDDLE, "bit", 3, "markov"),
        Case("bit, largest λ", BIT_LARGEST, "bit", 3, "markov"),
        Case("AND, three tuples", AND_SHORT_T4, "and", 4, "naive"),
        Case("AND, four tuples, t4", AND_LONG_T4, "and", 4, "naive"),
        Case("AND, four tuples", AND_LONG, "and", 5, "gps"),
    )
}
"""The machines that are sampled."""


def case_named(name: str) -> Case:
    """A case of `CASES`; UserError if there is none."""
    if name not in CASES:
        raise UserError(f"there is no case '{name}'; there are: {', '.join(CASES)}")
    return CASES[name]


class Rivals(NamedTuple):
    """Two programs for one function: the shortest of least λ, and a longer one whose λ is lower still."""

    short: Case
    long: Case


RIVALS = {
    "AND": Rivals(
        Case("AND, three tuples", AND_SHORT, "and", 5, "gps"), Case("AND, four tuples", AND_LONG, "and", 5, "gps")
    ),
    "XOR": Rivals(
        Case("XOR, three tuples", XOR_SHORT, "xor", 5, "markov"), Case("XOR, four tuples", XOR_LONG, "xor", 5, "markov")
    ),
    "bit": Rivals(CASES["bit, λ = 28/3"], CASES["bit, least λ"]),
}
"""By function; the two for the bit are of one length."""

PADDED = {"least λ": BIT_LEAST, "λ = 28/3": BIT_MIDDLE, "largest λ": BIT_LARGEST}
"""One-bit machines (t = 3) that idle states are added to."""

STEPPED = {
    "AND, three tuples": ("and", AND_SHORT),
    "AND, four tuples": ("and", AND_LONG),
    "XOR, four tuples": ("xor", XOR_LONG),
    "bit, least λ": ("bit", BIT_LEAST),
    "bit, λ = 28/3": ("bit", BIT_MIDDLE),
}
"""Machines whose λ is followed over the number of steps."""


def table_of(machine: TuringMachine) -> list[list[int]]:
    """New symbol, new state and move of every pair (symbol, state) in order, `(pair, 3)`."""
    return [list(row[2:]) for row in machine.delta]


def code_word(machine: TuringMachine) -> str:
    """The table in one line: new symbol, new state, move for (symbol, state) = 00, 01, 10, 11."""
    return " ".join(f"{b}{r}{d:+d}" for b, r, d in table_of(machine))
