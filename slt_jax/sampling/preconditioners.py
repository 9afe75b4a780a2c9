"""Adaptive preconditioners: a diagonal matrix G made of the gradients that a chain has seen.

    w ← w - h·G∇U + √(2h)·G^{1/2}N,    h = ε/2

A matrix that follows the chain changes the law that the chain keeps: directions are rescaled where their gradient is large,
which is where the chain should be rarely. On a quadratic the variances of RMSProp-SGLD are 6 to 21% too large at steps of
3e-5, 1e-4 and 3e-4 (`python benchmarks/adapting.py`). So G adapts during burn-in and is frozen with the first draw; from there
on it is a constant metric, and exact but for the step.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from slt_jax.typing import Array, Params

__all__ = ["Adam", "MomentState", "Preconditioner", "RMSProp", "adam", "rmsprop"]


@runtime_checkable
class Preconditioner(Protocol):
    """An adaptive diagonal metric: a frozen dataclass whose fields are its settings; holds no data.

    Attributes:
        stabilizer: a; no scale is larger than 1/a.
        memory: updates over which the scale averages.
        lag: by how many steps the drift is behind the gradient, on average.

    Example:
        >>> import slt_jax
        >>> isinstance(slt_jax.rmsprop(), slt_jax.Preconditioner)
        True
    """

    @property
    def stabilizer(self) -> float: ...

    @property
    def memory(self) -> float: ...

    @property
    def lag(self) -> float: ...

    def init(self, params: Params) -> Any:
        """The state before the first gradient."""

    def update(self, gradient: Params, state: Any) -> tuple[Params, Params, Any]:
        """`(drift, scale, state)`; `gradient` is that of the mean minibatch loss alone. `drift` replaces it in the step,
        `scale` is the diagonal of G, both pytrees like the parameters."""

    def freeze(self, state: Any) -> Any:
        """The state whose scale stays as it is."""

    def scale(self, state: Any) -> Params:
        """The diagonal of G that `state` stands for."""


class MomentState(NamedTuple):
    """Running moments of the loss gradient; `updates` is their number t; the second moment is fixed once `frozen`.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> state = slt_jax.rmsprop().init(jnp.zeros(2))
        >>> int(state.updates), state.second.tolist(), bool(state.frozen)
        (0, [1.0, 1.0], False)
    """

    updates: Array
    first: Params | None
    second: Params
    frozen: Array


def rmsprop(decay: float = 0.99, stabilizer: float = 0.1) -> "RMSProp":
    """RMSProp-SGLD: v ← b₂v + (1-b₂)g², v₀ = 1, v̂ = v/(1-b₂ᵗ), scale 1/(√v̂ + a); v̂ is frozen after burn-in.

    Args:
        decay: b₂, in [0, 1).
        stabilizer: a, positive.

    Raises:
        ValueError: if a setting is out of range.

    Source: Hitchcock & Hoogland 2025 (arXiv 2507.21449), after Li et al. 2016 (arXiv 1512.07666).

    Example:
        >>> from slt_jax import rmsprop
        >>> rmsprop()
        RMSProp(decay=0.99, stabilizer=0.1)
    """
    return RMSProp(decay, stabilizer)


def adam(first_decay: float = 0.9, second_decay: float = 0.99, stabilizer: float = 0.1) -> "Adam":
    """Adam-SGLD: the scale of `rmsprop`, and the bias-corrected mean m̂ of the gradient in place of g in the drift.

    Args:
        first_decay: b₁, in [0, 1). The mean lags behind, which makes variances too large by (εa/2)·b₁/(1-b₁).
        second_decay: b₂, in [0, 1).
        stabilizer: a, positive.

    Raises:
        ValueError: if a setting is out of range.

    Source: Hitchcock & Hoogland 2025 (arXiv 2507.21449).

    Example:
        >>> from slt_jax import adam
        >>> adam(0.5)
        Adam(first_decay=0.5, second_decay=0.99, stabilizer=0.1)
    """
    return Adam(first_decay, second_decay, stabilizer)


@dataclass(frozen=True)
class RMSProp:
    """The preconditioner that `rmsprop` makes; its fields are the arguments of that function.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> rule = slt_jax.rmsprop(decay=0.9)
        >>> drift, scale, state = rule.update(jnp.array([2.0]), rule.init(jnp.zeros(1)))
        >>> drift.tolist(), round(rule.memory, 6)
        ([2.0], 10.0)
    """

    decay: float = 0.99
    stabilizer: float = 0.1

    def __post_init__(self) -> None:
        _check_decay("decay", self.decay)
        _check_stabilizer(self.stabilizer)

    @property
    def memory(self) -> float:
        """1/(1 - b₂)."""
        return 1 / (1 - self.decay)

    @property
    def lag(self) -> float:
        """0: the drift is the gradient."""
        return 0.0

    def init(self, params: Params) -> MomentState:
        """v = 1 everywhere."""
        return _init_moments(params, momentum=False)

    def update(self, gradient: Params, state: MomentState) -> tuple[Params, Params, MomentState]:
        """The gradient itself, and its scale."""
        state = _with_second_moment(state, gradient, self.decay)
        return gradient, _scale(state, self.decay, self.stabilizer), state

    def freeze(self, state: MomentState) -> MomentState:
        """The state whose scale stays as it is."""
        return _freeze(state, self.decay)

    def scale(self, state: MomentState) -> Params:
        """1/(√v̂ + a)."""
        return _scale(state, self.decay, self.stabilizer)


@dataclass(frozen=True)
class Adam:
    """The preconditioner that `adam` makes; its fields are the arguments of that function.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> rule = slt_jax.adam()
        >>> drift, scale, state = rule.update(jnp.array([2.0]), rule.init(jnp.zeros(1)))
        >>> drift.round(3).tolist()  # the first gradient, its bias corrected
        [2.0]
    """

    first_decay: float = 0.9
    second_decay: float = 0.99
    stabilizer: float = 0.1

    def __post_init__(self) -> None:
        _check_decay("first_decay", self.first_decay)
        _check_decay("second_decay", self.second_decay)
        _check_stabilizer(self.stabilizer)

    @property
    def memory(self) -> float:
        """1/(1 - b₂)."""
        return 1 / (1 - self.second_decay)

    @property
    def lag(self) -> float:
        """b₁/(1 - b₁)."""
        return self.first_decay / (1 - self.first_decay)

    def init(self, params: Params) -> MomentState:
        """m = 0 and v = 1 everywhere."""
        return _init_moments(params, momentum=True)

    def update(self, gradient: Params, state: MomentState) -> tuple[Params, Params, MomentState]:
        """m̂, and the scale."""
        state, decay = _with_second_moment(state, gradient, self.second_decay), self.first_decay
        first = jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, state.first, gradient)
        correction = 1 - decay ** state.updates.astype(jnp.float32)
        drift = jax.tree.map(lambda m: (m / correction).astype(m.dtype), first)
        return drift, _scale(state, self.second_decay, self.stabilizer), state._replace(first=first)

    def freeze(self, state: MomentState) -> MomentState:
        """The state whose scale stays as it is; the mean of the gradient goes on."""
        return _freeze(state, self.second_decay)

    def scale(self, state: MomentState) -> Params:
        """1/(√v̂ + a)."""
        return _scale(state, self.second_decay, self.stabilizer)


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} = {value}; it must lie in [0, 1)")


def _check_stabilizer(value: float) -> None:
    if not value > 0:
        raise ValueError(f"stabilizer = {value}; it must be positive, or directions without gradient have no step size")


def _init_moments(params: Params, *, momentum: bool) -> MomentState:
    # v starts at 1, not 0: the first steps are small instead of unbounded in directions whose first gradient is tiny.
    first = jax.tree.map(jnp.zeros_like, params) if momentum else None
    return MomentState(jnp.zeros((), jnp.int32), first, jax.tree.map(jnp.ones_like, params), jnp.asarray(False))


def _with_second_moment(state: MomentState, gradient: Params, decay: float) -> MomentState:
    """After one more gradient; once frozen, `second` holds v̂ and stays."""
    count = state.updates + 1
    moved = jax.tree.map(lambda v, g: decay * v + (1 - decay) * g**2, state.second, gradient)
    second = jax.tree.map(lambda v, now: jnp.where(state.frozen, v, now), state.second, moved)
    return state._replace(updates=count, second=second)


def _correction(state: MomentState, decay: float) -> Array:
    # A frozen v̂ is corrected already.
    count = jnp.maximum(state.updates, 1).astype(jnp.float32)
    return jnp.where(state.frozen, 1.0, 1 - decay**count)


def _freeze(state: MomentState, decay: float) -> MomentState:
    correction = _correction(state, decay)
    second = jax.tree.map(lambda v: (v / correction).astype(v.dtype), state.second)
    return state._replace(second=second, frozen=jnp.ones_like(state.frozen))


def _scale(state: MomentState, decay: float, stabilizer: float) -> Params:
    correction = _correction(state, decay)
    return jax.tree.map(lambda v: (1 / (jnp.sqrt(v / correction) + stabilizer)).astype(v.dtype), state.second)
