"""One chain, as a pure function of its state: jit it, vmap it, call it from other JAX code.

A chain's randomness is a function of its key and of its step count alone, so a chain that is stopped, saved and
continued gives the same bits as one that never stopped.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.base import Kernel, StepInfo
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.statistics import Statistic
from slt_jax.typing import Array, Observable, PRNGKey, Scalar

__all__ = ["ChainState", "Trace", "end_burnin", "init_chain", "run"]


class ChainState(NamedTuple):
    """All that is needed to continue a chain.

    Attributes:
        key: the chain's root key; the key of step t is `fold_in(key, t)`.
        step: number of steps taken, counting from 1 after the first.
        kernel_state: what the kernel keeps; `.params` is the current parameter.
        finite: whether every loss and gradient so far was finite.
        statistics: name -> state of a `Statistic`; empty if none is asked for.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> chain = slt_jax.init_chain(jax.random.key(0), posterior, slt_jax.sgld(None))
        >>> int(chain.step), chain.kernel_state.params.tolist(), bool(chain.finite)
        (0, [0.0, 0.0], True)
    """

    key: PRNGKey
    step: Array
    kernel_state: Any
    finite: Array
    statistics: dict[str, Any]


class Trace(NamedTuple):
    """Recorded values, leading axis `draw`. Nothing of the size of the parameters unless an observable asks for it.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> kernel = slt_jax.sgld(None)
        >>> chain = slt_jax.init_chain(jax.random.key(0), posterior, kernel)
        >>> _, trace = slt_jax.run(chain, posterior, kernel, step_size=0.001, num_draws=5)
        >>> trace.loss.shape, trace.excess.shape
        ((5,), (5,))
    """

    loss: Array
    excess: Array | None
    grad_norm: Array
    observables: dict[str, Array]


def init_chain(
    key: PRNGKey, posterior: LocalPosterior, kernel: Kernel, statistics: Mapping[str, Statistic] | None = None
) -> ChainState:
    """A chain at w*, before its first step; `statistics` are those that a later `run` will update.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> chains = jax.vmap(lambda key: slt_jax.init_chain(key, posterior, slt_jax.sgld(None)))(keys)
        >>> chains.kernel_state.params.shape
        (3, 2)
    """
    kernel_state = kernel.init(jax.random.fold_in(key, 0), posterior)
    center = posterior.full_params(posterior.center)
    states = {name: statistic.init(center) for name, statistic in (statistics or {}).items()}
    return ChainState(key, jnp.zeros((), jnp.int32), kernel_state, jnp.asarray(True), states)


def run(
    chain: ChainState,
    posterior: LocalPosterior,
    kernel: Kernel,
    *,
    step_size: Scalar,
    num_draws: int,
    thinning: int | Array = 1,
    active_draws: int | Array | None = None,
    block: int = 1,
    metric: Metric | None = None,
    observables: dict[str, Observable] | None = None,
    statistics: Mapping[str, Statistic] | None = None,
    statistics_draws: int | Array | None = None,
    record_center_loss: bool = True,
) -> tuple[ChainState, Trace]:
    """Continue `chain` for `num_draws` draws of `thinning` steps each; every value is recorded after the step.

    Args:
        chain: from `init_chain` or an earlier `run`.
        posterior: what is sampled; traced.
        kernel: static.
        step_size: in the kernel's own meaning; traced.
        num_draws: length of the trace; static, at least 1.
        thinning: steps per draw; traced.
        active_draws: draws really made, at most `num_draws`; traced, so one program serves chunks of every length. The
            trace beyond them is zero.
        block: draws of an inner loop whose length is compiled in, which an accelerator runs without asking the host; static.
            `active_draws` is a multiple of it, and `thinning` had better be an int.
        metric: constant preconditioner; traced.
        observables: name -> function of the full parameters.
        statistics: name -> statistic, updated at each draw in `chain.statistics`, which `init_chain` made. Those in the
            chain that are not named here stay as they are (burn-in).
        statistics_draws: draws over which their blocks are laid, those of earlier and later calls included; default
            `num_draws`; traced.
        record_center_loss: whether to record the excess over the loss at w*; if not, that loss is not computed either.

    Returns:
        The chain after the last step, and the trace with leading axis `num_draws`.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> kernel = slt_jax.sgld(None)
        >>> @jax.jit  # pure, so it goes into your own programs
        ... def mean_llc(key, posterior):
        ...     chain = slt_jax.init_chain(key, posterior, kernel)
        ...     _, trace = slt_jax.run(chain, posterior, kernel, step_size=0.003, num_draws=2000, thinning=10)
        ...     return posterior.nbeta * trace.excess.mean()
        >>> bool(abs(mean_llc(jax.random.key(0), posterior) - 1) < 0.15)
        True
    """
    observables = observables or {}

    def step(_: Array, carry: tuple[ChainState, StepInfo]) -> tuple[ChainState, StepInfo]:
        chain = carry[0]
        count = chain.step + 1
        key = jax.random.fold_in(chain.key, count)
        state, info = kernel.step(key, chain.kernel_state, posterior, step_size, metric)
        state = _in_types_of(chain.kernel_state, state)
        if not record_center_loss:
            info = info._replace(excess=jnp.zeros_like(info.loss))
        finite = chain.finite & jnp.isfinite(info.loss) & jnp.isfinite(info.grad_norm)
        return chain._replace(step=count, kernel_state=state, finite=finite), info

    def accumulate(chain: ChainState) -> ChainState:
        if not statistics:
            return chain
        params = posterior.full_params(chain.kernel_state.params)
        total = num_draws if statistics_draws is None else statistics_draws
        updated = {name: one.update(chain.statistics[name], params, total) for name, one in statistics.items()}
        return chain._replace(statistics=chain.statistics | updated)

    def record(chain: ChainState, info: StepInfo) -> Trace:
        params = posterior.full_params(chain.kernel_state.params)
        values = {name: observable(params) for name, observable in observables.items()}
        return Trace(info.loss, info.excess if record_center_loss else None, info.grad_norm, values)

    def draw(index: Array, carry: tuple[ChainState, Trace]) -> tuple[ChainState, Trace]:
        chain, trace = carry
        chain, info = jax.lax.fori_loop(0, thinning, step, (chain, nothing))
        values = record(chain, info)
        chain = accumulate(chain)
        trace = jax.tree.map(
            lambda buffer, value: jax.lax.dynamic_update_index_in_dim(buffer, value, index, 0), trace, values
        )
        return chain, trace

    reported = jax.eval_shape(kernel.step, chain.key, chain.kernel_state, posterior, step_size, metric)[1]
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), reported)
    shapes = jax.eval_shape(record, chain, nothing)
    empty = jax.tree.map(lambda leaf: jnp.zeros((num_draws, *leaf.shape), leaf.dtype), shapes)
    count = num_draws if active_draws is None else active_draws
    if block == 1:
        return jax.lax.fori_loop(0, count, draw, (chain, empty))

    def draw_block(number: Array, carry: tuple[ChainState, Trace]) -> tuple[ChainState, Trace]:
        return jax.lax.fori_loop(0, block, lambda index, inner: draw(number * block + index, inner), carry)

    return jax.lax.fori_loop(0, count // block, draw_block, (chain, empty))


def end_burnin(chain: ChainState, kernel: Kernel) -> ChainState:
    """The chain with which draws begin: what its kernel adapted during burn-in is constant from here on.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> from slt_jax.sampling.chains import end_burnin
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> kernel = slt_jax.sgld(None, preconditioner=slt_jax.rmsprop())
        >>> chain = end_burnin(slt_jax.init_chain(jax.random.key(0), posterior, kernel), kernel)
        >>> bool(chain.kernel_state.preconditioner.frozen)
        True
    """
    return chain._replace(kernel_state=kernel.end_burnin(chain.kernel_state))


def _in_types_of(old: Any, new: Any) -> Any:
    """`new` in the number types of `old`: a state keeps those of the parameters, whatever the settings' types are."""
    return jax.tree.map(lambda before, after: after.astype(before.dtype), old, new)
