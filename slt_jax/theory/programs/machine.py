"""Turing machines, and what is asked of them: a synthesis problem.

Symbol 0 is the blank and state 0 the start. An input is written on squares 0, 1, ..., the head starts on square 0, and
after a fixed number of steps the output is read: the state, or the symbol so many squares right of the head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, NamedTuple

import numpy as np

from slt_jax.theory.singular import whole_number

__all__ = ["MOVES", "Error", "SynthesisProblem", "TuringMachine", "used_tuples", "wrong_values"]

MOVES = (-1, 0, 1)
"""Left, stay, right."""

STATE = "state"
SQUARE = "square"


class Error(NamedTuple):
    """One error coordinate: in (symbol, state) the `part` ("write", "state" or "move") comes out as the wrong `value`.

    Example:
        >>> from slt_jax.theory import SynthesisProblem, TuringMachine, error_syndromes
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> syndromes = error_syndromes(flip, SynthesisProblem([[0]], [[1]], steps=1, output=("square", 0)), "markov")
        >>> next(iter(syndromes[0]))
        Error(symbol=0, state=0, part='write', value=0)
    """

    symbol: int
    state: int
    part: str
    value: int


@dataclass(frozen=True)
class TuringMachine:
    """A deterministic machine.

    Attributes:
        symbols: |Σ|; symbols are 0 (the blank), 1, ...
        states: |Q|; states are 0 (the start), 1, ...
        delta: one row (symbol, state, new symbol, new state, move) for every pair (symbol, state), in any order; move
            is -1 (left), 0 or 1 (right). Kept as tuples, sorted.

    Raises:
        ValueError: for a number out of range, a pair without a row or with two.

    >>> from slt_jax.theory import TuringMachine
    >>> TuringMachine(2, 1, [[0, 0, 1, 0, 1], [1, 0, 1, 0, 0]]).row(0, 0)
    (1, 0, 1)
    """

    symbols: int
    states: int
    delta: Any

    def __post_init__(self) -> None:
        symbols = whole_number("symbols", self.symbols, 1)
        states = whole_number("states", self.states, 1)
        listed = _listed("delta", self.delta, "rows")
        rows = sorted(_checked_row(row, symbols, states) for row in listed)
        pairs = [row[:2] for row in rows]
        wanted = ((symbol, state) for symbol in range(symbols) for state in range(states))
        if len(pairs) != symbols * states or any(pair != one for pair, one in zip(pairs, wanted, strict=True)):
            held = set(pairs)
            missing = next((pair for pair in np.ndindex(symbols, states) if pair not in held), None)
            said = f"none for {missing}" if missing else "one of them twice"
            raise ValueError(
                f"delta must hold one row for each of the {symbols * states} pairs (symbol, state), got {said}"
            )
        object.__setattr__(self, "delta", tuple(rows))

    def row(self, symbol: int, state: int) -> tuple[int, int, int]:
        """What is done on reading `symbol` in `state`: (new symbol, new state, move).

        Raises:
            ValueError: if the machine has no such symbol or state.
        """
        if not (0 <= symbol < self.symbols and 0 <= state < self.states):
            raise ValueError(
                f"there is no row for ({symbol}, {state}); symbols are below {self.symbols} and states below {self.states}"
            )
        _, _, new_symbol, new_state, move = self.delta[symbol * self.states + state]
        return new_symbol, new_state, move

    @property
    def dimension(self) -> int:
        """Free numbers of a noisy code of this shape: |Σ||Q|(|Σ| + |Q|)."""
        return self.symbols * self.states * (self.symbols + self.states)

    def renamed(self, symbols: Sequence[int] | None = None, states: Sequence[int] | None = None) -> "TuringMachine":
        """The same machine with symbol i called `symbols[i]` and state i called `states[i]`.

        Raises:
            ValueError: unless both are permutations that leave the blank and the start, 0, where they are.
        """
        sigma = _checked_names("symbols", symbols, self.symbols)
        tau = _checked_names("states", states, self.states)
        rows = [(sigma[a], tau[q], sigma[b], tau[r], move) for a, q, b, r, move in self.delta]
        return TuringMachine(self.symbols, self.states, rows)

    def padded(self, extra_states: int) -> "TuringMachine":
        """The machine with `extra_states` more states, which it never enters and which would do nothing: they write what
        they read, stay where they are and keep their state."""
        states = self.states + whole_number("extra_states", extra_states)
        idle = [(a, q, a, q, 0) for a in range(self.symbols) for q in range(self.states, states)]
        return TuringMachine(self.symbols, states, [*self.delta, *idle])


@dataclass(frozen=True)
class SynthesisProblem:
    """Which outputs are accepted on which inputs.

    Attributes:
        inputs: words, each a sequence of symbols.
        accepted: for every input the outputs that are right, at least one.
        steps: how many steps are run.
        output: `"state"`, or `("square", k)`: the symbol k squares right of the head at the end.

    Raises:
        ValueError: for lists of different lengths, an input without accepted output, an unknown `output`.

    >>> from slt_jax.theory import SynthesisProblem
    >>> SynthesisProblem([[0], [1]], [[0], [1]], steps=3).output
    'state'
    """

    inputs: Any
    accepted: Any
    steps: int
    output: Any = STATE

    def __post_init__(self) -> None:
        inputs = _listed_words("inputs", self.inputs, "symbols")
        accepted = _listed_words("accepted", self.accepted, "outputs")
        if not inputs or len(inputs) != len(accepted) or not all(accepted):
            raise ValueError(
                f"accepted must hold at least one output for each of the inputs, got {len(inputs)} inputs and "
                f"{sum(bool(values) for values in accepted)} with accepted outputs"
            )
        output = _checked_output(self.output)
        for name, value in (("inputs", inputs), ("accepted", accepted), ("output", output)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "steps", whole_number("steps", self.steps, 1))

    @property
    def square(self) -> int | None:
        """The square that is read at the end, counted from the head; `None` where the state is the output."""
        return None if self.output == STATE else self.output[1]

    def radius(self, remaining: int) -> int:
        """How far from the head a square can still matter when `remaining` steps are left; -1: none does."""
        return remaining - 1 if self.square is None else remaining + abs(self.square)

    def check(self, symbols: int, states: int) -> None:
        """ValueError unless inputs and accepted outputs exist on a machine of this size."""
        largest = max((symbol for word in self.inputs for symbol in word), default=0)
        if largest >= symbols:
            raise ValueError(f"inputs hold the symbol {largest}, and the machine knows symbols below {symbols}")
        values = states if self.square is None else symbols
        largest = max(value for accepted in self.accepted for value in accepted)
        if largest >= values:
            raise ValueError(f"accepted holds the output {largest}, and this machine has outputs below {values}")


def used_tuples(machine: TuringMachine, problem: SynthesisProblem) -> list[tuple[int, int]]:
    """The pairs (symbol, state) that `machine` meets on the inputs when nothing goes wrong, sorted; their number is its
    program length.

    Raises:
        ValueError: if an input is not answered by an accepted output, or does not exist for this machine.
    """
    if not isinstance(machine, TuringMachine) or not isinstance(problem, SynthesisProblem):
        raise ValueError(
            "machine must be a TuringMachine and problem a SynthesisProblem, got "
            f"{type(machine).__name__} and {type(problem).__name__}"
        )
    problem.check(machine.symbols, machine.states)
    used: set[tuple[int, int]] = set()
    for word, accepted in zip(problem.inputs, problem.accepted, strict=True):
        tape, head, state = dict(enumerate(word)), 0, 0
        for _ in range(problem.steps):
            symbol = tape.get(head, 0)
            used.add((symbol, state))
            tape[head], state, move = machine.row(symbol, state)
            head += move
        output = state if problem.square is None else tape.get(head + problem.square, 0)
        if output not in accepted:
            raise ValueError(
                f"the machine must solve the problem, but on input {list(word)} it gives {output} after "
                f"{problem.steps} steps where {list(accepted)} is accepted"
            )
    return sorted(used)


def wrong_values(machine: TuringMachine) -> list[Error]:
    """The error coordinates of a machine: every value that its rows do not name, `machine.dimension` of them."""
    errors = []
    for symbol, state, *right in machine.delta:
        ranges = (range(machine.symbols), range(machine.states), MOVES)
        for part, correct, values in zip(("write", "state", "move"), right, ranges, strict=True):
            errors += [Error(symbol, state, part, value) for value in values if value != correct]
    return errors


def _listed(what: str, values: Any, of: str) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise ValueError(f"{what} must be a list of {of}, got {values!r}") from None


def _listed_words(what: str, words: Any, of: str) -> tuple[tuple[int, ...], ...]:
    of_words = f"lists of {of}, one list for each input"
    return tuple(
        tuple(whole_number(what, value) for value in _listed(f"each of {what}", word, of))
        for word in _listed(what, words, of_words)
    )


def _checked_output(output: Any) -> Any:
    """`"state"`, or `("square", k)` as a tuple."""
    if isinstance(output, str) and output == STATE:
        return output
    try:
        kind, square = output
        if kind == SQUARE:
            return SQUARE, index(square)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"output must be 'state' or ('square', k) with a whole number k, got {output!r}")


def _checked_row(row: Any, symbols: int, states: int) -> tuple[int, int, int, int, int]:
    try:
        symbol, state, new_symbol, new_state, move = (index(int(x) if x == int(x) else x) for x in row)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"a row of delta must be five whole numbers, got {row!r}") from None
    in_range = 0 <= symbol < symbols and 0 <= new_symbol < symbols and 0 <= state < states and 0 <= new_state < states
    if not in_range or move not in MOVES:
        raise ValueError(
            f"a row of delta must be (symbol, state, new symbol, new state, move) with symbols below {symbols}, states "
            f"below {states} and a move of -1, 0 or 1, got {row!r}"
        )
    return symbol, state, new_symbol, new_state, move


def _checked_names(what: str, names: Sequence[int] | None, count: int) -> list[int]:
    chosen = list(range(count)) if names is None else _listed(what, names, "new names")
    chosen = [whole_number(what, name) for name in chosen]
    if sorted(chosen) != list(range(count)) or chosen[0] != 0:
        raise ValueError(f"{what} must be a permutation of 0..{count - 1} that keeps 0 in place, got {chosen}")
    return chosen
