"""Questions to stored susceptibilities: when a curve turns, and what the response matrix has in common over training."""

from typing import NamedTuple

import numpy as np
import xarray

from slt_jax.analysis.essential_dynamics import Trajectory, principal_trajectory

__all__ = ["Components", "Turn", "response_components", "turning"]


class Turn(NamedTuple):
    """Where a measured curve goes one way and then comes back.

    Attributes:
        step: the checkpoint it turns at.
        value, std_error: there.
        before, after: how many joint standard errors the first and the last checkpoint are away, both on the same side.
    """

    step: int
    value: float
    std_error: float
    before: float
    after: float

    @property
    def sure(self) -> bool:
        """Whether both sides are three joint standard errors away."""
        return min(self.before, self.after) > 3


def turning(steps: np.ndarray, values: np.ndarray, errors: np.ndarray) -> Turn | None:
    """The inner checkpoint that is furthest from both ends of a curve on the same side; `None` if there is no such.

    Distance is counted in joint standard errors, the smaller of the two. Among so many checkpoints the furthest is not drawn
    at random, so two standard errors are nothing.
    """
    found = None
    for i in range(1, len(values) - 1):
        away = [float((values[i] - values[end]) / np.hypot(errors[i], errors[end])) for end in (0, -1)]
        if away[0] * away[1] <= 0 or not np.isfinite(away).all():
            continue
        turn = Turn(int(steps[i]), float(values[i]), float(errors[i]), abs(away[0]), abs(away[1]))
        if found is None or min(turn.before, turn.after) > min(found.before, found.after):
            found = turn
    return found


class Components(NamedTuple):
    """Principal components of the response matrix: a point for each head and checkpoint, a coordinate for each token.

    Attributes:
        trajectory: coordinates `(head, checkpoint, component)`.
        noise: share of the variance that the standard errors account for.
        by_class: mean of each component over the tokens of each class, `(component, class)`, in units of its root mean
            square over all tokens.
    """

    trajectory: Trajectory
    noise: float
    by_class: np.ndarray


def response_components(at: xarray.Dataset, classes: np.ndarray, num_components: int = 2) -> Components | None:
    """Components of the token susceptibilities of all heads at the measured checkpoints `at`; `None` if any is missing.

    Args:
        at: results at those checkpoints.
        classes: the class of every token, `(token,)`.
        num_components: components to keep.
    """
    values, errors = (
        at[name].stack(part=("layer", "head")).transpose("part", "checkpoint", "token").values
        for name in ("token_susceptibility", "token_susceptibility_std_error")
    )
    points = values.shape[0] * values.shape[1]
    if not np.isfinite(values).all() or points <= num_components:
        return None
    found = principal_trajectory(values.astype(np.float64), num_components)
    spread = np.sum((values - found.mean) ** 2, dtype=np.float64)
    noise = float(np.sum(errors**2, dtype=np.float64) / spread) if spread > 0 else float("nan")
    scale = np.sqrt(np.mean(found.components**2, axis=1))
    kinds = range(len(at.token_class))
    means = [
        found.components[:, classes == kind].mean(axis=1)
        if (classes == kind).any()
        else np.full(num_components, np.nan)
        for kind in kinds
    ]
    return Components(found, noise, np.stack(means, axis=1) / scale[:, None])
