"""What a perfect sampler would report on the known models: nβ E[L] under exp(-nβ L - γ/2 |w|²), by quadrature.

Nothing here is asymptotic. Quadratics have a closed form. In the others one layer enters the loss quadratically and can be
integrated by hand: with the other layer's parameters b fixed, the loss is ½aᵀCa for each of N outputs, and

    p(b) ∝ exp(-γ/2 |b|²) · det(nβ C(b) + γ)^(-N/2),     nβ E[L] = E_p[ N/2 · tr nβC (nβC + γ)⁻¹ ].

What remains has one to three dimensions (singular values of A; |b₁|, |b₂|, |b₃|), integrated in their logarithms, where the
integrands are smooth and the trapezoidal rule converges faster than any power.
"""

from collections.abc import Sequence

import numpy as np
from scipy.signal import fftconvolve

__all__ = ["normal_crossing_llc", "reduced_rank_llc", "relu_llc", "tanh_llc"]

LOWEST = -14.0
"""Logarithm at which the integrals begin; what lies below weighs e^LOWEST of the whole, or less."""


def normal_crossing_llc(exponents: Sequence[int], nbeta: float, localization: float, spacing: float = 0.02) -> float:
    """L = ∏ wᵢ^(2kᵢ), any number of factors: under the prior log L is a sum of independent terms uᵢ = 2kᵢ log|wᵢ|, whose
    density is the convolution of theirs."""
    powers = [2 * k for k in exponents if k]
    # The density of u falls like exp(u/2k) to the left and doubly exponentially to the right.
    u = np.arange(-40 * max(powers), 3 * max(powers), spacing)
    density, start = np.ones(1), 0.0
    for power in powers:
        w = np.exp(u / power)
        density = np.maximum(fftconvolve(density, w * np.exp(-localization / 2 * w**2)), 0.0)
        density, start = density / density.sum(), start + u[0]
    energy = nbeta * np.exp(start + spacing * np.arange(len(density)))
    weight = density * np.exp(-energy)
    return float((energy * weight).sum() / weight.sum())


def reduced_rank_llc(
    input_dim: int, hidden_dim: int, output_dim: int, nbeta: float, localization: float, points: int = 2000
) -> float:
    """L = ½|BA|², true rank 0, with one or two singular values s of A, whose density is ∏ s^|M-H| ∏ |sᵢ² - sⱼ²| e^(-γs²/2).

    Raises:
        ValueError: if A has more than two singular values.
    """
    count = min(input_dim, hidden_dim)
    if count > 2:
        raise ValueError(f"A has {count} singular values; the quadrature covers one or two")
    log_s = np.linspace(LOWEST, np.log(9 / np.sqrt(localization)), points)
    s = np.exp(log_s)
    stiff = nbeta * s**2
    power = abs(input_dim - hidden_dim) + 1  # one for ds = s d(log s)
    log_weight = power * log_s - localization / 2 * s**2 - output_dim / 2 * np.log(stiff + localization)
    value = output_dim / 2 * stiff / (stiff + localization)
    if count == 1:
        weight = np.exp(log_weight - log_weight.max())
        return float((value * weight).sum() / weight.sum())
    weight = np.exp(np.add.outer(log_weight, log_weight) - 2 * log_weight.max())
    weight *= np.abs(np.subtract.outer(s**2, s**2))
    return float((np.add.outer(value, value) * weight).sum() / weight.sum())


def tanh_llc(
    hidden_units: int, inputs: np.ndarray, nbeta: float, localization: float, points: int | None = None
) -> float:
    """L = ½ mean (Σ aₕ tanh(bₕx))²: the outer weights a are integrated by hand, |b| on a grid in up to three dimensions.

    Raises:
        ValueError: for more than three hidden units.
    """
    if hidden_units > 3:
        raise ValueError(f"hidden_units = {hidden_units}; the quadrature covers at most 3")
    points = points or {1: 2000, 2: 600, 3: 160}[hidden_units]
    log_b = np.linspace(LOWEST, np.log(6 / np.sqrt(localization)), points)
    b = np.exp(log_b)
    features = np.tanh(np.multiply.outer(b, np.asarray(inputs, np.float64)))
    gram = features @ features.T / features.shape[1]
    log_prior = log_b - localization / 2 * b**2
    total = weighted = 0.0
    # One slice of the grid at a time, so that memory holds 160² points of the cube and not 160³.
    grid = np.indices((points,) * (hidden_units - 1)).reshape(hidden_units - 1, points ** (hidden_units - 1))
    for first in range(points):
        index = np.concatenate([np.full((1, grid.shape[1]), first), grid])
        stiff = nbeta * gram[index[:, None, :], index[None, :, :]].transpose(2, 0, 1)
        eigenvalues = np.maximum(np.linalg.eigvalsh(stiff), 0.0)
        log_weight = log_prior[index].sum(axis=0) - 0.5 * np.log1p(eigenvalues / localization).sum(axis=1)
        weight = np.exp(log_weight)
        total += weight.sum()
        weighted += (weight * 0.5 * (eigenvalues / (eigenvalues + localization)).sum(axis=1)).sum()
    return float(weighted / total)


def relu_llc(input_dim: int, nbeta: float, localization: float, points: int = 4000) -> float:
    """L = ¼ a²|w|²: a is integrated by hand, |w| has density r^(d-1) e^(-γr²/2)."""
    log_r = np.linspace(LOWEST * 2, np.log(9 / np.sqrt(localization)), points)
    r = np.exp(log_r)
    stiff = nbeta * r**2 / 2
    log_weight = input_dim * log_r - localization / 2 * r**2 - 0.5 * np.log(stiff + localization)
    weight = np.exp(log_weight - log_weight.max())
    return float((weight * 0.5 * stiff / (stiff + localization)).sum() / weight.sum())
