"""Kinetic Langevin dynamics that keeps its momentum where the loss is flat and loses it where the loss is stiff.

Through flat directions SGLD diffuses: n steps carry it √n step lengths. Momentum carries it further, but minibatch noise,
which acts along stiff directions, then heats those by the same factor. A constant metric tells the two apart, so the
friction here is a matrix with the metric's eigenvectors: complete along `Metric.directions`, weak in the rest.

The integrator is BAOAB: one gradient a step, and exact position variances on a Gaussian at every stable step size. With
complete friction everywhere it is the Leimkuhler-Matthews scheme of `sgld` with ε = h².

Source: Leimkuhler & Matthews 2013, "Rational construction of stochastic numerical methods for molecular sampling".
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.base import StepInfo, check_batch_size, evaluate_minibatch, log_density_gradient
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.noise import standard_normal_vector
from slt_jax.typing import Array, Params, PRNGKey, Scalar

__all__ = ["Underdamped", "UnderdampedState", "underdamped"]

UNDERDAMPED_FRACTION = 0.25  # h²a: exact on a Gaussian up to 4; this lets a chain wander to where curvature is greater


class UnderdampedState(NamedTuple):
    """Parameter, momentum in the coordinates G^{-1/2}(w - w*), ravelled, and the minibatch gradient of the loss.

    The momentum lacks the last kick, which the next step makes together with its own.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> slt_jax.underdamped(None).init(jax.random.key(0), posterior).momentum.shape
        (2,)
    """

    params: Params
    momentum: Array
    gradient: Params


def underdamped(batch_size: int | None, persistence: float = 0.95) -> "Underdamped":
    """Kinetic Langevin dynamics; `step_size` is the integrator's step h, of the order of √ε of SGLD.

    Stable where h²·a < 4, a the curvature nβh + γ in the metric's units; with `curvature_metric` and h² ≤ 0.5 that holds
    with room to spare, also once the chain has wandered to where former flat directions are stiff.

    Args:
        batch_size: examples per gradient, drawn with replacement; `None` uses all of them.
        persistence: share of the momentum that survives a step in flat directions (in all of them without a metric), in
            [0, 1). Diffusion there is (1 + persistence)/(1 - persistence) times that of SGLD with ε = h².

    Raises:
        ValueError: if `batch_size` is below 1 or `persistence` outside [0, 1).

    Source: Leimkuhler & Matthews 2013, "Rational construction of stochastic numerical methods for molecular sampling".

    Example:
        >>> from slt_jax import underdamped
        >>> underdamped(256)
        Underdamped(batch_size=256, persistence=0.95)
    """
    return Underdamped(batch_size, persistence)


@dataclass(frozen=True)
class Underdamped:
    """The kernel that `underdamped` makes; its fields are the arguments of that function.

    Example:
        >>> import slt_jax
        >>> slt_jax.underdamped(256).persistence
        0.95
    """

    batch_size: int | None
    persistence: float = 0.95

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        if not 0 <= self.persistence < 1:
            raise ValueError(f"persistence = {self.persistence}; it is the share of momentum kept per step, in [0, 1)")

    @property
    def step_fraction(self) -> float:
        """c = h²a."""
        return UNDERDAMPED_FRACTION

    @property
    def langevin_proposal(self) -> bool:
        """False: the step has momentum."""
        return False

    @property
    def reach(self) -> float:
        """(1 + persistence)/(1 - persistence): by which diffusion, and heating, exceed those of SGLD with ε = h²."""
        return (1 + self.persistence) / (1 - self.persistence)

    def step_for(self, stiffest: float, fraction: float | None = None) -> float:
        """h = √(c/(stiffest curvature))."""
        return ((self.step_fraction if fraction is None else fraction) / stiffest) ** 0.5

    def relaxation_steps(self, step_size: float, curvature: float) -> float:
        """2/(h²a) over `reach` where the motion is diffusive, and the momentum's own time at least."""
        return 2 / (step_size**2 * curvature * self.reach) + 2 / (1 - self.persistence)

    def heating(self, step_size: float, noise: np.ndarray, along_metric: np.ndarray) -> np.ndarray:
        """That of SGLD with ε = h², times `reach` where momentum survives."""
        return step_size**2 * noise / 4 * np.where(along_metric, 1.0, self.reach)

    def step_bias(self, step_size: float, stiffness: np.ndarray) -> np.ndarray:
        """0: positions on a quadratic are exact at every stable step."""
        del step_size
        return np.zeros_like(stiffness)

    def noise_gain(self, step_size: float, stiffness: np.ndarray) -> np.ndarray:
        """1."""
        del step_size
        return np.ones_like(stiffness)

    def end_burnin(self, state: UnderdampedState) -> UnderdampedState:
        """The same state."""
        return state

    def is_adapting(self, state: UnderdampedState) -> bool:
        """False."""
        return False

    def diagonal(self, state: UnderdampedState) -> None:
        """None: there is no adaptive matrix."""
        return None

    def init(self, key: PRNGKey, posterior: LocalPosterior) -> UnderdampedState:
        """The state at w*, at rest."""
        gradient, _ = evaluate_minibatch(key, posterior, posterior.center, self.batch_size)
        at_rest = jnp.zeros_like(ravel_pytree(posterior.center)[0])
        return UnderdampedState(posterior.center, at_rest, gradient)

    def step(
        self,
        key: PRNGKey,
        state: UnderdampedState,
        posterior: LocalPosterior,
        step_size: Scalar,
        metric: Metric | None = None,
    ) -> tuple[UnderdampedState, StepInfo]:
        """One move."""
        noise_key, batch_key = jax.random.split(key)
        force = log_density_gradient(posterior, state.params, state.gradient)
        flat_force, unravel = ravel_pytree(force)
        noise = standard_normal_vector(noise_key, flat_force)
        momentum, travel = _kick_and_drift(state.momentum, flat_force, noise, step_size, self.persistence, metric)
        params = jax.tree.map(jnp.add, state.params, unravel(travel))
        gradient, info = evaluate_minibatch(batch_key, posterior, params, self.batch_size)
        return UnderdampedState(params, momentum, gradient), info


