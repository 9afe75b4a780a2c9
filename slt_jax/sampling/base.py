"""What a transition kernel is, and what all of them share: a minibatch evaluated after the move, and the drift it gives.

Every kernel evaluates the loss *after* its move: `StepInfo.loss` belongs to `State.params`, the gradient found on the
way is kept for the next move, and a chain's first recorded value is never its starting point. The minibatch is fresh at
every evaluation, so the recorded loss is an unbiased estimate of L_n at the recorded parameter.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.arguments import check_count
from slt_jax.posterior import LocalPosterior, draw_indices, minibatch_excess_and_gradient
from slt_jax.sampling.metrics import Metric
from slt_jax.trees import squared_norm
from slt_jax.typing import Array, Params, PRNGKey, Scalar

__all__ = ["Kernel", "StepInfo", "check_batch_size", "evaluate_minibatch", "log_density_gradient"]


class StepInfo(NamedTuple):
    """What a step reports about the state it arrived at.

    Attributes:
        loss: mean minibatch loss at the new parameter, a scalar, in the units of the loss.
        excess: mean over the same minibatch of the loss there minus the loss at w*, taken example by example. Not computed
            unless it is used.
        grad_norm: Euclidean norm of the minibatch gradient of the loss at the new parameter.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.array([-1.0, 1.0]), jnp.zeros(()), 10.0, 1.0)
        >>> kernel = slt_jax.sgld(None)
        >>> state, info = kernel.step(jax.random.key(0), kernel.init(jax.random.key(1), posterior), posterior, 0.01)
        >>> bool(info.excess > 0)  # w* is the minimum
        True
    """

    loss: Array
    excess: Array
    grad_norm: Array


@runtime_checkable
class Kernel(Protocol):
    """A transition kernel: a frozen dataclass whose fields are all its settings, so that equal settings are one value,
    compile once, and print the same. It holds no data.

    Besides moving, a kernel answers what a calibration asks, so that nobody else needs to know which kernel it is. A
    curvature is one of the potential nβL + γ/2|w - w*|², in the units of the metric that the kernel is given.

    Attributes:
        batch_size: examples per step; `None` means all of them.

    Example:
        >>> import slt_jax
        >>> isinstance(slt_jax.sgld(32), slt_jax.Kernel), slt_jax.sgld(32).batch_size
        (True, 32)
    """

    @property
    def batch_size(self) -> int | None: ...

    @property
    def step_fraction(self) -> float:
        """c: the step that `step_for` gives by default has εa = c, or h²a = c, in the stiffest direction. Chosen so that
        the step's own bias of a variance there stays below 1.3%."""

    @property
    def langevin_proposal(self) -> bool:
        """Whether a step is a Langevin proposal with a constant metric, which a Metropolis test can judge."""

    def init(self, key: PRNGKey, posterior: LocalPosterior) -> Any:
        """The state at w*. `State.params` is the sampled (part of the) parameter."""

    def step(
        self, key: PRNGKey, state: Any, posterior: LocalPosterior, step_size: Scalar, metric: Metric | None = None
    ) -> tuple[Any, StepInfo]:
        """One move."""

    def step_for(self, stiffest: float, fraction: float | None = None) -> float:
        """The step size, in the kernel's own meaning, whose share of the stability limit is set by `fraction`."""

    def relaxation_steps(self, step_size: float, curvature: float) -> float:
        """Steps in which a direction of this curvature forgets where it was, to 1/e."""

    def heating(self, step_size: float, noise: np.ndarray, along_metric: np.ndarray) -> np.ndarray:
        """By which share minibatch noise raises the variance of directions.

        Args:
            step_size: in the kernel's meaning.
            noise: variance of the force nβ·g of one minibatch in each direction, in the metric's units.
            along_metric: true for directions that the metric holds explicitly.
        """

    def step_bias(self, step_size: float, stiffness: np.ndarray) -> np.ndarray:
        """By which share the step itself raises the variance of directions with these curvatures, without noise of minibatches.

        Args:
            step_size: in the kernel's meaning.
            stiffness: curvature in each direction, in the metric's units.
        """

    def noise_gain(self, step_size: float, stiffness: np.ndarray) -> np.ndarray:
        """By which factor `heating`, which holds for a short step, grows at a step that is not."""

    def end_burnin(self, state: Any) -> Any:
        """The state with which draws begin: what adapted itself so far is constant from here on."""

    def is_adapting(self, state: Any) -> Array | bool:
        """Whether something in `state` still adapts itself, so that the posterior is only approximately kept."""

    def diagonal(self, state: Any) -> Params | None:
        """The diagonal matrix by which `state` has adapted the step, a tree like the parameters, if there is one."""


def check_batch_size(batch_size: int | None) -> None:
    """Refuse a batch size that is not a whole number of at least one example, or `None` for the full data."""
    if batch_size is not None:
        check_count("batch_size", batch_size)


def evaluate_minibatch(
    key: PRNGKey, posterior: LocalPosterior, params: Params, batch_size: int | None
) -> tuple[Params, StepInfo]:
    """Minibatch gradient of the loss at `params`, and what to report there.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> from slt_jax.sampling.base import evaluate_minibatch
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.array([-1.0, 1.0]), jnp.zeros(()), 10.0, 1.0)
        >>> gradient, info = evaluate_minibatch(jax.random.key(0), posterior, jnp.asarray(2.0), None)
        >>> float(gradient), float(info.loss)
        (2.0, 2.5)
    """
    indices = draw_indices(key, posterior.n, batch_size)
    loss, excess, gradient = minibatch_excess_and_gradient(posterior, params, indices)
    return gradient, StepInfo(loss, excess, jnp.sqrt(squared_norm(gradient)))


def log_density_gradient(posterior: LocalPosterior, params: Params, loss_gradient: Params) -> Params:
    """-∇U = -( nβ g + γ(w - w*) ).

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> from slt_jax.sampling.base import log_density_gradient
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.zeros(2), jnp.zeros(()), 10.0, 1.0)
        >>> float(log_density_gradient(posterior, jnp.asarray(2.0), jnp.asarray(2.0)))  # -(10·2 + 1·2)
        -22.0
    """
    return jax.tree.map(
        lambda g, w, center: -(posterior.nbeta * g + posterior.localization * (w - center)),
        loss_gradient,
        params,
        posterior.center,
    )
