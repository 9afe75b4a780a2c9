"""Linear programs of the kind min c·y, A y ≥ 1, y ≥ 0, answered in exact fractions.

HiGHS finds where to look, in floating point; a primal and a dual point in exact fractions prove what was found.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

__all__ = ["TOO_LARGE", "Covering", "FacePoint", "approximate_minimiser", "solve_covering"]

Row = Sequence[Fraction | int]
TOO_LARGE = "exponents or prior exponents are too large, or too far apart,"
TIGHT = 1e-8
DENOMINATORS = (12, 120, 2520, 10**5, 10**7)
"""Tried one after another when a float is read as a fraction."""


class FacePoint(NamedTuple):
    """A point inside a polyhedron's relative interior, and a basis of the directions that stay in its affine hull."""

    point: list[Fraction]
    directions: list[list[Fraction]]


class Covering(NamedTuple):
    """The exact solution of min c·y, A y ≥ 1, y ≥ 0.

    Attributes:
        value: the minimum.
        primal: a point in the relative interior of the set of minimisers, with the directions of that set.
        dual: z ≥ 0 with Aᵀz ≤ c and Σz = value, which proves that no y is cheaper; it is in the relative interior too, so
            that its support and its slack say which constraints are tight at every minimiser.
    """

    value: Fraction
    primal: FacePoint
    dual: list[Fraction]


def approximate_minimiser(costs: Row, cuts: Sequence[Row]) -> np.ndarray:
    """A minimiser of c·y, A y ≥ 1, y ≥ 0 in floating point; `cuts` are the rows of A, none of them zero.

    Raises:
        ArithmeticError: if the numbers are too large or too far apart for floating point.
    """
    try:
        matrix, ones, floats = np.array(cuts, np.float64), np.ones(len(cuts)), np.array(costs, np.float64)
    except OverflowError:
        raise ArithmeticError(f"{TOO_LARGE} in the linear program") from None
    found = _linprog(floats, A_ub=-matrix, b_ub=-ones).x
    if found is None:
        raise ArithmeticError(f"{TOO_LARGE} in the linear program")
    return found


def solve_covering(costs: Row, cuts: Sequence[Row]) -> Covering:
    """The exact solution; `costs` positive, `cuts` non-negative and none of them zero.

    Raises:
        ArithmeticError: if no fraction near the floating-point minimum could be proved; seen for programs of 60 steps.
    """
    approximate = approximate_minimiser(costs, cuts)
    value = float(np.dot(np.array(costs, np.float64), approximate))
    transposed = [[-cut[i] for cut in cuts] for i in range(len(costs))]
    rounded = [Fraction(value).limit_denominator(denominator) for denominator in DENOMINATORS]
    for guess in (*rounded, _vertex_value(costs, cuts, approximate)):
        if guess is None or guess <= 0 or abs(guess - value) > 1e-7 * value:
            continue
        primal = _interior(cuts, [1] * len(cuts), costs, guess)
        dual = _interior(transposed, [-cost for cost in costs], [1] * len(cuts), guess)
        if primal is not None and dual is not None:
            return Covering(guess, primal, dual.point)
    raise ArithmeticError(f"no fraction near {value!r} could be proved to be the minimum of the linear program")


def _vertex_value(costs: Row, cuts: Sequence[Row], approximate: np.ndarray) -> Fraction | None:
    """The exact value at the vertex that `approximate` is near; `None` if its tight rows do not say which one that is."""
    kept = [i for i, y in enumerate(approximate) if y > TIGHT * approximate.max()]
    tight = [cut for cut in cuts if np.dot(np.array(cut, np.float64), approximate) < 1 + TIGHT]
    reduced = _eliminate([[*(Fraction(cut[i]) for i in kept), Fraction(1)] for cut in tight], len(kept))
    if reduced is None or len(reduced) < len(kept):
        return None
    return _dot([Fraction(costs[i]) for i in kept], _solution(reduced, [Fraction(0)] * len(kept)))