def _kick_and_drift(
    momentum: Array, force: Array, noise: Array, step_size: Scalar, persistence: float, metric: Metric | None
) -> tuple[Array, Array]:
    """The momentum p' after a kick and a refreshment, and the way h·G^{1/2}(p + p')/2 made before and after the latter.

        p = momentum + h·G^{1/2}·force,    p' = C·p + √(1 - C²)·noise

    With C = 0 along the metric's directions U and `persistence` in the rest. U is read twice.
    """
    fresh = (1 - persistence**2) ** 0.5
    if metric is None:
        kicked = momentum + step_size * force
        refreshed = persistence * kicked + fresh * noise
        return refreshed, step_size / 2 * (kicked + refreshed)
    rest, along = jnp.sqrt(metric.rest), jnp.sqrt(metric.scales)
    momentum_u, force_u, noise_u = jnp.stack([momentum, force, noise]) @ metric.directions
    kick_u = step_size * (along - rest) * force_u  # what U adds to rest·force
    kicked_u = momentum_u + step_size * along * force_u
    refresh_u = persistence * (kick_u - kicked_u) + (1 - fresh) * noise_u
    travel_u = rest * (kick_u + refresh_u) + (along - rest) * (kicked_u + noise_u)
    refresh_extra, travel_extra = jnp.stack([refresh_u, travel_u]) @ metric.directions.T
    kicked = momentum + step_size * rest * force
    refreshed = persistence * kicked + fresh * noise
    travel = step_size / 2 * (rest * (kicked + refreshed) + travel_extra)
    return refreshed + refresh_extra, travel
