"""The learning coefficient of a linear network at one point of its parameter space, exactly.

Aoyagi's value belongs to the deepest singularity. At w* = (W_1, ..., W_L) with ranks r_ij = rank(W_j ...
W_{i+1}), r = r_0L, nullities κ_ij = H_i - r_ij, the fibre {W_L ... W_1 = A} has the pieces {rank(W_i ...
W_1) = x_i}. In terms of d_i = x_{i-1} - x_i its codimension is r(H_0+H_L) - r² + ½ Σ d_i² + Σ d_i (H_i -
r) - ½ (H_0-r)², and it reaches w* exactly if d_{i+1} + ... + d_j ≤ κ_ij for all i < j.
`docs/local-lambda.md` proves that half the least codimension is the local learning coefficient, and that
the greedy search below finds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from slt_jax.theory.linear_networks import check_widths, deep_linear_network
from slt_jax.theory.singular import LearningCoefficient, whole_number

__all__ = ["LocalLearningCoefficient", "deep_linear_network_local", "normal_form", "rank_pattern"]


@dataclass(frozen=True)
class LocalLearningCoefficient:
    """What is known of λ at one point of a linear network; all coefficients are Fractions.

    `lower` = max(Aoyagi's λ, half the Hessian rank) ≤ λ ≤ `upper` = half the least codimension of the fibre
    at the point: two bounds from independent short arguments, `certified` where they meet. That λ = `upper`
    also where they do not is the theorem of `docs/local-lambda.md`. `global_coefficient` is Aoyagi's (λ, m).
    The local multiplicity is at most `multiplicity_bound`, and equals it where that is 1.

    Example:
        >>> from slt_jax.theory import deep_linear_network_local
        >>> local = deep_linear_network_local([2, 2, 2], {(0, 1): 0, (1, 2): 0, (0, 2): 0})
        >>> local.certified, local.learning_coefficient, local.global_coefficient.learning_coefficient
        (True, Fraction(3, 2), Fraction(3, 2))
    """

    lower: Fraction
    upper: Fraction
    half_hessian_rank: Fraction
    half_codimension: Fraction
    global_coefficient: LearningCoefficient
    multiplicity_bound: int

    @property
    def certified(self) -> bool:
        """Whether the two bounds meet."""
        return self.lower == self.upper

    @property
    def learning_coefficient(self) -> Fraction:
        """The local λ: the upper bound, which is attained."""
        return self.upper


def deep_linear_network_local(widths: Sequence[SupportsIndex], ranks: Any) -> LocalLearningCoefficient:
    """The local λ of y = W_L ... W_1 x at a point w* whose partial products have the given ranks.

    `widths` are H_0, ..., H_L; `ranks[i, j]`, 0 ≤ i < j ≤ L, is rank(W_j ... W_{i+1}): a mapping keyed by
    pairs or a square array (only i < j is read), as `rank_pattern` returns. The truth is the product at
    w*, input covariance of full rank. Raises ValueError for bad widths, and for ranks that no matrices of
    these widths have.

    Example:
        >>> from slt_jax.theory import deep_linear_network_local
        >>> at_zero = deep_linear_network_local([2, 2, 2], {(0, 1): 0, (1, 2): 0, (0, 2): 0})
        >>> elsewhere = deep_linear_network_local([2, 2, 2], {(0, 1): 2, (1, 2): 0, (0, 2): 0})
        >>> at_zero.learning_coefficient, elsewhere.learning_coefficient  # elsewhere: W₂ = 0, W₁ of full rank
        (Fraction(3, 2), Fraction(2, 1))
    """
    sizes = check_widths(widths)
    table = _rank_table(sizes, ranks)
    r = int(table[0, -1])
    multiplicities = _interval_multiplicities(table)
    product_part = r * (sizes[0] + sizes[-1] - r)

    # Of all linked pairs of intervals only [0, b] -> [c, L] are seen by second derivatives.
    starts, ends = multiplicities[0, :-1], multiplicities[1:, -1]
    linked = sum(int(starts[b] * ends[c]) for b in range(len(starts)) for c in range(b + 1))
    half_hessian_rank = Fraction(product_part + linked, 2)
    drops, slack = _cheapest_piece(sizes, table)
    twice = sum(int(d) * (int(d) + 2 * (size - r)) for d, size in zip(drops, sizes, strict=True))
    half_codimension = Fraction(2 * product_part + twice - (sizes[0] - r) ** 2, 4)
    global_coefficient = deep_linear_network(sizes, r)
    return LocalLearningCoefficient(
        lower=max(global_coefficient.learning_coefficient, half_hessian_rank),
        upper=half_codimension,
        half_hessian_rank=half_hessian_rank,
        half_codimension=half_codimension,
        global_coefficient=global_coefficient,
        multiplicity_bound=_longest_chain(sizes, drops, slack),
    )


def rank_pattern(matrices: Sequence[ArrayLike], tolerance: float = 1e-6) -> np.ndarray:
    """The ranks of all partial products: entry [i, j] is rank(W_j ... W_{i+1}), H_i on the diagonal, 0 below.

    `matrices` are W_1, ..., W_L, W_s of shape (H_s, H_{s-1}), acting on columns: pass `kernel.T` for flax
    kernels. A long product's small singular values drown in rounding, so images are carried forward as
    orthonormal bases and only a factor restricted to an image is judged: its singular values count above
    `tolerance` times the largest of the whole factor. The default fits weights that were rounded to
    float32. Raises ValueError for shapes that do not compose.

    Example:
        >>> import numpy as np
        >>> from slt_jax.theory import rank_pattern
        >>> rank_pattern([np.diag([1.0, 0.0]), np.eye(2)]).tolist()
        [[2, 1, 1], [0, 2, 2], [0, 0, 2]]
    """
    factors = [np.asarray(matrix, dtype=np.float64) for matrix in matrices]
    if not factors:
        raise ValueError("matrices must hold at least one matrix, got none")
    for s, factor in enumerate(factors):
        if factor.ndim != 2 or (s > 0 and factor.shape[1] != factors[s - 1].shape[0]):
            raise ValueError(
                f"matrices must be W_s of shape (H_s, H_(s-1)) that compose, got shapes {[f.shape for f in factors]}"
            )
    sizes = [factors[0].shape[1], *(factor.shape[0] for factor in factors)]
    largest = [np.linalg.norm(factor, 2) for factor in factors]
    table = np.diag(np.array(sizes, dtype=np.int64))
    for i in range(len(factors)):
        image = np.eye(sizes[i])
        for j in range(i, len(factors)):
            left, values, _ = np.linalg.svd(factors[j] @ image, full_matrices=False)
            image = left[:, : int(np.sum(values > tolerance * largest[j]))]
            table[i, j + 1] = image.shape[1]
    return table


def normal_form(widths: Sequence[SupportsIndex], ranks: Any) -> list[np.ndarray]:
    """Matrices W_1, ..., W_L of zeros and ones whose partial products have the given ranks.

    Every point with these ranks is this one up to a change of basis in each layer. Arguments and errors
    as in `deep_linear_network_local`; W_s has shape (H_s, H_{s-1}) and dtype float64.

    Example:
        >>> from slt_jax.theory import normal_form
        >>> [matrix.tolist() for matrix in normal_form([2, 2, 2], {(0, 1): 1, (1, 2): 1, (0, 2): 0})]
        [[[0.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]
    """
    sizes = check_widths(widths)
    multiplicities = _interval_multiplicities(_rank_table(sizes, ranks))
    matrices = [np.zeros((sizes[s], sizes[s - 1])) for s in range(1, len(sizes))]
    used = [0] * len(sizes)
    for a, b in zip(*np.nonzero(multiplicities), strict=True):
        for _ in range(multiplicities[a, b]):
            for s in range(a + 1, b + 1):
                matrices[s - 1][used[s], used[s - 1]] = 1.0
            for s in range(a, b + 1):
                used[s] += 1
    return matrices


def _rank_table(sizes: list[int], ranks: Any) -> np.ndarray:
    """The ranks as a checked (L+1, L+1) integer array with the widths on the diagonal and 0 below it."""
    layers = len(sizes)
    if not isinstance(ranks, Mapping):
        ranks = np.asarray(ranks)
        if ranks.shape != (layers, layers):
            raise ValueError(
                f"ranks must be a mapping keyed by (i, j) or an array of shape {(layers, layers)}, "
                f"a row and a column per width, got shape {ranks.shape}"
            )
    table = np.diag(np.array(sizes, dtype=np.int64))
    for i in range(layers):
        for j in range(i + 1, layers):
            try:
                table[i, j] = whole_number(f"ranks[{i}, {j}]", ranks[i, j])
            except KeyError:
                raise ValueError(f"ranks must have an entry for every pair i < j, ({i}, {j}) is missing") from None
            if table[i, j] > min(sizes[i : j + 1]):
                raise ValueError(
                    f"ranks[{i}, {j}] must be at most the smallest width between the two layers, "
                    f"{min(sizes[i : j + 1])}, got {table[i, j]}"
                )
    negative = np.argwhere(_interval_multiplicities(table) < 0)
    if len(negative):
        a, b = negative[0]
        raise ValueError(
            f"ranks must be those of matrices that compose, but around ranks[{a}, {b}] they break the "
            "inequality of Frobenius"
        )
    return table


def _interval_multiplicities(table: np.ndarray) -> np.ndarray:
    """m_ab = r_ab - r_{a-1,b} - r_{a,b+1} + r_{a-1,b+1}: how often the interval [a, b] occurs in w*.

    It is the number of basis vectors that are born in layer a and survive up to layer b.
    """
    padded = np.zeros((len(table) + 1, len(table) + 1), dtype=np.int64)
    padded[1:, :-1] = np.triu(table)
    return np.triu(padded[1:, :-1] - padded[:-1, :-1] - padded[1:, 1:] + padded[:-1, 1:])


def _cheapest_piece(sizes: list[int], table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The d_i that minimise ½ Σ d_i² + Σ d_i H_i among the pieces of the fibre that reach w*.

    The nullities κ_ij are submodular on intervals (the inequality of Frobenius), so these d are the integer
    points of a polymatroid with Σ d_i = κ_0L, and raising the cheapest d_i that can still be raised is exact
    for a separable convex cost (Federgruen & Groenevelt 1986, theorem 1). Returns d with d[0] = 0, and
    slack[i, j] = κ_ij - (d_{i+1} + ... + d_j) for i < j.
    """
    drops = np.zeros(len(sizes), dtype=np.int64)
    slack = np.diag(table)[:, None] - table
    open_layers = list(range(1, len(sizes)))
    while open_layers:
        layer = min(open_layers, key=lambda i: drops[i] + sizes[i])
        if slack[:layer, layer:].min() == 0:
            open_layers.remove(layer)  # a tight interval stays tight
        else:
            _raise_drop(drops, slack, layer, 1)
    return drops, slack


def _raise_drop(drops: np.ndarray, slack: np.ndarray, layer: int, amount: int) -> None:
    drops[layer] += amount
    slack[:layer, layer:] -= amount


def _longest_chain(sizes: list[int], drops: np.ndarray, slack: np.ndarray) -> int:
    """The number of cheapest pieces in a longest chain x > x' > ..., which bounds the multiplicity.

    The cheapest pieces are a distributive lattice under x ≤ x', because the cost is L♮-convex in x: climb to
    its top, then count the way down by shortest steps. A step moves one unit of d, at equal cost.
    """
    drops, slack = drops.copy(), slack.copy()
    while (step := _exchange(sizes, drops, slack, down=False)) is not None:
        _raise_drop(drops, slack, step[0], 1)
        _raise_drop(drops, slack, step[1], -1)
    length = 1
    while (step := _exchange(sizes, drops, slack, down=True)) is not None:
        _raise_drop(drops, slack, step[0], 1)
        _raise_drop(drops, slack, step[1], -1)
        length += 1
    return length


def _exchange(sizes: list[int], drops: np.ndarray, slack: np.ndarray, *, down: bool) -> tuple[int, int] | None:
    """The nearest layers (i, j), i < j if `down`, where d_i + 1 and d_j - 1 is allowed and costs nothing.

    Down, because moving a unit of d to an earlier layer lowers x = (x_0, ..., x_L).
    """
    layers = range(1, len(sizes))
    for distance in range(1, len(sizes) - 1):
        for i in layers:
            j = i + distance if down else i - distance
            if j not in layers or drops[j] == 0 or drops[i] + sizes[i] + 1 != drops[j] + sizes[j]:
                continue
            with_i_only = slack[:i, i:j] if down else slack[j:i, i:]  # the intervals that hold i but not j
            if with_i_only.min() > 0:
                return i, j
    return None