def _interior(rows: Sequence[Row], bounds: Row, equation: Row, value: Fraction) -> FacePoint | None:
    """A relative interior point of {x ≥ 0 : rows·x ≥ bounds, equation·x = value}, exactly; `None` if none was found."""
    found = _approximate_interior(
        np.array(rows, float), np.array(bounds, float), np.array(equation, float), float(value)
    )
    if found is None:
        return None
    approximate, tight_rows, at_zero = found
    kept = [i for i in range(len(equation)) if not at_zero[i]]
    equations = [[Fraction(row[i]) for i in kept] + [Fraction(bound)] for row, bound in zip(rows, bounds, strict=True)]
    system = [[Fraction(equation[i]) for i in kept] + [value]]
    system += [row for row, tight in zip(equations, tight_rows, strict=True) if tight]
    slack = [row for row, tight in zip(equations, tight_rows, strict=True) if not tight]
    reduced = _eliminate(system, len(kept))
    if reduced is None:
        return None
    for denominator in DENOMINATORS:
        part = _solution(reduced, [Fraction(approximate[i]).limit_denominator(denominator) for i in kept])
        if min(part) > 0 and all(_dot(row, part) > row[-1] for row in slack):
            directions = [_spread(direction, kept, len(equation)) for direction in _null_space(reduced, len(kept))]
            return FacePoint(_spread(part, kept, len(equation)), directions)
    return None


def _approximate_interior(
    rows: np.ndarray, bounds: np.ndarray, equation: np.ndarray, value: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """A relative interior point in floating point; which rows are tight on the whole polyhedron, which x are 0 on it.

    The linear program of Freund, Roundy & Todd 1985: maximise Σu over 0 ≤ u ≤ 1 with rows·x - bounds·τ ≥ u and x ≥ u, τ ≥ 1.
    An inequality that can be strict somewhere gets u = 1, one that never is gets u = 0.
    """
    count, n = rows.shape
    identity = np.eye(n)
    above = np.block([[-rows, np.eye(count), np.zeros((count, n)), bounds[:, None]]])
    positive = np.block([[-identity, np.zeros((n, count)), identity, np.zeros((n, 1))]])
    plane = np.concatenate([equation, np.zeros(count + n), [-value]])
    solution = _linprog(
        np.concatenate([np.zeros(n), -np.ones(count + n), [0.0]]),
        A_ub=np.vstack([above, positive]),
        b_ub=np.zeros(count + n),
        A_eq=plane[None],
        b_eq=np.zeros(1),
        bounds=[(0, None)] * n + [(0, 1)] * (count + n) + [(1, None)],
    )
    if solution.x is None:
        return None
    strict = solution.x[n:-1] > 0.5
    return solution.x[:n] / solution.x[-1], ~strict[:count], ~strict[count:]


def _linprog(costs: np.ndarray, **constraints: Any) -> Any:
    # Here, so that importing `theory` stays light: scipy.optimize takes longer to load than all of it.
    from scipy.optimize import linprog

    return linprog(costs, method="highs-ds", options={"presolve": False}, **constraints)


def _eliminate(system: list[list[Fraction]], n: int) -> dict[int, list[Fraction]] | None:
    """The reduced row echelon form of `system` (rows end with their right side), by pivot; `None` if it has no solution."""
    reduced: dict[int, list[Fraction]] = {}
    for row in system:
        for pivot, other in reduced.items():
            if row[pivot]:
                row = [a - row[pivot] * b for a, b in zip(row, other, strict=True)]
        left = [i for i in range(n) if row[i]]
        if not left:
            if row[n]:
                return None
            continue
        pivot = left[0]
        row = [a / row[pivot] for a in row]
        for at, other in reduced.items():
            if other[pivot]:
                reduced[at] = [a - other[pivot] * b for a, b in zip(other, row, strict=True)]
        reduced[pivot] = row
    return reduced


def _solution(reduced: dict[int, list[Fraction]], guess: list[Fraction]) -> list[Fraction]:
    """The solution whose free coordinates are those of `guess`."""
    free = [i for i in range(len(guess)) if i not in reduced]
    solution = list(guess)
    for pivot, row in reduced.items():
        solution[pivot] = row[-1] - sum((row[i] * guess[i] for i in free), Fraction(0))
    return solution


def _null_space(reduced: dict[int, list[Fraction]], n: int) -> list[list[Fraction]]:
    basis = []
    for free in (i for i in range(n) if i not in reduced):
        direction = [Fraction(int(i == free)) for i in range(n)]
        for pivot, row in reduced.items():
            direction[pivot] = -row[free]
        basis.append(direction)
    return basis


def _spread(part: list[Fraction], kept: list[int], n: int) -> list[Fraction]:
    whole = [Fraction(0)] * n
    for i, x in zip(kept, part, strict=True):
        whole[i] = x
    return whole


def _dot(row: Sequence[Fraction], x: Sequence[Fraction]) -> Fraction:
    """Σ row·x; what `row` holds beyond the length of x is left out."""
    return sum((a * b for a, b in zip(row, x, strict=False) if a), Fraction(0))
