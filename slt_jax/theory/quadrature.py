"""Posterior moments by quadrature in one and two dimensions, where no closed form exists.

Posteriors here are even, or smooth and decaying: the trapezoid rule on a fine even grid then converges faster than any power
of the spacing. For singular posteriors on w > 0 the grid is even in log w, where mass that piles up at 0 is smooth too.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

__all__ = [
    "GridPosterior",
    "LinearNetwork",
    "NormalCrossing",
    "SquaredUnit",
    "grid_posterior",
    "linear_network_posterior",
    "normal_crossing_posterior",
    "squared_unit",
    "squared_unit_limit",
]


class GridPosterior(NamedTuple):
    """Probabilities of grid points, of any shape, and log of the normalising integral.

    Example:
        >>> import numpy as np
        >>> from slt_jax.theory import grid_posterior
        >>> w = np.linspace(-8, 8, 2001)
        >>> posterior = grid_posterior(-(w**2) / 2, np.log(w[1] - w[0]))
        >>> round(float(posterior.mean(w**2)), 6)
        1.0
    """

    probability: np.ndarray
    log_normaliser: float

    def mean(self, values: ArrayLike) -> np.ndarray:
        """E of functions given by their values, `(..., *grid)` to `(...)`."""
        axes = tuple(range(-self.probability.ndim, 0))
        return np.asarray(np.sum(np.asarray(values) * self.probability, axis=axes))

    def covariance(self, first: ArrayLike, second: ArrayLike) -> np.ndarray:
        """Cov of functions given by their values, of one shape or a scalar function with many."""
        grid = self.probability.ndim
        deviations = [
            np.asarray(values) - self.mean(values).reshape(*np.shape(values)[: np.ndim(values) - grid], *[1] * grid)
            for values in (first, second)
        ]
        return self.mean(deviations[0] * deviations[1])


def grid_posterior(log_density: ArrayLike, log_cell: ArrayLike | float) -> GridPosterior:
    """Normalise exp(log_density) over grid cells of volume exp(log_cell).

    Example:
        >>> import numpy as np
        >>> from slt_jax.theory import grid_posterior
        >>> w = np.linspace(-8, 8, 2001)
        >>> posterior = grid_posterior(-(w**2) / 2, np.log(w[1] - w[0]))
        >>> bool(abs(posterior.log_normaliser - np.log(2 * np.pi) / 2) < 1e-9)  # ∫ exp(-w²/2) = √(2π)
        True
    """
    exponent = np.asarray(log_density, np.float64) + np.asarray(log_cell, np.float64)
    top = exponent.max()
    weight = np.exp(exponent - top)
    total = weight.sum()
    return GridPosterior(weight / total, float(top + np.log(total)))


class NormalCrossing(NamedTuple):
    """Values of the posterior of L = |w₁|^a |w₂|^b, one data point, under the prior N(0, I/γ).

    Example:
        >>> from slt_jax.theory import normal_crossing_posterior
        >>> found = normal_crossing_posterior(2, 2, nbeta=0.0)  # the prior alone: E[w₁²w₂²] = 1
        >>> round(found.mean_loss, 6)
        1.0
    """

    free_energy: float
    mean_loss: float
    variance_loss: float
    mean_square: float
    covariance_square_loss: float


def normal_crossing_posterior(a: int, b: int, nbeta: float, localization: float = 1.0) -> NormalCrossing:
    """F, E[L], Var(L), E[w₁²] and Cov(w₁², L). Raises ValueError unless a, b are positive and nbeta ≥ 0.

    Exact to rounding: log w on an even grid, from where nothing is left of the measure dw on.

    Example:
        >>> from slt_jax.theory import normal_crossing_posterior
        >>> found = normal_crossing_posterior(2, 2, nbeta=1e6)
        >>> 0.4 < 1e6 * found.mean_loss < 0.5  # λ = 1/2 is reached slowly: m = 2
        True
    """
    if a < 1 or b < 1 or nbeta < 0:
        raise ValueError(f"exponents must be positive and nbeta at least 0, got {a}, {b}, {nbeta}")
    log_w = np.linspace(-40.0, 2.6, 1400) - 0.5 * np.log(localization)
    w, spacing = np.exp(log_w), log_w[1] - log_w[0]
    # Two times the Gaussian on w > 0, times dw = w dlog w.
    log_prior = 0.5 * np.log(2 * localization / np.pi) - localization * w**2 / 2 + log_w
    losses = np.multiply.outer(w**a, w**b)
    posterior = grid_posterior(np.add.outer(log_prior, log_prior) - nbeta * losses, 2 * np.log(spacing))
    square = np.broadcast_to(w[:, None] ** 2, losses.shape)
    return NormalCrossing(
        -posterior.log_normaliser,
        float(posterior.mean(losses)),
        float(posterior.covariance(losses, losses)),
        float(posterior.mean(square)),
        float(posterior.covariance(square, losses)),
    )


class LinearNetwork(NamedTuple):
    """Values of the posterior of L = ½|W₁ᵀw₂|² under the prior N(0, I/γ).

    Example:
        >>> from slt_jax.theory import linear_network_posterior
        >>> found = linear_network_posterior(3, 2, nbeta=100.0)
        >>> found.free_energy > 0, found.variance_loss > 0
        (True, True)
    """

    free_energy: float
    mean_loss: float
    variance_loss: float


def linear_network_posterior(input_dim: int, hidden_dim: int, nbeta: float, localization: float = 1.0) -> LinearNetwork:
    """F, E[L] and Var(L) of a two-layer linear network with one output, truth 0 and white inputs, about W₁ = w₂ = 0.

    Given w₂ the product W₁ᵀw₂ is N(0, u I), u = |w₂|²/γ, so E[exp(-nβL) | u] = (1 + nβu)^(-D/2), and then L has mean
    D/2·s and variance D/2·s² with s = u/(1 + nβu). What is left is an integral over γ²u ~ χ² with H degrees of freedom.

    Raises:
        ValueError: unless the dimensions are positive and nbeta ≥ 0.

    Example:
        >>> from slt_jax.theory import linear_network_posterior
        >>> abs(linear_network_posterior(3, 2, nbeta=0.0).free_energy) < 1e-9  # F(0) = 0
        True
    """
    if input_dim < 1 or hidden_dim < 1 or nbeta < 0:
        raise ValueError(f"dimensions must be positive and nbeta at least 0, got {input_dim}, {hidden_dim}, {nbeta}")
    half_inputs, half_hidden = input_dim / 2, hidden_dim / 2
    log_square = np.linspace(-60.0 / half_hidden, np.log(hidden_dim + 100.0), 20_000)  # of γ|w₂|²
    log_prior = half_hidden * log_square - np.exp(log_square) / 2 - half_hidden * np.log(2) - gammaln(half_hidden)
    u = np.exp(log_square) / localization**2
    posterior = grid_posterior(log_prior - half_inputs * np.log1p(nbeta * u), np.log(log_square[1] - log_square[0]))
    spread = u / (1 + nbeta * u)
    mean = half_inputs * spread
    variance = posterior.covariance(mean, mean) + posterior.mean(half_inputs * spread**2)
    return LinearNetwork(-posterior.log_normaliser, float(posterior.mean(mean)), float(variance))


class SquaredUnit(NamedTuple):
    """Expectations over data of y = w^(2k) x + N(0, 1), x = ±1, whose truth is w = 0.

    Example:
        >>> from slt_jax.theory import squared_unit
        >>> found = squared_unit(k=1, n=1000, beta=1.0)
        >>> round(float(found.singular_fluctuation / found.functional_variance), 6)  # ν = βV/2
        0.5
    """

    gibbs_excess: float
    singular_fluctuation: float
    functional_variance: float
    generalization_excess: float
    training_excess: float
    waic_excess: float


def _unit_grid(k: int, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """w and log w on w > 0 up to where w^(2k) is 14 times `scale`, and the spacing of log w."""
    top = np.log(14 * scale) / (2 * k)
    log_w = np.linspace(top - 40.0, top, 3000)
    return np.exp(log_w), log_w, log_w[1] - log_w[0]


def squared_unit(k: int, n: int, beta: float, localization: float = 1.0, order: int = 60) -> SquaredUnit:
    """What WAIC theory expects at finite n, exactly: n β(E_w L_n - L_n(0)), ν, V_n, and n times G, T and WAIC less
    their values at the truth.

    With z_i = x_i y_i the losses are l_i - l_i(0) = a²/2 - a z_i, a = w^(2k), so the posterior depends on the data through
    ξ = Σ z_i/√n ~ N(0, 1) alone, which Gauss-Hermite quadrature averages. The prior is N(0, 1/γ).

    Example:
        >>> from slt_jax.theory import squared_unit
        >>> found = squared_unit(k=1, n=10_000, beta=1.0)
        >>> bool(abs(found.waic_excess - found.generalization_excess) < 0.01)  # WAIC estimates G
        True
    """
    points, weights = np.polynomial.hermite_e.hermegauss(order)
    weights = weights / weights.sum()
    w, log_w, spacing = _unit_grid(k, max(1.0, 1 / np.sqrt(beta)) / np.sqrt(n))
    a = w ** (2 * k)
    log_prior = log_w - localization * w**2 / 2
    totals = np.zeros(4)
    for xi, weight in zip(points, weights, strict=True):
        excess = n * a**2 / 2 - a * np.sqrt(n) * xi  # n(L_n(w) - L_n(0))
        posterior = grid_posterior(log_prior - beta * excess, np.log(spacing))
        fourth, crossed, square = (
            posterior.covariance(*pair) for pair in ((a**2 / 2, a**2 / 2), (a**2 / 2, a), (a, a))
        )
        # E[Σ z_i² | ξ] = n - 1 + ξ²
        variance = n * fourth - 2 * crossed * np.sqrt(n) * xi + square * (n - 1 + xi**2)
        fresh = _minus_log_mean(posterior, a, points)
        # A data point given ξ: z_i ~ N(ξ/√n, 1 - 1/n)
        seen = _minus_log_mean(posterior, a, xi / np.sqrt(n) + np.sqrt(1 - 1 / n) * points)
        totals += weight * np.array([beta * posterior.mean(excess), variance, n * weights @ fresh, n * weights @ seen])
    gibbs, variance, generalization, training = totals
    return SquaredUnit(gibbs, beta * variance / 2, variance, generalization, training, training + beta * variance)


def _minus_log_mean(posterior: GridPosterior, a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """-log E_w exp(-(a²/2 - a z)) for every z; of small exponents, hence expm1 and log1p."""
    return -np.log1p(posterior.mean(np.expm1(np.multiply.outer(z, a) - a**2 / 2)))


def squared_unit_limit(k: int, beta: float, order: int = 60) -> tuple[float, float]:
    """(ν, limit of nβ(E_w L_n - L_n(0))) as n grows; the second is λ - βν with λ = 1/(4k).

    In t = √(nβ)·w^(2k) the posterior tends to t^(1/(2k) - 1) exp(-t²/2 + √β ξ t) dt, ξ ~ N(0, 1).

    Example:
        >>> from slt_jax.theory import squared_unit_limit
        >>> fluctuation, excess = squared_unit_limit(k=1, beta=1.0)
        >>> round(excess + fluctuation, 4)  # λ = 1/(4k)
        0.25
    """
    points, weights = np.polynomial.hermite_e.hermegauss(order)
    log_t = np.linspace(-40.0 * 2 * k, np.log(40.0), 6000)
    t = np.exp(log_t)
    variance = excess = 0.0
    for xi, weight in zip(points, weights / weights.sum(), strict=True):
        energy = t**2 / 2 - np.sqrt(beta) * xi * t
        posterior = grid_posterior(log_t / (2 * k) - energy, 0.0)
        variance += weight * posterior.covariance(t, t)
        excess += weight * posterior.mean(energy)
    return float(variance / 2), float(excess)
