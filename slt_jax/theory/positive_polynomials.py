"""The learning coefficient of a polynomial with positive coefficients, on the orthant where its variables are ≥ 0.

Nothing cancels there, so f = Σ c_a e^a is equivalent to its largest monomial. In e_i = t^(y_i) the set {f ≤ t} is the
polyhedron {y ≥ 0 : a·y ≥ 1 for every a}, a prior ∏ e_i^(h_i) weighs a point with t^((h+1)·y), and the volume of {f ≤ t} goes
like t^λ (-log t)^(m-1) with

    λ = min (h+1)·y over the polyhedron,      m = 1 + dimension of the set of minimisers.

`docs/programs.md` has the proof. For monomials without squares λ is the fractional hitting number of a hypergraph. Where the
monomials are too many to list, cutting planes find the few that matter: whoever drives `hitting_number` answers weights y with
a lightest monomial.
"""

from collections.abc import Generator, Iterable, Sequence
from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from slt_jax.theory.polyhedra import TOO_LARGE, approximate_minimiser, solve_covering
from slt_jax.theory.singular import LearningCoefficient, whole_number

__all__ = ["HittingNumber", "hitting_number", "minimal_monomials", "positive_polynomial"]

Exponents = tuple[int, ...]
SCALE = 2**24
"""Floats become integer weights times this much."""


class HittingNumber(NamedTuple):
    """λ and m with what proves them.

    Attributes:
        value: λ.
        multiplicity: m.
        weights: y, a minimiser: every monomial has a·y ≥ 1, and c·y = λ.
        certificate: monomials a with numbers z_a ≥ 0, Σ z_a a ≤ c and Σ z_a = λ: no y is cheaper.
        monomials: all that were met on the way.

    Example:
        >>> from fractions import Fraction
        >>> from slt_jax.theory.positive_polynomials import HittingNumber
        >>> HittingNumber(Fraction(1, 2), 2, [Fraction(1, 2), Fraction(0)], {(2, 2): Fraction(1, 2)}, [(2, 2)]).value
        Fraction(1, 2)
    """

    value: Fraction
    multiplicity: int
    weights: list[Fraction]
    certificate: dict[Exponents, Fraction]
    monomials: list[Exponents]


def positive_polynomial(
    monomials: Iterable[Sequence[SupportsIndex]], prior_exponents: Sequence[Any] | None = None
) -> LearningCoefficient:
    """λ and m at e = 0 of K(e) = Σ c_a e^a with c_a > 0, on e ≥ 0, under a prior ∏ e_i^(h_i).

    Args:
        monomials: the exponents a, `(monomial, variable)`; their coefficients do not matter.
        prior_exponents: the h_i > -1, one per variable, anything that `Fraction` accepts (default: all 0); a float is the
            decimal number that it prints as, 0.1 is 1/10.

    Raises:
        ValueError: for no monomials, lists of different lengths, a constant term, a prior exponent of -1 or less.
        ArithmeticError: if exponents are so large, or so far apart, that floating point does not find where to look.

    >>> from slt_jax.theory import positive_polynomial
    >>> positive_polynomial([[1, 1, 0], [0, 1, 1], [1, 0, 1]])  # every pair out of three: y = ½, ½, ½
    LearningCoefficient(learning_coefficient=Fraction(3, 2), multiplicity=1)
    """
    try:
        listed = [tuple(whole_number("monomials", k) for k in exponents) for exponents in monomials]
    except TypeError:
        raise ValueError(f"monomials must be a list of lists of exponents, got {monomials!r}") from None
    if not listed or len({len(exponents) for exponents in listed}) > 1:
        raise ValueError(f"monomials must be at least one list of exponents, all of one length, got {listed}")
    if not all(any(exponents) for exponents in listed):
        raise ValueError("monomials must not hold a constant: the polynomial has to vanish at 0")
    said = f"prior_exponents must be {len(listed[0])} numbers above -1, got {prior_exponents!r}"
    try:
        prior = [Fraction(0)] * len(listed[0]) if prior_exponents is None else [_fraction(h) for h in prior_exponents]
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(said) from None
    if len(prior) != len(listed[0]) or min(prior) <= -1:
        raise ValueError(said)
    minimal = minimal_monomials(listed)
    search = hitting_number([h + 1 for h in prior])
    try:
        weights = next(search)
        while True:
            weights = search.send([min(minimal, key=lambda a: _dot(a, weights))])
    except OverflowError:
        raise ArithmeticError(f"{TOO_LARGE} for floating point") from None
    except StopIteration as finished:
        return LearningCoefficient(finished.value.value, finished.value.multiplicity)


def _fraction(number: Any) -> Fraction:
    """`number` exactly: a float as the decimal number that it prints as, an integer of numpy as Python's."""
    if isinstance(number, float | np.floating):
        return Fraction(str(number))
    return Fraction(int(number) if isinstance(number, np.integer) else number)


