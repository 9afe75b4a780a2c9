"""The toy model of superposition: its exact loss, its polygons, and their local learning coefficients.

    x = s·e_i,  i uniform on 1..c,  s uniform on [0, 1];     output ReLU(W^T W x + b),  W of shape (2, c)
    L(W, b) = E|x - output|² = 1/c Σ_i Σ_j ∫₀¹ (s·[i = j] - ReLU(s·w_j·w_i + b_j))² ds

Each integral is that of a polynomial over the part of [0, 1] where the unit is active. A k-gon has k columns of W at equal
angles and of equal length, with equal biases; every other feature is dead: w = 0, and its bias is negative, so that its
output is 0, or "+", the constant 1/(2c). k⁺⁺ has two of the latter.

`squared_error` and its gradient are written for the namespace of the arrays that come in, of numpy or of jax.

Source: Chen et al. 2023, arXiv 2310.06301; the exact loss is that of its lemma 3.1, reached by another road.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.optimize import minimize

__all__ = ["Polygon", "feature_losses", "polygon", "polygons", "squared_error", "squared_error_gradient"]

DEAD_BIAS = -1.0
"""Bias of a silent feature. Every negative number gives the same loss; near 0 a posterior would soon find the fall beyond it."""
FEATURES = (4, 5, 6)
"""Numbers of features for which every polygon has been checked to be a minimum: tests/test_superposition.py."""


def feature_losses(weights: Any, biases: Any) -> Any:
    """The mean squared error of each feature alone, `(..., c)`: input i at a uniform scale, summed over outputs.

    Their mean is the population loss.

    Args:
        weights: W, `(..., 2, c)`.
        biases: b, `(..., c)`.

    Example:
        >>> import numpy as np
        >>> from slt_jax.theory.superposition import feature_losses
        >>> feature_losses(np.zeros((2, 6)), np.zeros(6)).round(6).tolist()  # ∫ s² ds = 1/3 where nothing is learned
        [0.333333, 0.333333, 0.333333, 0.333333, 0.333333, 0.333333]
    """
    slopes = (weights[..., :, None, :] * weights[..., :, :, None]).sum(-3)  # (..., output, input)
    return squared_error(slopes, biases[..., :, None], np.eye(weights.shape[-1])).sum(-2)


def squared_error(slope: Any, bias: Any, own: Any) -> Any:
    """∫₀¹ (own·s - ReLU(slope·s + bias))² ds, for own 0 or 1; elementwise.

    Example:
        >>> from slt_jax.theory.superposition import squared_error
        >>> import numpy as np
        >>> [round(float(squared_error(np.asarray(slope), np.asarray(0.0), 1)), 6) for slope in (1.0, 0.0)]  # right, and silent
        [0.0, 0.333333]
    """
    lengths, squares, cubes = _active(slope, bias)
    product = slope * cubes + bias * squares  # of s and the output
    return own / 3 - 2 * own * product + slope * product + bias * (slope * squares + bias * lengths)


def squared_error_gradient(slope: Any, bias: Any, own: Any) -> tuple[Any, Any]:
    """The derivatives of `squared_error` by slope and bias: 2∫ (slope·s + bias - own·s)·(s, 1) over the active part.

    Example:
        >>> from slt_jax.theory.superposition import squared_error_gradient
        >>> import numpy as np
        >>> [float(part) for part in squared_error_gradient(np.asarray(1.0), np.asarray(0.0), 1)]  # at a perfect fit
        [0.0, 0.0]
    """
    lengths, squares, cubes = _active(slope, bias)
    excess = slope - own
    return 2 * (excess * cubes + bias * squares), 2 * (excess * squares + bias * lengths)


def _active(slope: Any, bias: Any) -> tuple[Any, Any, Any]:
    """∫ ds, ∫ s ds and ∫ s² ds over the part of [0, 1] where slope·s + bias is positive."""
    xp = slope.__array_namespace__()
    crossing = xp.clip(-bias / xp.where(slope == 0, 1.0, slope), 0.0, 1.0)
    first = xp.where(slope > 0, crossing, 0.0)
    last = xp.where(slope > 0, 1.0, xp.where(slope < 0, crossing, xp.where(bias > 0, 1.0, 0.0)))
    return last - first, (last * last - first * first) / 2, (last * last * last - first * first * first) / 3


@dataclass(frozen=True)
class Polygon:
    """A phase: a k-gon with the state of its dead features.

    Attributes:
        features: c.
        sides: k.
        positive: how many of the c - k dead features have the bias 1/(2c); the others' are negative.
        radius, bias: of the k live features.

    Example:
        >>> from slt_jax.theory.superposition import polygon
        >>> pentagon = polygon(6, 5)
        >>> pentagon.name, pentagon.num_silent, pentagon.weights.shape
        ('5-gon', 1, (2, 6))
    """

    features: int
    sides: int
    positive: int
    radius: float
    bias: float

    @property
    def name(self) -> str:
        """As "4-gon", "4+", "4++"."""
        return f"{self.sides}{'+' * self.positive}" if self.positive else f"{self.sides}-gon"

    @property
    def num_silent(self) -> int:
        """Dead features with a negative bias."""
        return self.features - self.sides - self.positive

    @property
    def weights(self) -> np.ndarray:
        """W, `(2, c)`, live features first, then those with a positive bias."""
        found = np.zeros((2, self.features))
        angles = 2 * np.pi * np.arange(self.sides) / self.sides
        found[:, : self.sides] = self.radius * np.stack([np.cos(angles), np.sin(angles)])
        return found

    @property
    def biases(self) -> np.ndarray:
        """b, `(c,)`."""
        dead = [1 / (2 * self.features)] * self.positive + [DEAD_BIAS] * self.num_silent
        return np.array([self.bias] * self.sides + dead)

    @property
    def loss(self) -> float:
        """The exact population loss L."""
        return float(feature_losses(self.weights, self.biases).mean())

    @property
    def flat_directions(self) -> int:
        """Dimension of the manifold on which L keeps its value: the rotation, and what is silent.

        A silent feature may have any negative bias. Its column is free as well if the live biases are negative, as in the
        5-gon: a small column reaches no output. In the 4-gon they are 0, and a column that leaves 0 has a positive product
        with a live one, which costs its square.
        """
        return 1 + self.num_silent * (3 if self.bias < 0 else 1)

    @property
    def learning_coefficient(self) -> Fraction:
        """λ, half the number of the other directions; the multiplicity is 1.

        At a 4-gon L has no second derivative: live biases and products of neighbours are 0, where the ReLU has its kink. It is
        harmless. What L has instead is a limit of (L(w + tv) - L(w))/t² that is continuous and homogeneous of degree 2 in v,
        and positive unless v is flat: of the angles between neighbours, which sum to 2π, one shrinks if any changes. Hence
        L - L(w) lies between two multiples of the squared distance to the manifold, and the volume where it is at most t is of
        the order t^(codimension/2).
        """
        return Fraction(3 * self.features - self.flat_directions, 2)


def polygon(features: int, sides: int, positive: int = 0) -> Polygon:
    """The k-gon of c features with `positive` dead biases above 0, its radius and bias to about 1e-8.

    Raises:
        ValueError: for a number of features or sides whose polygons have not been checked to be minima.

    Example:
        >>> from slt_jax.theory.superposition import polygon
        >>> polygon(6, 5).learning_coefficient
        Fraction(7, 1)
    """
    if features not in FEATURES or not 4 <= sides <= features or not 0 <= positive <= features - sides:
        raise ValueError(
            f"features = {features}, sides = {sides}, positive = {positive}; known are 4 to 6 features with 4 sides or more, and "
            "at most as many positive biases as dead features"
        )
    if sides == 4:
        return Polygon(features, 4, positive, 1.0, 0.0)
    radius, bias = minimize(
        lambda point: Polygon(features, sides, positive, *point).loss, [1.2, -0.3], method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-16, "maxiter": 2000},
    ).x  # fmt: skip
    return Polygon(features, sides, positive, float(radius), float(bias))


def polygons(features: int = 6) -> list[Polygon]:
    """All of them, by sides and positive biases: 4-gon, 4+, 4++, 5-gon, 5+ and 6-gon for six features.

    Example:
        >>> from slt_jax.theory.superposition import polygons
        >>> [phase.name for phase in polygons(6)]
        ['4-gon', '4+', '4++', '5-gon', '5+', '6-gon']
    """
    return [
        polygon(features, sides, positive)
        for sides in range(4, features + 1)
        for positive in range(features - sides + 1)
    ]
