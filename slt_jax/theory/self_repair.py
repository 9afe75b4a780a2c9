"""Toys of self-repair: networks in which one part is put right by another, and what that does to the learning coefficient.

A part A of a network is damaged: its output is mixed with nothing at strength ε. The direct effect is what the output
loses if everything after A keeps still, the total effect what it loses once everything after A has answered. R(ε) is 1 - total/direct,
along the truth. R(0+) is local repair, R(1) what is usually called self-repair. Inputs x have mean zero and covariance I and
their law is symmetric; the truth is y = x; L is half the mean squared error, zero at the center.

`docs/self-repair.md` derives every coefficient. Losses are written for the namespace of the array that comes in, of numpy or of
jax; parameters come ravelled in the last axis.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import numpy as np

from slt_jax.theory.self_repair_values import (
    FiniteValue,
    layer_norm_value,
    product_value,
    quadratic_value,
    vote_value,
)
from slt_jax.theory.singular import LearningCoefficient, constant_rank, whole_number

__all__ = [
    "LayerNormScale", "LouderWins", "OwnKnowledge", "ParallelCopies", "ResidualCorrector", "ThresholdGate", "Toy",
    "VoteOfThree", "hessian_rank_bounds", "residual_corrector", "vote_of_three",
]  # fmt: skip


class Toy(Protocol):
    """What every toy can be asked.

    Attributes:
        center: w*, where the loss is 0, ravelled.
        repair: R(0+), averaged over inputs.
        full_repair: R(1).
        coefficient: the exact (λ, m) at w*.
        plain: λ of one part alone that computes the same.
    """

    @property
    def center(self) -> np.ndarray: ...

    @property
    def repair(self) -> float: ...

    @property
    def full_repair(self) -> float: ...

    @property
    def coefficient(self) -> LearningCoefficient: ...

    @property
    def plain(self) -> Fraction: ...

    def output(self, parameters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """The network: parameters `(D,)` and inputs `(n, d)` to outputs `(n, outputs)`."""

    def loss(self, parameters: Any) -> Any:
        """L, parameters `(..., D)` to `(...)`, in squared units."""

    def finite(self, nbeta: float, localization: float) -> FiniteValue:
        """nβE[L] of the posterior at w*: what a perfect sampler reports at these settings."""


def residual_corrector(dimension: int, repaired: int, left_out: int = 0) -> LearningCoefficient:
    """λ of y = s + B(x - s), s = Ax, d x d matrices, with rank(1 - A) = `left_out` and rank(1 - B) = d - `repaired`.

    λ = (d² - p(d - p))/2 with p = max(d - repaired, left_out, ⌈d/2⌉); m = 2 if d is odd and both ranks are below d/2, else 1.

    Raises:
        ValueError: if `repaired` is not in 0..d or `left_out` not in 0..repaired: what A leaves out, B has to write.

    Source: `docs/self-repair.md`, theorem 1.

    Example:
        >>> from slt_jax.theory.self_repair import residual_corrector
        >>> residual_corrector(4, 0), residual_corrector(4, 2)
        (LearningCoefficient(learning_coefficient=Fraction(8, 1), multiplicity=1), LearningCoefficient(learning_coefficient=Fraction(6, 1), multiplicity=1))
    """
    d, k, q = (
        whole_number("dimension", dimension, 1),
        whole_number("repaired", repaired),
        whole_number("left_out", left_out),
    )
    if k > d or q > k:
        raise ValueError(f"repaired = {k} must be at most dimension = {d}, and left_out = {q} at most repaired")
    p = max(d - k, q, (d + 1) // 2)
    return LearningCoefficient(Fraction(d * d - p * (d - p), 2), 2 if d % 2 and max(d - k, q) < d / 2 else 1)


def vote_of_three(dimension: int) -> LearningCoefficient:
    """λ = (5d - 2)/6, m = 1, of the median of a·x, b·x and c·x where all three are the truth; a single one has d/2.

    Raises ValueError if `dimension` is below 1. Source: `docs/self-repair.md`, theorem 4.
    """
    return LearningCoefficient(Fraction(5 * whole_number("dimension", dimension, 1) - 2, 6), 1)


def hessian_rank_bounds(rank: int, parameters: int) -> tuple[Fraction, Fraction]:
    """r/2 ≤ λ ≤ r/2 + (D - r)/4 for an analytic loss with D parameters and a Hessian of rank r at its minimum.

    Raises ValueError if `rank` is above `parameters`. Source: `docs/self-repair.md`, theorem 6.

    Example:
        >>> from slt_jax.theory.self_repair import hessian_rank_bounds
        >>> hessian_rank_bounds(2, 4)
        (Fraction(1, 1), Fraction(3, 2))
    """
    r, d = whole_number("rank", rank), whole_number("parameters", parameters)
    if r > d:
        raise ValueError(f"rank = {r} must be at most parameters = {d}")
    return Fraction(r, 2), Fraction(r, 2) + Fraction(d - r, 4)


def _square(parameters: Any, dimension: int, parts: int = 2) -> Any:
    """Ravelled square matrices: `(..., parts * d * d)` to `(parts, ..., d, d)`."""
    shaped = parameters.reshape(*parameters.shape[:-1], parts, dimension, dimension)
    return shaped.__array_namespace__().moveaxis(shaped, -3, 0)


def _one(like: Any) -> Any:
    """Identity matrices of the shape of `like`, `(..., d, d)`."""
    xp = like.__array_namespace__()
    return xp.broadcast_to(xp.eye(like.shape[-1], dtype=like.dtype), like.shape)


def _half_square(error: Any) -> Any:
    """½ Σ error² over the last two axes."""
    return (error * error).sum((-2, -1)) / 2


@dataclass(frozen=True)
class ResidualCorrector:
    """y = s + B(x - s), s = Ax: B writes what it finds missing. R = strength · repaired / d at every ε.

    Attributes:
        dimension: d.
        repaired: coordinates that B corrects.
        left_out: coordinates, among these, that A leaves to B: with `left_out = repaired` the two divide the labour, and R along the truth is 0.
        strength: how much of an error B takes back; below 1 only with nothing left out.
    """

    dimension: int
    repaired: int
    left_out: int = 0
    strength: float = 1.0

    def __post_init__(self) -> None:
        residual_corrector(self.dimension, self.repaired, self.left_out)
        if not 0 < self.strength <= 1 or (self.strength < 1 and self.left_out):
            raise ValueError(f"strength = {self.strength}; it must be in (0, 1], and 1 where something is left out")

    @property
    def missing(self) -> tuple[np.ndarray, np.ndarray]:
        """The diagonals of 1 - B and 1 - A at w*."""
        places = np.arange(self.dimension)
        return np.where(places < self.repaired, 1 - self.strength, 1.0), np.where(places < self.left_out, 1.0, 0.0)

    @property
    def center(self) -> np.ndarray:
        not_written, not_known = self.missing
        return np.concatenate([np.diag(1 - not_known).ravel(), np.diag(1 - not_written).ravel()])

    @property
    def repair(self) -> float:
        known = self.dimension - self.left_out
        return self.strength * (self.repaired - self.left_out) / known if known else 0.0

    full_repair = repair

    @property
    def coefficient(self) -> LearningCoefficient:
        written = self.repaired if self.strength == 1 else 0
        return residual_corrector(self.dimension, written, self.left_out)

    @property
    def plain(self) -> Fraction:
        return Fraction(self.dimension**2, 2)

    def output(self, parameters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        first, second = _square(parameters, self.dimension)
        written = inputs @ first.T
        return written + (inputs - written) @ second.T

    def loss(self, parameters: Any) -> Any:
        first, second = _square(parameters, self.dimension)
        one = _one(first)
        return _half_square((one - second) @ (one - first))

    def finite(self, nbeta: float, localization: float) -> FiniteValue:
        return product_value(*self.missing, nbeta, localization)


class _ConstantRank:
    """A toy whose λ is that of a plain square matrix."""

    dimension: int

    @property
    def coefficient(self) -> LearningCoefficient:
        return constant_rank(self.dimension**2)

    @property
    def plain(self) -> Fraction:
        return Fraction(self.dimension**2, 2)


@dataclass(frozen=True)
class OwnKnowledge(_ConstantRank):
    """y = s + ρ(Cx - s), s = Ax, ρ = `strength` wired in: a backup that knows the answer itself. R = ρ at every ε."""

    dimension: int
    strength: float

    @property
    def center(self) -> np.ndarray:
        return np.concatenate([np.eye(self.dimension).ravel()] * 2)

    @property
    def repair(self) -> float:
        return self.strength

    full_repair = repair

    def output(self, parameters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        first, second = _square(parameters, self.dimension)
        return inputs @ ((1 - self.strength) * first + self.strength * second).T

    def loss(self, parameters: Any) -> Any:
        first, second = _square(parameters, self.dimension)
        one = _one(first)
        return _half_square((1 - self.strength) * first + self.strength * second - one)

    def finite(self, nbeta: float, localization: float) -> FiniteValue:
        curvature = (1 - self.strength) ** 2 + self.strength**2
        return quadratic_value(np.full(self.dimension**2, curvature), nbeta, localization)


@dataclass(frozen=True)
class ParallelCopies(_ConstantRank):
    """y = (A₁ + ... + A_N)x / N: redundant, and nothing answers a damage. R = 0."""

    dimension: int
    copies: int
    repair: ClassVar[float] = 0.0
    full_repair: ClassVar[float] = 0.0

    @property
    def center(self) -> np.ndarray:
        return np.concatenate([np.eye(self.dimension).ravel()] * self.copies)

    def output(self, parameters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return inputs @ _square(parameters, self.dimension, self.copies).mean(0).T

    def loss(self, parameters: Any) -> Any:
        mean = _square(parameters, self.dimension, self.copies).mean(0)
        return _half_square(mean - _one(mean))

    def finite(self, nbeta: float, localization: float) -> FiniteValue:
        return quadratic_value(np.full(self.dimension**2, 1 / self.copies), nbeta, localization)


@dataclass(frozen=True)
class ThresholdGate(_ConstantRank):
    """A column of A, or that of its copy C where the column of A is shorter than ½. R(0+) = 0 and R(1) = 1.

    The inputs are √d times the unit vectors and their negatives, so that the gate sees one column at a time.
    """

    dimension: int
    repair: ClassVar[float] = 0.0
    full_repair: ClassVar[float] = 1.0

    @property
    def center(self) -> np.ndarray:
        return np.concatenate([np.eye(self.dimension).ravel()] * 2)

    def _chosen(self, parameters: Any) -> Any:
        first, second = _square(parameters, self.dimension)
        loud = (first * first).sum(-2, keepdims=True) >= 0.25
        return first.__array_namespace__().where(loud, first, second)

    def output(self, parameters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return inputs @ self._chosen(parameters).T

    def loss(self, parameters: Any) -> Any:
        chosen = self._chosen(parameters)
        return _half_square(chosen - _one(chosen))

    def finite(self, nbeta: float, localization: float) -> FiniteValue:
        """As if the gate stayed shut: that it opens has the weight exp(-nβ/8)."""
        return quadratic_value(np.ones(self.dimension**2), nbeta, localization)


@dataclass(frozen=True)
class LayerNormScale:
    """Columns (A + C)/|A + C| with A = `share` and C = 1 - `share` times the truth: what is lost in length is made up for. R = 1.

    Inputs as those of `ThresholdGate`.
    """

    dimension: int
    share: float
    repair: ClassVar[float] = 1.0
    full_repair: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if self.dimension < 2 or not 0 < self.share < 1:
            raise ValueError(
                f"dimension = {self.dimension}, share = {self.share}; need at least 2, and a share in (0, 1)"
            )

    @property
    def center(self) -> np.ndarray:
        one = np.eye(self.dimension).ravel()
        return np.concatenate([self.share * one, (1 - self.share) * one])

    @property
    def coefficient(self) -> LearningCoefficient:
        return constant_rank(self.dimension * (self.dimension - 1))

    @property
    def plain(self) -> Fraction:
        """That of one normalised part: the length of each column is free."""
        return Fraction(self.dimension * (self.dimension - 1), 2)

    def _columns(self, parameters: Any) -> Any:
        total = _square(parameters, self.dimension).sum(0)
        return total / (total * total).sum(-2, keepdims=True) ** 0.5

    def output(self, parameters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return inputs @ self._columns(parameters).T

    def loss(self, parameters: Any) -> Any:
        columns = self._columns(parameters)
        return _half_square(columns - _one(columns))

    def finite(self, nbeta: float, localization: float) -> FiniteValue:
        return layer_norm_value(self.dimension, nbeta, localization)


@dataclass(frozen=True)
class LouderWins:
    """y_j = max(a_j·x, c_j·x) for the first `repaired` outputs, a_j·x for the rest. R = repaired/(2d) at every ε.

    max(a·x, c·x) - t·x = max(α·x, γ·x), and as x and -x are equally likely its mean square is (|α|² + |γ|²)/2: the loss is a
    quadratic, with no flat direction left.
    """

    dimension: int
    repaired: int

    def __post_init__(self) -> None:
        if not 0 <= self.repaired <= self.dimension:
            raise ValueError(f"repaired = {self.repaired}; it must be in 0..{self.dimension}, the dimension")

    @property
    def center(self) -> np.ndarray:
        return np.concatenate([np.eye(self.dimension).ravel()] * 2)

    @property
    def repair(self) -> float:
        return self.repaired / (2 * self.dimension)

    full_repair = repair

    @property
    def coefficient(self) -> LearningCoefficient:
        return constant_rank(self.dimension * (self.dimension + self.repaired))

    @property
    def plain(self) -> Fraction:
        return Fraction(self.dimension**2, 2)

    def output(self, parameters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        first, second = (inputs @ part.T for part in _square(parameters, self.dimension))
        wired = np.arange(self.dimension)[None] < self.repaired
        return np.where(wired, np.maximum(first, second), first)

    def loss(self, parameters: Any) -> Any:
        parts = _square(parameters, self.dimension)
        parts = parts - _one(parts)
        rows = (parts * parts).sum(-1)  # (part, ..., output)
        k = self.repaired
        return rows[..., :k].sum((0, -1)) / 4 + rows[0][..., k:].sum(-1) / 2

    def finite(self, nbeta: float, localization: float) -> FiniteValue:
        d, k = self.dimension, self.repaired
        return quadratic_value(np.repeat([0.5, 1.0], [2 * k * d, (d - k) * d]), nbeta, localization)


@dataclass(frozen=True)
class VoteOfThree:
    """y = median(a·x, b·x, c·x) for Gaussian inputs in the plane; all three are the truth, the first coordinate. R = 1 at every ε."""

    repair: ClassVar[float] = 1.0
    full_repair: ClassVar[float] = 1.0
    plain: ClassVar[Fraction] = Fraction(1)

    @property
    def center(self) -> np.ndarray:
        return np.array([1.0, 0.0] * 3)

    @property
    def coefficient(self) -> LearningCoefficient:
        return vote_of_three(2)

    def output(self, parameters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return np.median(inputs @ parameters.reshape(3, 2).T, axis=-1, keepdims=True)

    def loss(self, parameters: Any) -> Any:
        """The mean over angles θ of median(u_i·(cos θ, sin θ))², u_i the three errors: a sum over the arcs between the
        three angles at which two of them agree."""
        xp = parameters.__array_namespace__()
        truth = xp.asarray(self.center, dtype=parameters.dtype)
        errors = (parameters - xp.broadcast_to(truth, parameters.shape)).reshape(*parameters.shape[:-1], 3, 2)
        apart = errors - xp.roll(errors, 1, axis=-2)
        together = (apart == 0).all(-1)  # any angle will do where two errors are equal
        angles = xp.arctan2(xp.where(together, 1.0, apart[..., 0]), xp.where(together, 0.0, -apart[..., 1]))
        begins = xp.sort(xp.mod(angles, np.pi), axis=-1)
        ends = xp.concatenate([begins[..., 1:], begins[..., :1] + np.pi], axis=-1)
        middle = (begins + ends)[..., None, :] / 2
        heights = errors[..., :1] * xp.cos(middle) + errors[..., 1:] * xp.sin(middle)  # (..., copy, arc)
        median = xp.argsort(heights, axis=-2)[..., 1, :, None]
        u = xp.take_along_axis(errors, median, axis=-2)  # (..., arc, 2)
        height = xp.take_along_axis(heights, xp.moveaxis(median, -1, -2), axis=-2)[..., 0, :]
        lengths = ends - begins
        # ∫(u·e)² = (u·e at the middle)² sin Δ + |u|²/2 (Δ - sin Δ): nothing cancels where all but a sliver is 0
        bent = xp.where(lengths < 0.01, lengths**3 / 6 * (1 - lengths**2 / 20), lengths - xp.sin(lengths))
        return (height**2 * xp.sin(lengths) + (u * u).sum(-1) / 2 * bent).sum(-1) / np.pi

    def finite(self, nbeta: float, localization: float) -> FiniteValue:
        return vote_value(self, nbeta, localization)
