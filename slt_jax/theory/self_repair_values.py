"""Finite-temperature values of the toys of self-repair: nβE[L] and F under exp(-nβL - γ/2 |w - w*|²).

In closed form where the loss is a quadratic, by quadrature in one or two dimensions where the rest can be integrated exactly, and
otherwise by integrating one factor exactly and drawing the other from a Gaussian, with a standard error.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from slt_jax.theory.quadrature import grid_posterior

__all__ = [
    "FiniteValue",
    "layer_norm_value",
    "plane_product_value",
    "product_value",
    "quadratic_value",
    "vote_value",
]

CHUNK = 2**16
"""Draws at a time: a matter of memory alone."""
FEWEST_EFFECTIVE = 200
"""Effective draws below which a value and its error are not to be trusted."""


class FiniteValue(NamedTuple):
    """nβE[L], its standard error (0 if it is exact to rounding), and F = -log ∫ exp(-nβL) under the normalised Gaussian of precision γ."""

    llc: float
    std_error: float
    free_energy: float


def quadratic_value(curvatures: ArrayLike, nbeta: float, localization: float) -> FiniteValue:
    """Exact, for L = ½ Σ h_i w_i²: ½ Σ nβh/(nβh + γ) and ½ Σ log(1 + nβh/γ).

    Example:
        >>> from slt_jax.theory.self_repair_values import quadratic_value
        >>> quadratic_value([1.0, 1.0], nbeta=100.0, localization=100.0).llc
        0.5
    """
    ratio = nbeta * np.asarray(curvatures, np.float64) / localization
    return FiniteValue(float(np.sum(ratio / (1 + ratio)) / 2), 0.0, float(np.sum(np.log1p(ratio)) / 2))


def product_value(
    left: ArrayLike, right: ArrayLike, nbeta: float, localization: float, draws: int = 2**20, seed: int = 0
) -> FiniteValue:
    """L = ½|PQ|² of two square matrices around diagonal ones, `left` and `right` their diagonals, whose product is 0.

    Given P, the columns of Q are Gaussian and integrated exactly. P is drawn from the Gaussian that is right to first order in
    the other factor, and weighted.

    Args:
        left, right: diagonals of P and Q at w*, `(d,)`.
        draws: of P.
        seed: of the draws.

    Raises:
        ValueError: if the product of the diagonals is not 0 where `right` is not, if nβ is not positive or γ not, or if the
            weights are so uneven that the value means nothing: nβ/γ² is then too large for this method.
    """
    p, q = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if p.shape != q.shape or p.ndim != 1 or np.any(p * q != 0):
        raise ValueError(f"left and right must be diagonals of one size with product 0, got {p} and {q}")
    if not (nbeta > 0 and localization > 0):
        raise ValueError(f"nbeta and localization must be positive, got {nbeta} and {localization}")
    ratio = nbeta / localization
    precision = localization + nbeta * q[None] ** 2 / (1 + ratio * p[:, None] ** 2)
    rng = np.random.default_rng(seed)
    found = [_product_draws(rng, p, q, precision, ratio, localization) for _ in range(-(-draws // CHUNK))]
    log_weights, energies = (np.concatenate(part) for part in zip(*found, strict=True))
    return _weighted(log_weights, energies)


def _product_draws(
    rng: np.random.Generator, p: np.ndarray, q: np.ndarray, precision: np.ndarray, ratio: float, localization: float
) -> tuple[np.ndarray, np.ndarray]:
    """Log weights and conditional means of nβL for `CHUNK` draws of P."""
    dimension = len(p)
    normal = rng.standard_normal((CHUNK, dimension, dimension))
    offset = normal / np.sqrt(precision)
    matrix = np.diag(p) + offset
    values, vectors = np.linalg.eigh(np.swapaxes(matrix, 1, 2) @ matrix)
    scaled = ratio * np.maximum(values, 0.0)
    known = np.einsum("nij,i->nj", vectors**2, q**2)  # |eigenvector · Q*|², summed over the columns of Q*
    share = scaled / (1 + scaled)
    log_weight = -dimension / 2 * np.log1p(scaled).sum(-1) - localization / 2 * (known * share).sum(-1)
    log_proposal = (
        np.sum(np.log(precision / localization)) / 2 - np.sum(normal**2 - localization * offset**2, (1, 2)) / 2
    )
    energy = dimension / 2 * share.sum(-1) + localization / 2 * (known * share / (1 + scaled)).sum(-1)
    return log_weight - log_proposal, energy


def _weighted(log_weights: np.ndarray, energies: np.ndarray) -> FiniteValue:
    """The weighted mean with its error by the delta method.

    Raises:
        ValueError: if the weights are worth fewer than `FEWEST_EFFECTIVE` draws.
    """
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    total = weights.sum()
    effective = total**2 / np.sum(weights**2)
    if effective < FEWEST_EFFECTIVE:
        raise ValueError(
            f"the weights are worth {effective:.0f} draws, fewer than {FEWEST_EFFECTIVE}; take a smaller nβ, a larger γ, or more draws"
        )
    mean = np.sum(weights * energies) / total
    error = np.sqrt(np.sum((weights * (energies - mean)) ** 2)) / total
    return FiniteValue(float(mean), float(error), float(-top - np.log(total / len(weights))))


def plane_product_value(repaired: int, nbeta: float, localization: float, points: int = 500) -> FiniteValue:
    """`product_value` of 2 x 2 matrices with Q* = 0 and P* of rank 2 - `repaired`, by quadrature: also where nβ/γ² is large.

    Given Q, the rows of P are Gaussian; what is left depends on W = γQQᵀ, a Wishart matrix with 2 degrees of freedom, through
    its eigenvalues x > y, whose density is (x - y) exp(-(x + y)/2)/√(xy)/4, and through the angle between its eigenvectors and
    the row of P* that is not 0, uniform on the circle. With a = nβ/γ², s(x) = ax/(1 + ax):

        ∫ exp(-nβL) = E[(1 + ax)^-1 (1 + ay)^-1 exp(-γ/2 (rows of P* along x) s(x) - ...)].

    Raises ValueError unless `repaired` is 0, 1 or 2.
    """
    if repaired not in (0, 1, 2):
        raise ValueError(f"repaired = {repaired}; it must be 0, 1 or 2, of two dimensions")
    scale = nbeta / localization**2
    log_x = np.linspace(-60.0, np.log(120.0), points)
    x, y = np.exp(log_x)[:, None, None], np.exp(log_x)[None, :, None]
    angles = (np.arange(24) + 0.5) * np.pi / 48  # a quarter turn: the trapezoid rule of an even periodic function
    turned = np.cos(angles)[None, None] ** 2 if repaired == 1 else np.full((1, 1, 1), {0: 1.0, 2: 0.0}[repaired])
    other = 1 - turned if repaired == 1 else turned
    first, second = scale * x, scale * y
    # (x - y)/√(xy) dx dy, with dx = x dlog x; on both sides of x = y
    log_prior = np.log(np.abs(x - y) + 1e-300) - (x + y) / 2 + (np.log(x) + np.log(y)) / 2
    log_weight = -np.log1p(first) - np.log1p(second)
    log_weight = log_weight - localization / 2 * (turned * first / (1 + first) + other * second / (1 + second))
    energy = first / (1 + first) + second / (1 + second)
    energy = energy + localization / 2 * (turned * first / (1 + first) ** 2 + other * second / (1 + second) ** 2)
    prior = grid_posterior(np.broadcast_to(log_prior, log_weight.shape), 0.0)
    posterior = grid_posterior(log_prior + log_weight, 0.0)
    mean = float(posterior.mean(np.broadcast_to(energy, log_weight.shape)))
    return FiniteValue(mean, 0.0, prior.log_normaliser - posterior.log_normaliser)


def layer_norm_value(dimension: int, nbeta: float, localization: float, points: int = 1200) -> FiniteValue:
    """The d columns of `LayerNormScale`, by quadrature: L = Σ (1 - cos θ), θ between a column's sum and the truth.

    The sum of the two parts is N(e, 2/γ) under the localising Gaussian, of length r and angle θ:
    r^(d-1) sin^(d-2)θ exp(-γ/4 (r² - 2r cos θ + 1)).
    """
    precision = localization / 2
    width = 12 / np.sqrt(precision)
    r = np.linspace(max(0.0, 1 - width), 1 + width, points)[1:, None]
    spread = min(np.pi, 40 / np.sqrt(nbeta + precision))
    middles = (np.arange(points) + 0.5)[None] / points  # the integrand is even about angle 0
    angle = spread * middles
    loss = 2 * np.sin(angle / 2) ** 2
    log_prior = (dimension - 1) * np.log(r) + (dimension - 2) * np.log(np.sin(angle))
    log_prior = log_prior - precision / 2 * (r**2 - 2 * r * np.cos(angle) + 1)
    posterior = grid_posterior(log_prior - nbeta * loss, 0.0)
    whole = np.pi * middles
    free = (dimension - 1) * np.log(r) + (dimension - 2) * np.log(np.sin(whole))
    free = free - precision / 2 * (r**2 - 2 * r * np.cos(whole) + 1)
    prior = grid_posterior(free, np.log(np.pi / spread))
    mean = float(posterior.mean(np.broadcast_to(loss, posterior.probability.shape)))
    return FiniteValue(dimension * nbeta * mean, 0.0, dimension * (prior.log_normaliser - posterior.log_normaliser))


def vote_value(vote: Any, nbeta: float, localization: float, draws: int = 2**19, seed: int = 0) -> FiniteValue:
    """Of `VoteOfThree`: its errors are drawn near where the loss is 0, and weighted.

    The loss is homogeneous of degree 2, so all depends on s = nβ/γ, with errors of unit variance. By symmetry the shortest error is the
    first, three times. It is drawn from Student's t of the scale s^(-1/2), and the angle between the second and the opposite of the third from
    one of the scale s^(-1/3): the scales at which sL is of order 1.

    Raises:
        ValueError: as `product_value`, if the weights are too uneven.
    """
    scale = nbeta / localization
    rng = np.random.default_rng(seed)
    found = [_vote_draws(rng, vote, scale) for _ in range(-(-draws // CHUNK))]
    log_weights, energies = (np.concatenate(part) for part in zip(*found, strict=True))
    return _weighted(log_weights, energies)


def _vote_draws(rng: np.random.Generator, vote: Any, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Log weights and sL for `CHUNK` draws of the errors; weight 0 where the first is not the shortest."""
    heavy, heavier = 3.0, 1.5  # degrees of freedom of the two t's
    width, spread = 1.5 * np.sqrt(2 / scale), 1.5 * min(1.5 * scale ** (-1 / 3), 1.0)
    first = width * rng.standard_normal((CHUNK, 2)) / np.sqrt(rng.chisquare(heavy, CHUNK) / heavy)[:, None]
    second, length = rng.standard_normal((CHUNK, 2)), np.sqrt(rng.chisquare(2, CHUNK))
    bend = spread * rng.standard_t(heavier, CHUNK)
    angle = np.arctan2(second[:, 1], second[:, 0]) + np.pi + bend
    third = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    square = np.sum(first**2, axis=1)
    log_proposal = -(1 + heavy / 2) * np.log1p(square / width**2 / heavy) - np.log(2 * np.pi * width**2)
    log_proposal += student.logpdf(bend, heavier, scale=spread)
    log_law = -square / 2 - 2 * np.log(2 * np.pi) + np.log(3)  # of the first, of a uniform angle, and the symmetry
    energy = scale * vote.loss(vote.center + np.concatenate([first, second, third], axis=1))
    inside = (abs(bend) < np.pi) & (square < np.sum(second**2, axis=1)) & (square < length**2)
    return np.where(inside, log_law - log_proposal - energy, -np.inf), energy
