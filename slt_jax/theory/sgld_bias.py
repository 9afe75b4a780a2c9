"""What an ideal sampler reads at finite step size, localization and nβ, where that is known exactly."""

from math import inf, log
from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

from slt_jax.theory.singular import LearningCoefficient

__all__ = ["finite_nbeta_llc", "quadratic_sgld_llc"]


def quadratic_sgld_llc(
    hessian_diagonal: ArrayLike,
    nbeta: SupportsFloat,
    localization: SupportsFloat,
    step_size: SupportsFloat,
) -> float:
    """The LLC that SGLD reads, in the limit of infinite time, on the loss ½ Σ h_i w_i² with center 0.

    w ← w - ε/2·a_i w + √ε·noise, a_i = nβ h_i + γ, is an AR(1) process of variance 1/(a_i (1 - ε a_i/4)),
    hence λ̂ = ½ Σ nβ h_i / (a_i (1 - ε a_i/4)). With step_size 0 it is the value under the posterior itself.
    Raises ValueError for a negative argument, for nbeta = 0, and where a chain is unstable (ε a_i ≥ 4).

    Example:
        >>> from slt_jax.theory import quadratic_sgld_llc
        >>> exact = quadratic_sgld_llc([1.0, 1.0], nbeta=99.0, localization=1.0, step_size=0.0)
        >>> biased = quadratic_sgld_llc([1.0, 1.0], nbeta=99.0, localization=1.0, step_size=0.004)
        >>> round(exact, 4), round(biased, 4)
        (0.99, 1.1)
    """
    h = np.asarray(hessian_diagonal, dtype=np.float64)
    if h.ndim != 1 or h.size == 0 or not np.all((h >= 0) & (h < inf)):
        raise ValueError(f"hessian_diagonal must be a non-empty list of numbers ≥ 0, got {hessian_diagonal!r}")
    beta, gamma, eps = float(nbeta), float(localization), float(step_size)
    if not 0 < beta < inf:
        raise ValueError(f"nbeta must be positive and finite, got {nbeta}")
    if not 0 <= gamma < inf:
        raise ValueError(f"localization must be finite and at least 0, got {localization}")
    if not 0 <= eps < inf:
        raise ValueError(f"step_size must be finite and at least 0, got {step_size}")
    curvature = beta * h + gamma
    if eps * curvature.max() >= 4:
        raise ValueError(
            f"step_size must be below 4/(nbeta h + localization) = {4 / curvature.max():.3g}, where SGLD "
            f"is stable, got {step_size}"
        )
    # A direction with h = 0 adds no loss, also where γ = 0 and the posterior is flat along it.
    a, stiff = curvature[h > 0], beta * h[h > 0]
    return float(0.5 * np.sum(stiff / (a * (1 - eps * a / 4))))


def finite_nbeta_llc(coefficient: LearningCoefficient, nbeta: SupportsFloat) -> float:
    """λ - (m - 1)/log(nβ): what nβ(E[L] - L₀) is at finite nβ, up to terms of order 1/log²(nβ).

    Source: Watanabe 2013 (WBIC), from F = nβL₀ + λ log(nβ) - (m-1) log log(nβ) + O(1) by d/d(nβ). Raises
    ValueError unless nbeta > 1.

    Example:
        >>> import math
        >>> from slt_jax.theory import finite_nbeta_llc, normal_crossing
        >>> round(finite_nbeta_llc(normal_crossing([1, 1]), math.exp(10)), 6)  # 1/2 - 1/10
        0.4
    """
    if not float(nbeta) > 1:
        raise ValueError(f"nbeta must be above 1, got {nbeta}")
    return float(coefficient.learning_coefficient) - (coefficient.multiplicity - 1) / log(float(nbeta))
