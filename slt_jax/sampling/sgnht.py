"""The stochastic-gradient Nosé-Hoover thermostat: momentum, and a friction that absorbs the noise of the gradient."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.sgmcmc import diffusions

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.base import StepInfo, check_batch_size, evaluate_minibatch, log_density_gradient
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.noise import standard_normal
from slt_jax.typing import Array, Params, PRNGKey, Scalar

__all__ = ["SGNHT", "SGNHTState", "sgnht"]

THERMOSTAT_FRACTION = 0.1  # h²a of the stiffest direction: the bias of its variance is h²a/4

LARGEST_GAIN = 2e-3
"""By how much the thermostat's share of momentum (ξh) may change in a step, for a kinetic energy off by its mean: h² where that
is less. With h² = 0.14, as in a curvature metric, an isotropic Gaussian came out 62% too hot."""


class SGNHTState(NamedTuple):
    """State of `sgnht`: parameter, momentum, and the thermostat's excess ξ - A over the injected friction.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> slt_jax.sgnht(None).init(jax.random.key(0), posterior).momentum.shape
        (2,)
    """

    params: Params
    momentum: Params
    thermostat: Array


def sgnht(batch_size: int | None, friction: float = 0.01) -> "SGNHT":
    """Stochastic-gradient Nosé-Hoover thermostat: momentum, and a friction that absorbs the noise of the gradient.

    `step_size` is the integrator's step h (w moves by h·momentum), of the order of √ε of SGLD; stable for
    h²·(nβ h_max + γ) < 4. The gradient is taken at the new position, which makes the integrator the symplectic Euler
    scheme instead of the explicit one (unstable without strong friction). Variances come out too small by a relative
    error of about `friction`. On minibatches, a direction whose force has noise of variance V beyond the directions' average
    comes out too hot by a share of about h²V/(2·friction), for the thermostat is one number: with friction 0.05 instead of
    0.01 and half the step the digits network's LLC went from 19% high to right (docs/results/digits).

    Args:
        batch_size: examples per gradient; `None` uses all of them.
        friction: share of the momentum that a step replaces by noise, A·h in the paper's symbols, in (0, 1).

    Raises:
        ValueError: if `batch_size` is below 1 or `friction` outside (0, 1).

    Source: Ding et al. 2014, "Bayesian sampling using stochastic gradient thermostats", algorithm 2.

    Example:
        >>> from slt_jax import sgnht
        >>> sgnht(256, friction=0.05)
        SGNHT(batch_size=256, friction=0.05)
    """
    return SGNHT(batch_size, friction)


@dataclass(frozen=True)
class SGNHT:
    """The kernel that `sgnht` makes; its fields are the arguments of that function.

    Example:
        >>> import slt_jax
        >>> slt_jax.sgnht(256) == slt_jax.sgnht(256, friction=0.01)
        True
    """

    batch_size: int | None
    friction: float = 0.01

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        if not 0 < self.friction < 1:
            raise ValueError(
                f"friction = {self.friction}; it is the share of momentum replaced per step and must lie in (0, 1)"
            )

    @property
    def step_fraction(self) -> float:
        """c = h²a."""
        return THERMOSTAT_FRACTION

    @property
    def langevin_proposal(self) -> bool:
        """False: the step has momentum."""
        return False

    def step_for(self, stiffest: float, fraction: float | None = None) -> float:
        """h = √(c/(stiffest curvature))."""
        return ((self.step_fraction if fraction is None else fraction) / stiffest) ** 0.5

    def relaxation_steps(self, step_size: float, curvature: float) -> float:
        """4/(h√a) while the friction is weaker than the oscillation, and its own time, 2/friction, at least."""
        return max(4 / (step_size * curvature**0.5), 2 / self.friction)

    def heating(self, step_size: float, noise: np.ndarray, along_metric: np.ndarray) -> np.ndarray:
        """h²V/(2·friction) of the noise V beyond the directions' average, which the thermostat absorbs."""
        del along_metric
        return step_size**2 * np.maximum(noise - noise.mean(), 0.0) / (2 * self.friction)

    def step_bias(self, step_size: float, stiffness: np.ndarray) -> np.ndarray:
        """0: positions on a quadratic are exact at every stable step."""
        del step_size
        return np.zeros_like(stiffness)

    def noise_gain(self, step_size: float, stiffness: np.ndarray) -> np.ndarray:
        """1."""
        del step_size
        return np.ones_like(stiffness)

    def end_burnin(self, state: SGNHTState) -> SGNHTState:
        """The same state: the thermostat is part of the dynamics."""
        return state

    def is_adapting(self, state: SGNHTState) -> bool:
        """False."""
        return False

    def diagonal(self, state: SGNHTState) -> None:
        """None: there is no adaptive matrix."""
        return None

    def init(self, key: PRNGKey, posterior: LocalPosterior) -> SGNHTState:
        """The state at w*, with a random momentum."""
        momentum = standard_normal(key, posterior.center)
        return SGNHTState(posterior.center, momentum, jnp.zeros((), jnp.result_type(*jax.tree.leaves(momentum))))

    def step(
        self,
        key: PRNGKey,
        state: SGNHTState,
        posterior: LocalPosterior,
        step_size: Scalar,
        metric: Metric | None = None,
    ) -> tuple[SGNHTState, StepInfo]:
        """One move."""
        noise_key, batch_key = jax.random.split(key)
        # In coordinates z = G^{-1/2}(w - w*) the dynamics has unit mass; only velocity and force are mapped back and forth.
        velocity = state.momentum if metric is None else metric.sqrt(state.momentum)
        params = jax.tree.map(lambda w, p: w + step_size * p, state.params, velocity)
        gradient, info = evaluate_minibatch(batch_key, posterior, params, self.batch_size)
        force = log_density_gradient(posterior, params, gradient)
        force = force if metric is None else metric.sqrt(force)
        alpha = self.friction / step_size
        diffusion = diffusions.sgnht(alpha=alpha, beta=0.0)
        _, momentum, thermostat = diffusion(
            noise_key, state.params, state.momentum, alpha + state.thermostat, force, step_size
        )
        # Slow against the stiffest oscillation, or the two resonate where many directions share one frequency.
        slower = jnp.minimum(1.0, LARGEST_GAIN / step_size**2)
        return SGNHTState(params, momentum, state.thermostat + slower * (thermostat - alpha - state.thermostat)), info
