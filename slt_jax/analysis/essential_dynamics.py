"""Essential dynamics: the path of a model's outputs over training, seen in its few principal components.

Outputs on a fixed batch at every checkpoint are points; PCA finds the plane in which they move most (arXiv 2402.02364,
section 4 and appendix E, after Amadei et al. 1993). Where the smoothed path turns sharply about a centre that stays put,
training is held by a form that the outputs circle around; the osculating circles show it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["OsculatingCircles", "Trajectory", "osculating_circles", "principal_trajectory", "smooth_path"]


class Trajectory(NamedTuple):
    """A path in principal components.

    Attributes:
        coordinates: `(*run, checkpoint, component)`, in the units of the outputs; zero is the mean over all points.
        explained: share of the variance along each component, `(component,)`.
        components: directions, orthonormal rows, `(component, feature)`.
        mean: the outputs at the origin, `(feature,)`.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.essential_dynamics import principal_trajectory
        >>> path = principal_trajectory(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), 1)
        >>> path.project(np.array([[3.0, 0.0]])).round(6).tolist()
        [[2.0]]
    """

    coordinates: Float[np.ndarray, "*run checkpoint component"]
    explained: Float[np.ndarray, " component"]
    components: Float[np.ndarray, "component feature"]
    mean: Float[np.ndarray, " feature"]

    def project(self, outputs: Float[np.ndarray, "*points feature"]) -> Float[np.ndarray, "*points component"]:
        """Where other outputs on the same batch lie, those of a known predictor say."""
        return (outputs - self.mean) @ self.components.T


class OsculatingCircles(NamedTuple):
    """The circles that touch a plane curve to second order.

    Attributes:
        centers: `(grid, 2)`; infinite where the curve is straight.
        radii: `(grid,)`, positive.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.essential_dynamics import osculating_circles
        >>> angle = np.linspace(0.0, 1.0, 200)
        >>> circles = osculating_circles(2 * np.stack([np.cos(angle), np.sin(angle)], axis=1))
        >>> bool(abs(np.median(circles.radii) - 2) < 1e-3)
        True
    """

    centers: Float[np.ndarray, "grid 2"]
    radii: Float[np.ndarray, " grid"]


def principal_trajectory(outputs: Float[np.ndarray, "*run checkpoint feature"], num_components: int = 3) -> Trajectory:
    """PCA of outputs over checkpoints; leading axes are runs that share one set of components (a joint PCA).

    The sign of a component is such that the last checkpoint of the last run has a positive coordinate.

    Args:
        outputs: the model's outputs on one fixed batch, flattened, at every checkpoint.
        num_components: components to keep.

    Raises:
        ValueError: if there are not at least `num_components` + 1 points, or a value is not finite.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.essential_dynamics import principal_trajectory
        >>> outputs = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])  # checkpoints, features
        >>> path = principal_trajectory(outputs, 1)
        >>> path.coordinates.round(6).tolist(), path.explained.round(6).tolist()
        ([[-1.0], [0.0], [1.0]], [1.0])
    """
    from sklearn.decomposition import PCA

    points = outputs.reshape(-1, outputs.shape[-1])
    if not 1 <= num_components < min(len(points), points.shape[1] + 1):
        raise ValueError(
            f"num_components = {num_components}; with {len(points)} points of {points.shape[1]} features it must be between 1 "
            f"and {min(len(points) - 1, points.shape[1])}"
        )
    if not np.isfinite(points).all():
        raise ValueError("outputs has values that are not finite; leave diverged checkpoints out")
    model = PCA(num_components, svd_solver="full").fit(points.astype(np.float64))
    coordinates = model.transform(points.astype(np.float64))
    signs = np.where(coordinates[-1] < 0, -1.0, 1.0)
    return Trajectory(
        (coordinates * signs).reshape(*outputs.shape[:-1], num_components),
        model.explained_variance_ratio_,
        model.components_ * signs[:, None],
        model.mean_,
    )


def smooth_path(
    steps: Float[np.ndarray, " checkpoint"],
    coordinates: Float[np.ndarray, "checkpoint component"],
    *,
    width: float = 0.3,
    num_grid: int = 400,
) -> tuple[Float[np.ndarray, " grid"], Float[np.ndarray, "grid component"]]:
    """Path averaged in log time with a Gaussian kernel, on an even grid of log(step + 1).

    The local fit is linear, so that neither the ends nor uneven checkpoints pull the path inwards.

    Args:
        steps: increasing training steps.
        coordinates: path at those steps.
        width: standard deviation of the kernel in log(step + 1); beside a gap between checkpoints it is half the gap at least.
        num_grid: points of the grid.

    Returns:
        The grid as training steps, and the path there.

    Raises:
        ValueError: if steps do not increase or `width` is not positive.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.essential_dynamics import smooth_path
        >>> steps = np.arange(0.0, 100.0)
        >>> grid, path = smooth_path(steps, np.log1p(steps)[:, None], num_grid=50)  # a straight line in log time stays one
        >>> path.shape, bool(np.allclose(path[:, 0], np.log1p(grid)))
        ((50, 1), True)
    """
    if not (np.diff(steps) > 0).all():
        raise ValueError(f"steps must increase; got {steps[:5].tolist()} ...")
    if width <= 0:
        raise ValueError(f"width = {width}; it must be positive")
    u = np.log1p(steps)
    grid = np.linspace(u[0], u[-1], num_grid)
    gaps = np.diff(u)
    widths = np.maximum(width, np.maximum(np.append(gaps, 0), np.append(0, gaps)) / 2)  # or no checkpoint is in reach
    offset = u[None, :] - grid[:, None]
    weight = np.exp(-0.5 * (offset / np.interp(grid, u, widths)[:, None]) ** 2)
    total, first, second = (np.sum(weight * offset**power, axis=1) for power in (0, 1, 2))
    # Local linear regression: its value at offset 0 is a weighted sum of the points with these weights.
    local = weight * (second[:, None] - first[:, None] * offset)
    scale = total * second - first**2
    return np.expm1(grid), (local @ coordinates) / scale[:, None]


def osculating_circles(path: Float[np.ndarray, "grid 2"]) -> OsculatingCircles:
    """Centre and radius of curvature along a plane curve given at evenly spaced parameters.

    κ = (x'y'' - y'x'')/(x'² + y'²)^{3/2}; the centre lies at distance 1/κ along the normal (-y', x')/|(x', y')|.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.essential_dynamics import osculating_circles
        >>> angle = np.linspace(0.0, 1.0, 200)
        >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # the unit circle
        >>> bool(abs(np.median(osculating_circles(circle).radii) - 1) < 1e-3)
        True
    """
    velocity = np.gradient(path, axis=0)
    acceleration = np.gradient(velocity, axis=0)
    speed_squared = np.sum(velocity**2, axis=1)
    cross = velocity[:, 0] * acceleration[:, 1] - velocity[:, 1] * acceleration[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = speed_squared / cross
        centers = path + factor[:, None] * np.stack([-velocity[:, 1], velocity[:, 0]], axis=1)
        radii = speed_squared**1.5 / np.abs(cross)
    return OsculatingCircles(centers, radii)
