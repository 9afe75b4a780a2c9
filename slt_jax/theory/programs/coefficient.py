"""The learning coefficient of a program: a deterministic machine among the noisy codes that solve a problem."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from slt_jax.theory.positive_polynomials import HittingNumber, hitting_number
from slt_jax.theory.programs.machine import Error, SynthesisProblem, TuringMachine, used_tuples
from slt_jax.theory.programs.semantics import semantics_named
from slt_jax.theory.programs.syndromes import LightestSyndromes

__all__ = ["POTENTIALS", "PRIORS", "ProgramLearningCoefficient", "coefficients", "program"]

PRIORS: dict[str, Callable[[int], Fraction]] = {
    "uniform": lambda values: Fraction(1),
    "unit-error-mass": lambda values: Fraction(1, max(values - 1, 1)),
    "jeffreys": lambda values: Fraction(1, 2),
}
"""The Dirichlet exponent α of an error coordinate, from the number of values of its simplex: the prior is ∏ e^(α - 1)."""

POTENTIALS: dict[str, int] = {"nll": 1, "squared_error": 2}
"""The power of the failure probability to which the potential is equivalent."""


@dataclass(frozen=True)
class ProgramLearningCoefficient:
    """λ and m of a program, exact, with what proves them.

    Attributes:
        learning_coefficient: λ, a Fraction.
        multiplicity: m.
        used_tuples: the program's length c: pairs (symbol, state) that it meets without errors.
        bound: what λ is at most, c(|Σ|+|Q|) for the uniform prior and the negative log-likelihood.
        weights: y, for every error with y > 0: how small it has to be, as a power of the loss, for the program to work.
        certificate: error syndromes, each a tuple of (error, exponent), with numbers z that prove that λ is not smaller.
        linear_syndromes: the errors that are fatal alone.

    Example:
        >>> from slt_jax.theory import SynthesisProblem, TuringMachine, program
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> found = program(flip, SynthesisProblem([[0]], [[1]], steps=1, output=("square", 0)))
        >>> found.learning_coefficient, found.multiplicity, found.used_tuples
        (Fraction(3, 1), 1, 1)
    """

    learning_coefficient: Fraction
    multiplicity: int
    used_tuples: int
    bound: Fraction
    weights: dict[Error, Fraction]
    certificate: dict[tuple[tuple[Error, int], ...], Fraction]
    linear_syndromes: list[Error]


def program(
    machine: TuringMachine,
    problem: SynthesisProblem,
    semantics: str = "markov",
    potential: str = "nll",
    prior: str = "uniform",
) -> ProgramLearningCoefficient:
    """The learning coefficient of the noisy codes around `machine`, which solves `problem`.

    λ is the fractional hitting number of the machine's error syndromes (`docs/programs.md`), found by cutting planes whose
    oracle is the simulator in the min-plus semiring.

    Args:
        machine: a deterministic machine.
        problem: inputs, accepted outputs, number of steps.
        semantics: `"naive"`, `"gps"`, `"markov"` or `"quenched"` (`theory.programs.semantics`).
        potential: `"nll"`, the mean over inputs of -log(1 - f) with f the probability of a wrong output, or
            `"squared_error"`, the mean of Σ_y (p_y - δ_y)².
        prior: on every simplex `"uniform"`; `"unit-error-mass"`, the Dirichlet prior with exponent 1/(k-1) for each of the
            k-1 wrong values; `"jeffreys"`, with exponent ½.

    Raises:
        ValueError: if the machine does not solve the problem, or a name is unknown.

    >>> from slt_jax.theory import SynthesisProblem, TuringMachine, program
    >>> copy = TuringMachine(2, 2, [[0, 0, 0, 0, 0], [0, 1, 0, 1, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 0]])
    >>> found = program(copy, SynthesisProblem([[0], [1]], [[0], [1]], steps=1))
    >>> found.learning_coefficient, found.multiplicity, found.used_tuples, found.bound
    (Fraction(2, 1), 1, 2, Fraction(8, 1))
    """
    return coefficients([machine], problem, semantics, potential, prior)[0]


def coefficients(
    machines: Sequence[TuringMachine],
    problem: SynthesisProblem,
    semantics: str = "markov",
    potential: str = "nll",
    prior: str = "uniform",
) -> list[ProgramLearningCoefficient]:
    """`program` of many machines of one shape, whose syndromes are searched together.

    Raises:
        ValueError: as `program`, and for machines of different shapes.

    Example:
        >>> from slt_jax.theory import SynthesisProblem, TuringMachine
        >>> from slt_jax.theory.programs.coefficient import coefficients
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> found = coefficients([flip, flip], SynthesisProblem([[0]], [[1]], steps=1, output=("square", 0)))
        >>> [one.learning_coefficient for one in found]
        [Fraction(3, 1), Fraction(3, 1)]
    """
    if isinstance(machines, TuringMachine):
        raise ValueError("machines must be a list of machines, got one; program(machine, ...) takes it")
    semantics_named(semantics)
    power, exponent = _named("potential", POTENTIALS, potential), _named("prior", PRIORS, prior)
    lengths = [len(used_tuples(machine, problem)) for machine in machines]
    if len({(machine.symbols, machine.states) for machine in machines}) > 1:
        raise ValueError("machines must have one number of symbols and one of states")
    if not machines:
        return []
    oracle = LightestSyndromes(machines, problem, semantics)
    sizes = {"write": machines[0].symbols, "state": machines[0].states, "move": 3}
    costs = [exponent(sizes[oracle.error(value).part]) for value in range(oracle.num_values)]
    found = _drive([hitting_number(costs) for _ in machines], oracle)
    return [
        _result(machine, hit, length, oracle, power, exponent, sizes)
        for machine, hit, length in zip(machines, found, lengths, strict=True)
    ]


def _drive(
    searches: list[Generator[list[int], list[tuple[int, ...]], HittingNumber]], oracle: LightestSyndromes
) -> list[HittingNumber]:
    """Answer all searches at once, round by round, until each has returned."""
    found: dict[int, HittingNumber] = {}
    asked = {i: next(search) for i, search in enumerate(searches)}
    while asked:
        rows = np.array(list(asked))
        largest = max(max(weights) for weights in asked.values())
        # Python's integers where sums of many weights could overflow.
        dtype = np.int64 if largest < 2**45 else object
        lightest = oracle.search(np.array(list(asked.values()), dtype), rows)
        for i, costs, exponents in zip(rows.tolist(), lightest.costs, lightest.exponents, strict=True):
            sent = [tuple(row.tolist()) for cost, row in zip(costs, exponents, strict=True) if cost >= 0]
            try:
                asked[i] = searches[i].send(sent)
            except StopIteration as finished:
                found[i] = finished.value
                del asked[i]
    return [found[i] for i in range(len(searches))]


def _result(
    machine: TuringMachine,
    hit: HittingNumber,
    length: int,
    oracle: LightestSyndromes,
    power: int,
    exponent: Callable[[int], Fraction],
    sizes: dict[str, int],
) -> ProgramLearningCoefficient:
    mass = sum((exponent(size) * (size - 1) for size in sizes.values()), Fraction(0))

    def named(exponents: tuple[int, ...]) -> tuple[tuple[Error, int], ...]:
        return tuple((oracle.error(value), k) for value, k in enumerate(exponents) if k)

    return ProgramLearningCoefficient(
        learning_coefficient=hit.value / power,
        multiplicity=hit.multiplicity,
        used_tuples=length,
        bound=length * mass / power,
        weights={oracle.error(value): y / power for value, y in enumerate(hit.weights) if y},
        certificate={named(exponents): z / power for exponents, z in hit.certificate.items()},
        linear_syndromes=sorted(named(a)[0][0] for a in hit.monomials if sum(a) == 1),
    )


def _named(what: str, known: dict, name: str) -> Any:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {name!r}")
    return known[name]
