"""Curves over training, smoothed by a Gaussian process in log time, as in arXiv 2402.02364 (appendix D).

The kernel is Matérn-5/2: on the authors' own LLC curves, seeds 0 and 1, its log marginal likelihood exceeds that of their RBF
kernel by 58 and 80 nats, whose one length, set by the sharpest fall, invents extrema between distant checkpoints.
"""

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

__all__ = ["SmoothCurve", "check_curve", "smooth_in_log_time"]


class SmoothCurve(NamedTuple):
    """A curve smoothed in log time.

    Attributes:
        steps: training steps of the grid, equally spaced in log(step + 1), `(grid,)`.
        mean: posterior mean, `(grid,)`, in the units of the curve.
        std: posterior standard deviation, `(grid,)`.
        draws: posterior draws, `(draw, grid)`.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.smoothing import smooth_in_log_time
        >>> steps = np.geomspace(1, 1000, 12)
        >>> curve = smooth_in_log_time(steps, np.log(steps), np.full(12, 0.1), num_grid=30, num_draws=5, num_restarts=0)
        >>> curve.mean.shape, curve.draws.shape
        ((30,), (5, 30))
    """

    steps: Float[np.ndarray, " grid"]
    mean: Float[np.ndarray, " grid"]
    std: Float[np.ndarray, " grid"]
    draws: Float[np.ndarray, "draw grid"]


def smooth_in_log_time(
    steps: Float[np.ndarray, " checkpoint"],
    values: Float[np.ndarray, " checkpoint"],
    std_error: Float[np.ndarray, " checkpoint"] | None,
    *,
    num_grid: int = 400,
    num_draws: int = 400,
    num_restarts: int = 10,
    seed: int = 0,
) -> SmoothCurve:
    """Gaussian process regression of `values` on log(step + 1), Constant·Matérn-5/2 + White, by maximum likelihood.

    `std_error` is known noise, added to the White kernel's, which takes up what it does not explain.

    Raises:
        ValueError: as `detect_stages`.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.smoothing import smooth_in_log_time
        >>> steps = np.geomspace(1, 1000, 12)
        >>> curve = smooth_in_log_time(steps, np.log(steps), np.full(12, 0.1), num_grid=30, num_draws=5, num_restarts=0)
        >>> bool(np.abs(curve.mean - np.log(curve.steps)).max() < 0.2)
        True
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    check_curve("values", steps, values, minimum=3)
    if std_error is not None:
        _check_errors(std_error, values)
    u = np.log1p(steps)
    center, scale = values.mean(), values.std() or 1.0
    known = np.zeros_like(values) if std_error is None else (std_error / scale) ** 2
    span = u[-1] - u[0]
    smallest_gap = np.diff(u).min()
    kernel = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(span / 10, (min(smallest_gap, span / 100), 3 * span), nu=2.5)
    process = GaussianProcessRegressor(
        kernel + WhiteKernel(1e-3, (1e-8, 1.0)),
        alpha=known + 1e-10,
        n_restarts_optimizer=num_restarts,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # A hyperparameter at its bound is an answer here: no noise beyond the error bars, or a nearly straight curve.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(u[:, None], (values - center) / scale)
    # Without the White part: the curve itself, not a noisy observation of it.
    grid = np.linspace(u[0], u[-1], num_grid)
    mean, covariance = _posterior(process, grid[:, None])
    eigenvalues, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(eigenvalues, 0, None))
    noise = np.random.default_rng(seed).standard_normal((num_draws, num_grid))
    draws = mean + noise @ root.T
    std = np.sqrt(np.clip(np.diag(covariance), 0, None))
    return SmoothCurve(np.expm1(grid), center + scale * mean, scale * std, center + scale * draws)


def _posterior(process: "GaussianProcessRegressor", at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the signal part k₁ of the kernel sum k₁ + White."""
    from scipy.linalg import cho_solve, solve_triangular

    signal = process.kernel_.k1
    cross = signal(at, process.X_train_)
    mean = cross @ cho_solve((process.L_, True), process.y_train_)
    half = solve_triangular(process.L_, cross.T, lower=True)
    return mean, signal(at) - half.T @ half


def check_curve(name: str, steps: np.ndarray, values: np.ndarray, *, minimum: int) -> None:
    """Refuse a curve that cannot be smoothed, in one sentence that calls it `name`.

    Raises:
        ValueError: if shapes differ, there are fewer than `minimum` values, one is not finite, or steps do not increase.
    """
    if steps.shape != values.shape:
        raise ValueError(f"{name} has shape {values.shape} at steps of shape {steps.shape}; they must be the same")
    if len(steps) < minimum:
        raise ValueError(f"{name} has {len(steps)} checkpoints; at least {minimum} are needed")
    if not (np.isfinite(values).all() and np.isfinite(steps).all()):
        raise ValueError(f"{name} has values that are not finite; leave diverged checkpoints out")
    if steps[0] < 0 or not (np.diff(steps) > 0).all():
        raise ValueError(f"the steps of {name} must be non-negative and increase; got {steps[:5].tolist()} ...")


def _check_errors(std_error: np.ndarray, values: np.ndarray) -> None:
    if std_error.shape != values.shape:
        raise ValueError(f"std_error has shape {std_error.shape}; it must have the shape {values.shape} of the values")
    if not (np.isfinite(std_error).all() and (std_error >= 0).all()):
        raise ValueError("std_error has values that are negative or not finite; leave diverged checkpoints out")
