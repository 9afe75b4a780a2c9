"""What a noisy machine does in t steps, in four senses, over any commutative semiring.

A code gives three distributions for every pair (symbol, state): what is written, the next state, the move. The weight of
each output is a polynomial in these numbers with non-negative coefficients, so that one simulator serves several ends: with
fractions it gives probabilities, with the algebras of `theory.programs.syndromes` the lightest error or all of them.

    naive      the state and every square are kept independent after each step
    gps        every row asks whether it matches, and the last that does is obeyed; if none does, nothing happens
    markov     the joint law, fresh errors in every step
    quenched   one deterministic code is drawn and run

Source: Clift & Murfet 2019, *Derivatives of Turing machines in linear logic* (naive); Clift, Murfet & Wallbridge 2021,
*Geometry of program synthesis*, appendix I (gps). A distribution is a dict from values to weights; what is absent has
weight zero, so that the semiring's zero never has to be written down.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from slt_jax.theory.programs.machine import SynthesisProblem

__all__ = ["SEMANTICS", "Algebra", "Code", "Probabilities", "output_weights", "semantics_named"]

Weight = Any
Key = TypeVar("Key", bound=Hashable)
Distribution = dict[Key, Weight]
Pair = tuple[int, int]
Row = tuple[int, int, int]


@runtime_checkable
class Algebra(Protocol):
    """A commutative semiring: its one, its sum and its product."""

    one: Weight

    def add(self, first: Weight, second: Weight) -> Weight:
        """The sum."""

    def multiply(self, first: Weight, second: Weight) -> Weight:
        """The product."""


class Probabilities:
    """Exact rational numbers."""

    one = Fraction(1)

    def add(self, first: Fraction, second: Fraction) -> Fraction:
        """first + second."""
        return first + second

    def multiply(self, first: Fraction, second: Fraction) -> Fraction:
        """first · second."""
        return first * second


class Code(NamedTuple):
    """Three distributions for every pair (symbol, state): over symbols, states and moves."""

    write: Mapping[Pair, Mapping[int, Weight]]
    state: Mapping[Pair, Mapping[int, Weight]]
    move: Mapping[Pair, Mapping[int, Weight]]


def output_weights(
    algebra: Algebra, code: Code, problem: SynthesisProblem, word: Iterable[int], semantics: str
) -> dict[int, Weight]:
    """The weight of every output on the input `word`; with `Probabilities()` its probability.

    Raises:
        ValueError: for semantics that do not exist.

    >>> from slt_jax.theory.programs.machine import SynthesisProblem
    >>> from slt_jax.theory.programs.semantics import Code, Probabilities, output_weights
    >>> from fractions import Fraction
    >>> certain = {(0, 0): {0: Fraction(1)}, (1, 0): {1: Fraction(1)}}
    >>> half = {0: Fraction(1, 2), 1: Fraction(1, 2)}
    >>> code = Code({(0, 0): half, (1, 0): half}, {(0, 0): {0: Fraction(1)}, (1, 0): {0: Fraction(1)}},
    ...             {(0, 0): {0: Fraction(1)}, (1, 0): {0: Fraction(1)}})
    >>> problem = SynthesisProblem([[0]], [[1]], steps=1, output=("square", 0))
    >>> output_weights(Probabilities(), code, problem, [0], "markov")
    {0: Fraction(1, 2), 1: Fraction(1, 2)}
    """
    return semantics_named(semantics)(_Sums(algebra), code, problem, tuple(word))


class _Sums:
    """An algebra with what the simulators do again and again: sums into a dict."""

    def __init__(self, algebra: Algebra) -> None:
        self.one, self.times, self._add = algebra.one, algebra.multiply, algebra.add

    def collect(self, terms: Iterable[tuple[Key, Weight]]) -> Distribution:
        """The sum of the weights of every key."""
        total: Distribution = {}
        for key, weight in terms:
            total[key] = self._add(total[key], weight) if key in total else weight
        return total

    def mix(
        self,
        met: Mapping[Pair, Weight],
        rows: Mapping[Pair, Mapping[int, Weight]],
        idle: Weight | None,
        unchanged: Distribution,
    ) -> Distribution:
        """Σ met · rows over the pairs, and `unchanged` with weight `idle` (`None`: zero)."""
        terms = [(value, self.times(w, p)) for pair, w in met.items() for value, p in rows[pair].items()]
        rest = [] if idle is None else [(value, self.times(idle, p)) for value, p in unchanged.items()]
        return self.collect([*terms, *rest])


def _squares(problem: SynthesisProblem, remaining: int) -> range:
    """The squares that can still matter, counted from the head."""
    radius = problem.radius(remaining)
    return range(-radius, radius + 1)


def _tape(word: tuple[int, ...], square: int) -> int:
    return word[square] if 0 <= square < len(word) else 0


def _independent(step: Callable) -> Callable:
    """The simulation whose `step` maps distributions of the state and of each square to those after it."""

    def run(sums: _Sums, code: Code, problem: SynthesisProblem, word: tuple[int, ...]) -> dict[int, Weight]:
        state: Distribution = {0: sums.one}
        tape = {u: {_tape(word, u): sums.one} for u in _squares(problem, problem.steps)}
        for remaining in reversed(range(problem.steps)):
            state, tape = step(sums, code, state, tape, _squares(problem, remaining))
        return state if problem.square is None else tape[problem.square]

    return run


def _naive_step(sums: _Sums, code: Code, state: Distribution, tape: dict, squares: range) -> tuple[Distribution, dict]:
    met = {(a, q): sums.times(tape[0][a], state[q]) for a in tape[0] for q in state}
    return _obey(sums, code, met, None, state, tape, squares)


def _gps_step(sums: _Sums, code: Code, state: Distribution, tape: dict, squares: range) -> tuple[Distribution, dict]:
    met = {(a, q): sums.times(tape[0][a], state[q]) for a in sorted(tape[0]) for q in sorted(state)}
    return _obey(sums, code, *_last_match(sums, met), state, tape, squares)


def _obey(
    sums: _Sums,
    code: Code,
    met: Mapping[Pair, Weight],
    idle: Weight | None,
    state: Distribution,
    tape: dict,
    squares: range,
) -> tuple[Distribution, dict]:
    """State and squares after the row of each pair is obeyed with weight `met`, and nothing happens with weight `idle`.

    What is written, the next state and the move are mixed over the pairs one by one, and independent of each other after that.
    """
    move = sums.mix(met, code.move, idle, {0: sums.one})
    after = {**tape, 0: sums.mix(met, code.write, idle, tape[0])}
    new_tape = {
        u: sums.collect([(b, sums.times(w, p)) for d, w in move.items() for b, p in after[u + d].items()])
        for u in squares
    }
    return sums.mix(met, code.state, idle, state), new_tape


def _last_match(sums: _Sums, met: dict[Pair, Weight]) -> tuple[dict[Pair, Weight], Weight | None]:
    """The weight with which each row is the last that matches, and that of none matching (`None`: zero).

    With λ_i the weight of a match, μ_i = λ_i Π_{j>i} (1 - λ_j); 1 - λ_j is the sum of the other matches, so that
    nothing is subtracted.
    """
    obeyed: dict[Pair, Weight] = {}
    later: Weight | None = sums.one
    for pair in reversed(met):
        if later is None:
            break
        obeyed[pair] = sums.times(met[pair], later)
        others = sums.collect((0, w) for other, w in met.items() if other != pair)
        later = sums.times(later, others[0]) if others else None
    return obeyed, later


def _markov(sums: _Sums, code: Code, problem: SynthesisProblem, word: tuple[int, ...]) -> dict[int, Weight]:
    """Configurations are (state, squares around the head that can still matter)."""
    rows = _whole_rows(sums, code)
    law: Distribution = {_start(problem, word): sums.one}
    for remaining in reversed(range(problem.steps)):
        radius = problem.radius(remaining)
        terms = []
        for (state, tape), w in law.items():
            pair = (tape[len(tape) // 2], state)
            for row, p in rows[pair] if radius >= 0 else _states_alone(code, pair):
                terms.append(((row[1], after_step(tape, row, radius)), sums.times(w, p)))
        law = sums.collect(terms)
    return sums.collect([(_output(problem, configuration), w) for configuration, w in law.items()])


def _quenched(sums: _Sums, code: Code, problem: SynthesisProblem, word: tuple[int, ...]) -> dict[int, Weight]:
    """As `_markov`, where a configuration also knows the rows that were drawn so far."""
    rows = _whole_rows(sums, code)
    law: Distribution = {(frozenset(), _start(problem, word)): sums.one}
    for remaining in reversed(range(problem.steps)):
        radius = problem.radius(remaining)
        terms = []
        for (drawn, (state, tape)), w in law.items():
            pair = (tape[len(tape) // 2], state)
            known = [row for at, row in drawn if at == pair]
            if known:
                terms.append(((drawn, (known[0][1], after_step(tape, known[0], radius))), w))
                continue
            for row, p in rows[pair] if radius >= 0 else _states_alone(code, pair):
                after = (row[1], after_step(tape, row, radius))
                terms.append(((drawn | {(pair, row)}, after), sums.times(w, p)))
        law = sums.collect(terms)
    return sums.collect([(_output(problem, configuration), w) for (_, configuration), w in law.items()])


def _whole_rows(sums: _Sums, code: Code) -> dict[Pair, list[tuple[Row, Weight]]]:
    """For every pair (symbol, state) all rows (new symbol, new state, move) with their weights."""
    return {
        pair: [
            ((b, r, d), sums.times(sums.times(p, c), s))
            for b, p in code.write[pair].items()
            for r, c in code.state[pair].items()
            for d, s in code.move[pair].items()
        ]
        for pair in code.write
    }


def _states_alone(code: Code, pair: Pair) -> list[tuple[Row, Weight]]:
    """The rows of the last step where only the state is read: the weights of the rest add up to one and need no draw."""
    return [((0, r, 0), weight) for r, weight in code.state[pair].items()]


def _start(problem: SynthesisProblem, word: tuple[int, ...]) -> tuple:
    return 0, tuple(_tape(word, u) for u in _squares(problem, problem.steps))


def after_step(tape: tuple[int, ...], row: Row, radius: int) -> tuple[int, ...]:
    """The squares within `radius` of the head (-1: none) after `row` was obeyed with the head in the middle of `tape`."""
    if radius < 0:
        return ()
    written, _, move = row
    middle = len(tape) // 2
    new = (*tape[:middle], written, *tape[middle + 1 :])
    return new[middle + move - radius : middle + move + radius + 1]


def _output(problem: SynthesisProblem, configuration: tuple) -> int:
    state, tape = configuration
    return state if problem.square is None else tape[len(tape) // 2 + problem.square]


SEMANTICS: dict[str, Callable] = {
    "naive": _independent(_naive_step),
    "gps": _independent(_gps_step),
    "markov": _markov,
    "quenched": _quenched,
}


def semantics_named(name: str) -> Callable:
    """The simulator called `name`; ValueError if there is none."""
    if not isinstance(name, str) or name not in SEMANTICS:
        raise ValueError(f"semantics must be one of {', '.join(SEMANTICS)}, got {name!r}")
    return SEMANTICS[name]
