"""Error syndromes: the monomials e^a of the failure probability in the error coordinates, listed or searched.

Near the code of a deterministic machine the right value of a row has a probability near one, and a wrong one has the
probability e_i, its error coordinate. A run that ends in a wrong output costs the product of the errors it needed: e^a.
The failure probability is equivalent to the sum of these monomials, of which only the minimal ones matter.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from slt_jax.theory.positive_polynomials import minimal_monomials
from slt_jax.theory.programs.machine import MOVES, Error, SynthesisProblem, TuringMachine, used_tuples, wrong_values
from slt_jax.theory.programs.semantics import Code, output_weights

__all__ = ["LightestSyndromes", "error_syndromes"]

Exponents = tuple[int, ...]


def error_syndromes(machine: TuringMachine, problem: SynthesisProblem, semantics: str) -> list[dict[Error, int]]:
    """All minimal error syndromes of a machine that solves `problem`, each a dict from errors to exponents.

    A syndrome is minimal if no other divides it. They are listed one by one, which is for small cases: thousands of
    syndromes take minutes. `program` never lists them.

    Raises:
        ValueError: for unknown semantics, or if `machine` does not solve `problem`.

    >>> from slt_jax.theory import SynthesisProblem, TuringMachine, error_syndromes
    >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
    >>> problem = SynthesisProblem([[0]], [[1]], steps=1, output=("square", 0))
    >>> [list(syndrome) for syndrome in error_syndromes(flip, problem, "markov")]
    [[Error(symbol=0, state=0, part='write', value=0)], [Error(symbol=0, state=0, part='move', value=-1)], \
[Error(symbol=0, state=0, part='move', value=1)]]
    """
    used_tuples(machine, problem)
    errors = wrong_values(machine)
    algebra = _Minimal(len(errors))
    code = _error_code(machine, algebra)
    found: frozenset[Exponents] = frozenset()
    for word, accepted in zip(problem.inputs, problem.accepted, strict=True):
        for output, monomials in output_weights(algebra, code, problem, word, semantics).items():
            if output not in accepted:
                found = algebra.add(found, monomials)
    order = sorted(found, key=lambda exponents: (sum(exponents), [-k for k in exponents]))
    return [{error: k for error, k in zip(errors, exponents, strict=True) if k} for exponents in order]


class _Minimal:
    """Sets of monomials none of which divides another; sum is union, product adds exponents."""

    def __init__(self, count: int) -> None:
        self.one = frozenset([(0,) * count])

    def variable(self, i: int) -> frozenset[Exponents]:
        count = len(next(iter(self.one)))
        return frozenset([tuple(int(j == i) for j in range(count))])

    def add(self, first: frozenset[Exponents], second: frozenset[Exponents]) -> frozenset[Exponents]:
        if first == self.one or second == self.one:
            return self.one
        return frozenset(minimal_monomials(first | second))

    def multiply(self, first: frozenset[Exponents], second: frozenset[Exponents]) -> frozenset[Exponents]:
        if first == self.one or second == self.one:
            return second if first == self.one else first
        return frozenset(
            minimal_monomials({tuple(i + j for i, j in zip(a, b, strict=True)) for a in first for b in second})
        )


def _error_code(machine: TuringMachine, algebra: _Minimal) -> Code:
    """The code whose right values weigh one and whose wrong values are the error coordinates."""
    place = {error: i for i, error in enumerate(wrong_values(machine))}

    def rows(part: str, values: Sequence[int]) -> dict:
        return {
            (a, q): {
                value: algebra.variable(place[error]) if (error := Error(a, q, part, value)) in place else algebra.one
                for value in values
            }
            for a, q, *_ in machine.delta
        }

    return Code(rows("write", range(machine.symbols)), rows("state", range(machine.states)), rows("move", MOVES))


class Found(NamedTuple):
    """Lightest syndromes, one per machine and input: `costs` `(machine, input)`, `exponents` `(machine, input, value)`."""

    costs: np.ndarray
    exponents: np.ndarray


class LightestSyndromes:
    """The lightest syndrome of many machines at once: the simulator in the min-plus semiring.

    An element of the semiring is a pair of arrays over the machines: the weight of the lightest monomial, and its exponents.
    Values of rows are numbered 0, ..., `num_values` - 1: for each pair (symbol, state) in order, what is written, the
    next state, the move. `is_error` `(machine, value)` is false at the values that a machine's rows name.

    Attributes:
        machines: machines of one shape that solve the problem.
    """

    def __init__(self, machines: Sequence[TuringMachine], problem: SynthesisProblem, semantics: str) -> None:
        self.machines, self._problem, self._semantics = list(machines), problem, semantics
        first = self.machines[0]
        self._width = first.symbols + first.states + len(MOVES)
        self.num_values = first.symbols * first.states * self._width
        self.is_error = np.ones((len(self.machines), self.num_values), bool)
        for is_error, machine in zip(self.is_error, self.machines, strict=True):
            for i, (_, _, b, r, d) in enumerate(machine.delta):
                is_error[[i * self._width + at for at in self._places(b, r, d)]] = False

    def _places(self, written: int, state: int, move: int) -> tuple[int, int, int]:
        first = self.machines[0]
        return written, first.symbols + state, first.symbols + first.states + MOVES.index(move)

    def error(self, value: int) -> Error:
        """The error coordinate that has the number `value`."""
        first = self.machines[0]
        row, at = divmod(value, self._width)
        symbol, state = divmod(row, first.states)
        for part, count in (("write", first.symbols), ("state", first.states)):
            if at < count:
                return Error(symbol, state, part, at)
            at -= count
        return Error(symbol, state, "move", MOVES[at])

    def search(self, weights: np.ndarray, chosen: np.ndarray | None = None) -> Found:
        """The lightest syndrome under integer `weights` `(machine, value)` for each input, of the machines `chosen`.

        Integers, so that a comparison is exact. The weights of right values are ignored. Where no run ends in a wrong
        output the cost is -1 and the exponents are 0.
        """
        rows = np.arange(len(self.machines)) if chosen is None else chosen
        is_error = self.is_error[rows]
        algebra = _MinPlus(len(rows), self.num_values)
        code = self._code(np.where(is_error, weights, 0), is_error)
        shape = (len(rows), len(self._problem.inputs))
        found = Found(np.full(shape, -1, weights.dtype), np.zeros((*shape, self.num_values), np.int32))
        for i, (word, accepted) in enumerate(zip(self._problem.inputs, self._problem.accepted, strict=True)):
            outputs = output_weights(algebra, code, self._problem, word, self._semantics)
            wrong = [element for output, element in outputs.items() if output not in accepted]
            if wrong:
                best = wrong[0]
                for element in wrong[1:]:
                    best = algebra.add(best, element)
                found.costs[:, i], found.exponents[:, i] = best
        return found

    def _code(self, weights: np.ndarray, is_error: np.ndarray) -> Code:
        first = self.machines[0]
        elements = []
        for value in range(self.num_values):
            exponents = np.zeros((len(weights), self.num_values), np.int32)
            exponents[:, value] = is_error[:, value]
            elements.append((weights[:, value], exponents))

        def rows(offset: int, values: Sequence[int]) -> Mapping[Any, Mapping[int, Any]]:
            return {
                (a, q): {value: elements[i * self._width + offset + k] for k, value in enumerate(values)}
                for i, (a, q, *_) in enumerate(first.delta)
            }

        symbols, states = first.symbols, first.states
        return Code(rows(0, range(symbols)), rows(symbols, range(states)), rows(symbols + states, MOVES))


class _MinPlus:
    """Lightest monomials of many machines: costs `(machine,)` and exponents `(machine, value)`."""

    def __init__(self, count: int, num_values: int) -> None:
        self.one = (np.zeros(count, np.int64), np.zeros((count, num_values), np.int32))

    def add(self, first: Any, second: Any) -> Any:
        if first is self.one or second is self.one:
            return self.one
        keep = first[0] <= second[0]
        return np.where(keep, first[0], second[0]), np.where(keep[:, None], first[1], second[1])

    def multiply(self, first: Any, second: Any) -> Any:
        if first is self.one or second is self.one:
            return second if first is self.one else first
        return first[0] + second[0], first[1] + second[1]
