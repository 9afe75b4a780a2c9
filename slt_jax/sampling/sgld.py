"""Stochastic-gradient Langevin dynamics, plain, preconditioned, and in the integrator of Leimkuhler and Matthews."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.base import StepInfo, check_batch_size, evaluate_minibatch, log_density_gradient
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.noise import standard_normal
from slt_jax.sampling.preconditioners import Preconditioner
from slt_jax.typing import Array, Params, PRNGKey, Scalar

__all__ = ["SGLD", "Integrator", "SGLDState", "sgld"]

Integrator: TypeAlias = Literal["euler", "leimkuhler_matthews"]
EULER_FRACTION = 0.05  # c: a variance in the stiffest direction is too large by c/4
AVERAGED_FRACTION = 0.3  # exact on a Gaussian at any c; this leaves room for places stiffer than w*


class SGLDState(NamedTuple):
    """State of `sgld`: the parameter and the minibatch gradient of the loss there; the preconditioner's moments and the
    standard normal noise of the last step, where they are used.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> slt_jax.sgld(None).init(jax.random.key(0), posterior).params.tolist()
        [0.0, 0.0]
    """

    params: Params
    gradient: Params
    preconditioner: Any = None
    noise: Params | None = None


def sgld(
    batch_size: int | None, preconditioner: Preconditioner | None = None, integrator: Integrator = "euler"
) -> "SGLD":
    """Stochastic-gradient Langevin dynamics, w ← w - ε/2·(nβ g + γ(w - w*)) + √ε·N, N ~ N(0, I) at each step.

    With a preconditioner or a metric, ε/2 and √ε are multiplied by G and G^{1/2}.

    Args:
        batch_size: examples per gradient, drawn uniformly with replacement; `None` uses all of them at every step.
        preconditioner: `rmsprop(...)` or `adam(...)`; `None` for the identity. It adapts during burn-in and is constant
            from the first draw on: one that goes on adapting follows the chain, and then the chain keeps another law (its
            variances come out 6 to 21% too large on a quadratic at steps of 3e-5 to 3e-4, `benchmarks/adapting.py`).
        integrator: "euler" is the step above, whose variances are too large by 1/(1 - εa/4) in a direction of curvature
            a = nβh + γ. "leimkuhler_matthews" replaces N by the mean of this step's and the last step's N: the same cost
            and the same stability limit εa < 4, but Gaussian variances are exact at any stable step and other averages are
            biased in second order of ε only. It needs a constant G.

    Raises:
        ValueError: if `batch_size` is below 1, or an adaptive preconditioner is given to "leimkuhler_matthews".

    Source: Welling & Teh 2011; Lau et al. 2023 (arXiv 2308.12108), eq. 14. Leimkuhler & Matthews 2013, "Rational
    construction of stochastic numerical methods for molecular sampling", eq. 2.

    Example:
        >>> from slt_jax import sgld
        >>> sgld(256, integrator="leimkuhler_matthews")
        SGLD(batch_size=256, preconditioner=None, integrator='leimkuhler_matthews')
    """
    return SGLD(batch_size, preconditioner, integrator)


@dataclass(frozen=True)
class SGLD:
    """The kernel that `sgld` makes; its fields are the arguments of that function.

    Example:
        >>> import slt_jax
        >>> kernel = slt_jax.sgld(256, integrator="leimkuhler_matthews")
        >>> kernel, kernel == slt_jax.sgld(256, integrator="leimkuhler_matthews")
        (SGLD(batch_size=256, preconditioner=None, integrator='leimkuhler_matthews'), True)
    """

    batch_size: int | None
    preconditioner: Preconditioner | None = None
    integrator: Integrator = "euler"

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        if self.integrator not in ("euler", "leimkuhler_matthews"):
            raise ValueError(f"integrator = '{self.integrator}'; it must be 'euler' or 'leimkuhler_matthews'")
        if self.preconditioner is not None and not isinstance(self.preconditioner, Preconditioner):
            given = type(self.preconditioner).__name__
            raise ValueError(f"preconditioner is a {given}; it must be rmsprop(...), adam(...) or None")
        if self.averages_noise and self.preconditioner is not None:
            raise ValueError(
                "integrator 'leimkuhler_matthews' needs a constant metric; give no preconditioner, or 'euler'"
            )

    @property
    def averages_noise(self) -> bool:
        """Whether noise is averaged over two steps."""
        return self.integrator == "leimkuhler_matthews"

    @property
    def step_fraction(self) -> float:
        """c = εa; an averaged gradient lags behind, which adds (εa/2)·b₁/(1 - b₁) to the bias c/4."""
        if self.averages_noise:
            return AVERAGED_FRACTION
        lag = 0.0 if self.preconditioner is None else self.preconditioner.lag
        return EULER_FRACTION / (1 + 2 * lag)

    @property
    def langevin_proposal(self) -> bool:
        """True without a preconditioner, whose matrix changes with the chain."""
        return self.preconditioner is None

    def step_for(self, stiffest: float, fraction: float | None = None) -> float:
        """ε = c/(stiffest curvature), over the largest scale that a preconditioner can have."""
        fraction = self.step_fraction if fraction is None else fraction
        return (
            fraction / stiffest if self.preconditioner is None else fraction * self.preconditioner.stabilizer / stiffest
        )

    def relaxation_steps(self, step_size: float, curvature: float) -> float:
        """2/(εa)."""
        return 2 / (step_size * curvature)

    def heating(self, step_size: float, noise: np.ndarray, along_metric: np.ndarray) -> np.ndarray:
        """ε·Var(nβg)/4: the force's noise makes (ε/2)²·Var(nβg) a step beside the ε that is meant."""
        del along_metric
        return step_size * noise / 4

    def step_bias(self, step_size: float, stiffness: np.ndarray) -> np.ndarray:
        """1/(1 - (1 + 2l)εa/4) - 1 for Euler's step and a gradient that lags by l steps; 0 for averaged noise."""
        if self.averages_noise:
            return np.zeros_like(stiffness)
        lag = 0.0 if self.preconditioner is None else self.preconditioner.lag
        return _widened(step_size * stiffness * (1 + 2 * lag)) - 1

    def noise_gain(self, step_size: float, stiffness: np.ndarray) -> np.ndarray:
        """1/(1 - εa/4): noise (εV/4)/a of a short step becomes (εV/4)/(a(1 - εa/4))."""
        return _widened(step_size * stiffness)

    def end_burnin(self, state: SGLDState) -> SGLDState:
        """The preconditioner is constant from here on."""
        if self.preconditioner is None:
            return state
        return state._replace(preconditioner=self.preconditioner.freeze(state.preconditioner))

    def is_adapting(self, state: SGLDState) -> Array | bool:
        """True before `end_burnin` with a preconditioner."""
        return False if self.preconditioner is None else ~state.preconditioner.frozen

    def diagonal(self, state: SGLDState) -> Params | None:
        """The preconditioner's scale in `state`."""
        return None if self.preconditioner is None else self.preconditioner.scale(state.preconditioner)

    def init(self, key: PRNGKey, posterior: LocalPosterior) -> SGLDState:
        """The state at w*."""
        batch_key, noise_key = jax.random.split(key)
        gradient, _ = evaluate_minibatch(batch_key, posterior, posterior.center, self.batch_size)
        moments = None if self.preconditioner is None else self.preconditioner.init(posterior.center)
        noise = standard_normal(noise_key, posterior.center) if self.averages_noise else None
        return SGLDState(posterior.center, gradient, moments, noise)

    def step(
        self, key: PRNGKey, state: SGLDState, posterior: LocalPosterior, step_size: Scalar, metric: Metric | None = None
    ) -> tuple[SGLDState, StepInfo]:
        """One move."""
        noise_key, batch_key = jax.random.split(key)
        if self.preconditioner is None:
            drift, scale, moments = state.gradient, None, None
        else:
            drift, scale, moments = self.preconditioner.update(state.gradient, state.preconditioner)
        force = log_density_gradient(posterior, state.params, drift)
        noise = fresh = standard_normal(noise_key, state.params)
        if self.averages_noise:
            noise = jax.tree.map(lambda last, now: (last + now) / 2, state.noise, fresh)
        params = _langevin_move(state.params, force, noise, step_size, scale, metric)
        gradient, info = evaluate_minibatch(batch_key, posterior, params, self.batch_size)
        return SGLDState(params, gradient, moments, fresh if self.averages_noise else None), info


def _widened(share: np.ndarray) -> np.ndarray:
    """1/(1 - εa/4), infinite from the limit of stability on."""
    return 1 / np.maximum(1 - share / 4, 1e-12)


def _langevin_move(
    params: Params, force: Params, noise: Params, step_size: Scalar, scale: Params | None, metric: Metric | None
) -> Params:
    """w + h·G·force + √(2h)·G^{1/2}·noise, with blackjax's h = ε/2."""
    langevin_step = step_size / 2
    drift = jax.tree.map(lambda f: langevin_step * f, force)
    noise = jax.tree.map(lambda n: jnp.sqrt(2 * langevin_step) * n, noise)
    if metric is not None:
        if scale is not None:
            raise ValueError("give either a preconditioner or a metric, not both: their product is not a known law")
        return jax.tree.map(jnp.add, params, metric.step(drift, noise))
    if scale is not None:
        drift = jax.tree.map(jnp.multiply, scale, drift)
        noise = jax.tree.map(lambda s, n: jnp.sqrt(s) * n, scale, noise)
    return jax.tree.map(lambda w, d, n: w + d + n, params, drift, noise)