def minimal_monomials(monomials: Iterable[Exponents]) -> list[Exponents]:
    """Those that no other divides, by degree.

    Example:
        >>> from slt_jax.theory.positive_polynomials import minimal_monomials
        >>> minimal_monomials([(1, 0), (1, 1), (0, 3)])
        [(1, 0), (0, 3)]
    """
    ordered = sorted(set(monomials), key=sum)
    if not ordered:
        return []
    table = np.array(ordered)
    kept = np.zeros((0, table.shape[1]), table.dtype)
    for exponents in table:
        if not (kept <= exponents).all(axis=1).any():
            kept = np.vstack([kept, exponents])
    return [tuple(row) for row in kept.tolist()]


def hitting_number(costs: Sequence[Fraction]) -> Generator[list[int], list[Exponents], HittingNumber]:
    """min c·y over y ≥ 0 with a·y ≥ 1 for every monomial a, by cutting planes: a generator.

    It yields integer weights, one per variable, and is sent monomials of which one is a lightest under these weights (several
    may be sent, which saves rounds). It returns a `HittingNumber`, proved by exact fractions: `weights` by the lightest monomial
    that was sent, `certificate` on its own. `costs` c are positive.
    """
    n = len(costs)
    single = yield from _single_variables(n)
    # A variable that is a monomial by itself has y = 1, and what contains it is satisfied.
    cuts: list[Exponents] = []

    while True:
        columns = [i for i in range(n) if i not in single and any(cut[i] for cut in cuts)]
        part = [[cut[i] for i in columns] for cut in cuts]
        guess = [float(i in single) for i in range(n)]
        if cuts:
            for i, y in zip(columns, approximate_minimiser([costs[i] for i in columns], part), strict=True):
                guess[i] = y
        # A little on every variable, so that of several light monomials a short one is found.
        new = _violated(cuts, (yield [round(SCALE * (y + 1e-3)) for y in guess]), guess, 1 - 1e-6)
        if not new:
            points, value, dual = _exact_face(costs, single, columns, part)
            for point in points:
                scale = lcm(*(y.denominator for y in point))
                new = _violated(cuts, (yield [int(y * scale) for y in point]), point, 1)
                if new:
                    break
            else:
                unit = [tuple(int(j == i) for j in range(n)) for i in single]
                certificate = {a: costs[a.index(1)] for a in unit} | {
                    a: z for a, z in zip(cuts, dual, strict=True) if z
                }
                return HittingNumber(value, len(points), points[0], certificate, [*unit, *cuts])
        cuts += new


def _violated(cuts: list[Exponents], sent: list[Exponents], y: Sequence[Any], least: Any) -> list[Exponents]:
    """Monomials with a·y below `least` among those that were `sent`, without those known already."""
    return [a for a in dict.fromkeys(sent) if _dot(a, y) < least and a not in cuts]


def _single_variables(n: int) -> Generator[list[int], list[Exponents], list[int]]:
    """The variables that are monomials by themselves: the lightest while every one that is not known yet weighs 1."""
    single: list[int] = []
    while True:
        sent = yield [2 if i in single else 1 for i in range(n)]
        new = {a.index(1) for a in sent if sum(a) == 1} - set(single)
        if not new:
            return single
        single += sorted(new)


def _exact_face(
    costs: Sequence[Fraction], single: list[int], columns: list[int], cuts: list[list[int]]
) -> tuple[list[list[Fraction]], Fraction, list[Fraction]]:
    """Affinely independent points that span the set of minimisers under `cuts`, the minimum, and a dual solution.

    The first point lies in the relative interior. There are 1 + dimension of them.
    """
    base = [Fraction(int(i in single)) for i in range(len(costs))]
    value = sum((costs[i] for i in single), Fraction(0))
    if not cuts:
        return [base], value, []
    solved = solve_covering([costs[i] for i in columns], cuts)
    points = [solved.primal.point]
    for direction in solved.primal.directions:
        step = Fraction(1)
        while not _feasible(point := [y + step * v for y, v in zip(points[0], direction, strict=True)], cuts):
            step /= 2
        points.append(point)
    whole = []
    for point in points:
        spread = list(base)
        for i, y in zip(columns, point, strict=True):
            spread[i] = y
        whole.append(spread)
    return whole, value + solved.value, solved.dual


def _feasible(point: list[Fraction], cuts: list[list[int]]) -> bool:
    return min(point) >= 0 and all(_dot(cut, point) >= 1 for cut in cuts)


def _dot(exponents: Sequence[int], weights: Sequence[Any]) -> Any:
    return sum(k * weights[i] for i, k in enumerate(exponents) if k)
