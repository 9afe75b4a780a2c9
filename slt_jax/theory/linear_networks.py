"""Exact learning coefficients of linear networks: reduced-rank regression and any depth.

Model y = W_L ... W_1 x with W_s of shape (H_s, H_{s-1}), true matrix of rank r, full-rank input
covariance. These are the values of the whole model: those of its deepest singularity. `theory.local` has
the value at a given point.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import SupportsIndex

from slt_jax.theory.singular import LearningCoefficient, whole_number

__all__ = ["check_widths", "deep_linear_network", "reduced_rank_regression"]


def check_widths(widths: Sequence[SupportsIndex]) -> list[int]:
    """`widths` as ints; ValueError unless there are at least two (input and output), all positive."""
    sizes = [whole_number("widths", width, 1) for width in widths]
    if len(sizes) < 2:
        raise ValueError(f"widths must hold at least two layers, input and output, got {sizes}")
    return sizes


def reduced_rank_regression(
    input_dim: SupportsIndex, hidden_dim: SupportsIndex, output_dim: SupportsIndex, rank: SupportsIndex
) -> LearningCoefficient:
    """λ and m of y = B A x with A of shape (hidden, input), B of shape (output, hidden), true rank r.

    Source: Aoyagi & Watanabe 2005, *Stochastic complexities of reduced rank regression in Bayesian
    estimation*, main theorem, all four cases. Raises ValueError for a size below 1 or a rank above one of
    the sizes.

    Example:
        >>> from slt_jax.theory import reduced_rank_regression
        >>> reduced_rank_regression(input_dim=6, hidden_dim=3, output_dim=4, rank=3)
        LearningCoefficient(learning_coefficient=Fraction(21, 2), multiplicity=1)
    """
    m = whole_number("input_dim", input_dim, 1)
    h = whole_number("hidden_dim", hidden_dim, 1)
    n = whole_number("output_dim", output_dim, 1)
    r = whole_number("rank", rank)
    if r > min(m, h, n):
        raise ValueError(f"rank must be at most the smallest of the sizes, {min(m, h, n)}, got {r}")
    if m + h < n + r:
        return LearningCoefficient(Fraction(h * m - h * r + n * r, 2), 1)
    if n + h < m + r:
        return LearningCoefficient(Fraction(h * n - h * r + m * r, 2), 1)
    if m + n < h + r:
        return LearningCoefficient(Fraction(m * n, 2), 1)
    b = 2 * (h + r) * (m + n) + 2 * m * n - (h + r) ** 2 - m**2 - n**2
    odd = (m + h + n + r) % 2
    return LearningCoefficient(Fraction(b + odd, 8), 1 + odd)


def deep_linear_network(widths: Sequence[SupportsIndex], rank: SupportsIndex) -> LearningCoefficient:
    """λ and m of a linear network with layer widths H_0, ..., H_L and a true product of rank r.

    Source: Aoyagi 2024, *Consideration on the learning efficiency of multiple-layered neural networks
    with linear units*, theorem 1. Lehalleur & Rimányi 2024 show that λ is half the codimension of the
    fibre {W_L...W_1 = A}. Raises ValueError for fewer than two widths, a width below 1, or a rank above
    one of the widths.

    Example:
        >>> from slt_jax.theory import deep_linear_network
        >>> deep_linear_network([4, 3, 4], rank=0)
        LearningCoefficient(learning_coefficient=Fraction(5, 1), multiplicity=2)
    """
    sizes = check_widths(widths)
    r = whole_number("rank", rank)
    if r > min(sizes):
        raise ValueError(f"rank must be at most the smallest width, {min(sizes)}, got {r}")
    excess = _bottleneck([size - r for size in sizes])
    ell, total = len(excess) - 1, sum(excess)
    ceiling = -(-total // ell)
    a = total - (ceiling - 1) * ell
    pairs = (total**2 - sum(e * e for e in excess)) // 2
    learning_coefficient = (
        Fraction(r * (sizes[0] + sizes[-1]) - r * r, 2)
        + Fraction(a * (ell - a), 4 * ell)
        - Fraction((ell - 1) * total**2, 4 * ell)
        + Fraction(pairs, 2)
    )
    return LearningCoefficient(learning_coefficient, a * (ell - a) + 1)


def _bottleneck(excess: list[int]) -> list[int]:
    """Aoyagi's set Σ of layers, as their excess widths Δ = H - r.

    Σ has max Σ < min outside, sum Σ ≥ ℓ·max Σ and sum Σ < ℓ·min outside with ℓ = |Σ| - 1 ≥ 1, so it is a
    prefix of the sorted excess widths, and exactly one prefix passes.
    """
    ordered = sorted(excess)
    for count in range(2, len(ordered) + 1):
        inside, outside = ordered[:count], ordered[count:]
        ell, total = count - 1, sum(inside)
        if total >= ell * inside[-1] and (not outside or (inside[-1] < outside[0] and total < ell * outside[0])):
            return inside
    raise AssertionError("no prefix of the excess widths is a bottleneck; Aoyagi's theorem says that one is")
