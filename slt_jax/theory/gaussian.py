"""Everything the local posterior says of a linear model with squared error, in closed form.

Losses are quadratic, l(w) = ½wᵀAw + bᵀw + c, and the posterior is the Gaussian N(μ, Σ). With m = Aμ + b,

    E[l] = l(μ) + ½ tr(AΣ)        Cov(l₁, l₂) = m₁ᵀΣm₂ + ½ tr(A₁ΣA₂Σ)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Gaussian", "Quadratics", "linear_regression_losses", "local_gaussian", "log_mean_exponential"]


class Quadratics(NamedTuple):
    """Quadratic functions ½wᵀAw + bᵀw + c of w: A `(k, d, d)` symmetric, b `(k, d)`, c `(k,)`.

    Example:
        >>> import numpy as np
        >>> from slt_jax.theory import Quadratics
        >>> functions = Quadratics(np.array([[[2.0]]]), np.array([[0.0]]), np.array([1.0]))  # w² + 1
        >>> functions.at([3.0]).tolist()
        [10.0]
    """

    matrix: np.ndarray
    vector: np.ndarray
    constant: np.ndarray

    def mean(self) -> "Quadratics":
        """The mean of the functions, as one of them."""
        return Quadratics(*(part.mean(axis=0, keepdims=True) for part in self))

    def at(self, point: ArrayLike) -> np.ndarray:
        """Values at one point, `(k,)`."""
        w = np.asarray(point, np.float64)
        return 0.5 * np.einsum("kij,i,j->k", self.matrix, w, w) + self.vector @ w + self.constant

    def restricted(self, coordinates: list[int], center: ArrayLike) -> "Quadratics":
        """The functions of these coordinates alone, the others fixed at `center`."""
        w = np.array(center, np.float64)
        w[coordinates] = 0.0
        slope = self.matrix @ w + self.vector
        return Quadratics(self.matrix[:, coordinates][:, :, coordinates], slope[:, coordinates], self.at(w))


class Gaussian(NamedTuple):
    """N(mean, covariance), `(d,)` and `(d, d)`.

    Example:
        >>> import numpy as np
        >>> from slt_jax.theory import Gaussian, Quadratics
        >>> square = Quadratics(np.array([[[2.0]]]), np.array([[0.0]]), np.array([0.0]))  # w²
        >>> normal = Gaussian(np.array([1.0]), np.array([[4.0]]))
        >>> normal.means(square).tolist()  # mean² + variance
        [5.0]
    """

    mean: np.ndarray
    covariance: np.ndarray

    def means(self, functions: Quadratics) -> np.ndarray:
        """E of every function, `(k,)`."""
        return functions.at(self.mean) + 0.5 * np.einsum("kij,ji->k", functions.matrix, self.covariance)

    def covariances(self, first: Quadratics, second: Quadratics) -> np.ndarray:
        """Cov of every function of `first` with every one of `second`, `(k, l)`."""
        slopes = [functions.matrix @ self.mean + functions.vector for functions in (first, second)]
        turned = [functions.matrix @ self.covariance for functions in (first, second)]
        return slopes[0] @ self.covariance @ slopes[1].T + 0.5 * np.einsum("kij,lji->kl", *turned)


def linear_regression_losses(inputs: ArrayLike, targets: ArrayLike, constant: float = 0.0) -> Quadratics:
    """½(x_i·w - y_i)² + constant for `(n, d)` inputs and `(n,)` targets.

    Example:
        >>> from slt_jax.theory import linear_regression_losses
        >>> linear_regression_losses([[1.0, 0.0], [0.0, 2.0]], [1.0, 0.0]).at([0.0, 1.0]).tolist()
        [0.5, 2.0]
    """
    x, y = np.asarray(inputs, np.float64), np.asarray(targets, np.float64)
    return Quadratics(np.einsum("ni,nj->nij", x, x), -y[:, None] * x, 0.5 * y**2 + constant)


def local_gaussian(losses: Quadratics, center: ArrayLike, nbeta: float, localization: float) -> tuple[Gaussian, float]:
    """The posterior ∝ exp(-nβ·mean loss - γ/2 |w - w*|²) and its free energy.

    F = -log ∫ exp(-nβL) dN(w*, I/γ) = nβL(μ) + γ/2 |μ - w*|² + ½ log det(I + nβA/γ), for the posterior's mode μ.
    Raises ValueError unless γ > 0 and the posterior is proper.

    Example:
        >>> from slt_jax.theory import linear_regression_losses, local_gaussian
        >>> losses = linear_regression_losses([[1.0]], [0.0])  # w²/2
        >>> posterior, free_energy = local_gaussian(losses, [0.0], nbeta=3.0, localization=1.0)
        >>> posterior.covariance.tolist(), round(free_energy, 6)  # 1/(nβ + γ), log(4)/2
        ([[0.25]], 0.693147)
    """
    if not localization > 0:
        raise ValueError(f"localization must be positive, got {localization}: the free energy needs a proper prior")
    mean_loss, w = losses.mean(), np.asarray(center, np.float64)
    precision = nbeta * mean_loss.matrix[0] + localization * np.eye(len(w))
    eigenvalues = np.linalg.eigvalsh(precision)
    if eigenvalues[0] <= 0:
        raise ValueError(
            f"nbeta times the Hessian plus localization must be positive, its least eigenvalue is {eigenvalues[0]}"
        )
    mode = np.linalg.solve(precision, localization * w - nbeta * mean_loss.vector[0])
    free = nbeta * mean_loss.at(mode)[0] + localization / 2 * np.sum((mode - w) ** 2)
    free += 0.5 * np.sum(np.log(eigenvalues / localization))
    return Gaussian(mode, np.linalg.inv(precision)), float(free)


def log_mean_exponential(posterior: Gaussian, losses: Quadratics) -> np.ndarray:
    """log E[exp(-l_i)] of every loss, `(k,)`: a Gaussian integral, finite where Σ⁻¹ + A_i is positive.

    Raises ValueError where it is not.

    Example:
        >>> import numpy as np
        >>> from slt_jax.theory import Gaussian, linear_regression_losses, log_mean_exponential
        >>> normal = Gaussian(np.zeros(1), np.eye(1))
        >>> log_mean_exponential(normal, linear_regression_losses([[1.0]], [0.0])).round(6).tolist()  # log √(1/2)
        [-0.346574]
    """
    precision = np.linalg.inv(posterior.covariance)
    values = []
    for matrix, vector, constant in zip(*losses, strict=True):
        tilted = precision + matrix
        sign, log_det = np.linalg.slogdet(tilted)
        if sign <= 0 or np.linalg.eigvalsh(tilted)[0] <= 0:
            raise ValueError(
                "exp(-l_i) has no mean under this posterior: its precision plus the loss's Hessian is not positive"
            )
        slope = matrix @ posterior.mean + vector
        at_mean = 0.5 * posterior.mean @ matrix @ posterior.mean + vector @ posterior.mean + constant
        values.append(
            -at_mean + 0.5 * slope @ np.linalg.solve(tilted, slope) + 0.5 * (np.linalg.slogdet(precision)[1] - log_det)
        )
    return np.array(values)
