"""Exact learning coefficients of models that are singular in a simple way.

The volume of parameters with K(w) < t, near a minimum, shrinks like t^λ (-log t)^(m-1): λ is the learning
coefficient and m its multiplicity (Watanabe 2009, *Algebraic Geometry and Statistical Learning Theory*,
ch. 4).
"""

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt
from operator import index
from typing import Any, NamedTuple, SupportsIndex

__all__ = [
    "LearningCoefficient",
    "constant_rank",
    "normal_crossing",
    "regular",
    "relu_unit_zero_truth",
    "sum_of_separate_variables",
    "tanh_network_zero_truth",
    "whole_number",
]


class LearningCoefficient(NamedTuple):
    """The exact pair (λ, m): `learning_coefficient` is a Fraction, `multiplicity` an int of at least 1.

    Example:
        >>> from slt_jax.theory import regular
        >>> found = regular(3)
        >>> float(found.learning_coefficient), found.multiplicity
        (1.5, 1)
    """

    learning_coefficient: Fraction
    multiplicity: int


def whole_number(name: str, value: Any, minimum: int = 0) -> int:
    """`value` as an int of at least `minimum`; a ValueError naming the argument `name` otherwise."""
    try:
        number = index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return number


def regular(dimension: SupportsIndex) -> LearningCoefficient:
    """λ = d/2, m = 1: a minimum with a non-degenerate Hessian in `dimension` parameters.

    Example:
        >>> from slt_jax.theory import regular
        >>> regular(3)
        LearningCoefficient(learning_coefficient=Fraction(3, 2), multiplicity=1)
    """
    return LearningCoefficient(Fraction(whole_number("dimension", dimension), 2), 1)


def constant_rank(rank: SupportsIndex) -> LearningCoefficient:
    """λ = r/2, m = 1: minima along a smooth manifold, Hessian of rank r on it (Morse-Bott).

    Example:
        >>> from slt_jax.theory import constant_rank
        >>> constant_rank(3).learning_coefficient
        Fraction(3, 2)
    """
    return LearningCoefficient(Fraction(whole_number("rank", rank), 2), 1)


def normal_crossing(
    exponents: Sequence[SupportsIndex], prior_exponents: Sequence[SupportsIndex] | None = None
) -> LearningCoefficient:
    """K(w) = ∏ w_i^(2 k_i) under a prior ∏ |w_i|^(h_i) near 0: λ = min (h_i + 1)/(2 k_i).

    m is the number of i that attain it. `exponents` are the k_i (at least one positive),
    `prior_exponents` the h_i (default: all 0), as long as `exponents`. Source: Watanabe 2009, theorem 6.6
    (the poles of ζ(z) = ∫ K^z φ dw). Raises ValueError.

    Example:
        >>> from slt_jax.theory import normal_crossing
        >>> normal_crossing([1, 1]), normal_crossing([1, 2]).learning_coefficient
        (LearningCoefficient(learning_coefficient=Fraction(1, 2), multiplicity=2), Fraction(1, 4))
    """
    powers = [whole_number("exponents", k) for k in exponents]
    if not any(powers):
        raise ValueError(f"exponents must hold at least one positive number, got {list(exponents)}")
    prior = [0] * len(powers) if prior_exponents is None else prior_exponents
    densities = [whole_number("prior_exponents", h) for h in prior]
    if len(densities) != len(powers):
        raise ValueError(f"prior_exponents must be as long as exponents ({len(powers)}), got {len(densities)} numbers")
    poles = [Fraction(h + 1, 2 * k) for k, h in zip(powers, densities, strict=True) if k > 0]
    return LearningCoefficient(min(poles), poles.count(min(poles)))


def sum_of_separate_variables(*coefficients: LearningCoefficient) -> LearningCoefficient:
    """K(u, v, ...) = K₁(u) + K₂(v) + ...: λ = Σ λ_i and m = 1 + Σ (m_i - 1) (Watanabe 2009, remark 7.1).

    Raises ValueError if no coefficient is given.

    Example:
        >>> from slt_jax.theory import normal_crossing, regular, sum_of_separate_variables
        >>> sum_of_separate_variables(regular(2), normal_crossing([1, 1]))
        LearningCoefficient(learning_coefficient=Fraction(3, 2), multiplicity=2)
    """
    if not coefficients:
        raise ValueError("coefficients must hold at least one LearningCoefficient, got none")
    return LearningCoefficient(
        sum((c.learning_coefficient for c in coefficients), Fraction(0)),
        1 + sum(c.multiplicity - 1 for c in coefficients),
    )


def tanh_network_zero_truth(hidden_units: SupportsIndex) -> LearningCoefficient:
    """Σ_h a_h tanh(b_h x), one input, one output, true function 0: λ = (H + i² + i)/(4i + 2) with i = ⌊√H⌋.

    m = 2 where H = i², else 1. Source: Aoyagi & Watanabe 2006, *Resolution of singularities and the
    generalization error with Bayesian estimation for layered neural network*. Raises ValueError if H < 1.

    Example:
        >>> from slt_jax.theory import tanh_network_zero_truth
        >>> tanh_network_zero_truth(4)
        LearningCoefficient(learning_coefficient=Fraction(1, 1), multiplicity=2)
    """
    h = whole_number("hidden_units", hidden_units, 1)
    i = isqrt(h)
    return LearningCoefficient(Fraction(h + i * i + i, 4 * i + 2), 2 if h == i * i else 1)


def relu_unit_zero_truth(input_dim: SupportsIndex = 1) -> LearningCoefficient:
    """a·relu(w·x) with true function 0 and x symmetric about 0: K is equivalent to a²‖w‖².

    λ = 1/2, with m = 2 for one input (the two-parameter toy model) and m = 1 for more: in polar coordinates
    K = a²r² under the density r^(d-1), a normal crossing. Raises ValueError if input_dim < 1.

    Example:
        >>> from slt_jax.theory import relu_unit_zero_truth
        >>> relu_unit_zero_truth(1), relu_unit_zero_truth(3).multiplicity
        (LearningCoefficient(learning_coefficient=Fraction(1, 2), multiplicity=2), 1)
    """
    return normal_crossing([1, 1], [0, whole_number("input_dim", input_dim, 1) - 1])
