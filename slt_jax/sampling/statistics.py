"""Moments that a chain carries instead of a trace: covariances of an observable with the loss of every example.

A trace of n example losses at every draw is draws x n numbers and their covariance matrix n x n. What influence functions,
susceptibilities and WAIC need is less: for each example a mean, a sum of squares and a sum of products. They are kept in
blocks of consecutive draws, because draws are correlated and an error bar follows from the spread of blocks
(`slt_jax.estimators.covariances`).

Sums are Welford's, around a reference taken off first: raw float32 sums of products lose a fifth of the covariance of losses
5 ± 0.01, these a few millionths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from slt_jax.posterior import LocalPosterior, example_losses
from slt_jax.trees import leading_axis
from slt_jax.typing import Array, Batch, LossFn, Observable, Params

__all__ = ["BlockMoments", "Moments", "Statistic", "block_of_draw", "check_traces", "cross_moments", "example_moments"]

LARGEST_TRACE = 1e9  # bytes of recorded values of one observable
NUM_BLOCKS = 8  # per chain: with two chains or more an error bar has the 16 blocks it wants; more is only memory


@runtime_checkable
class Statistic(Protocol):
    """What `sample(..., statistics={name: statistic})` accepts: a pytree whose data are traced, with two pure methods.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> from slt_jax.sampling.statistics import Statistic
        >>> isinstance(slt_jax.cross_moments(lambda w: w, lambda w: w), Statistic)
        True
    """

    @property
    def num_blocks(self) -> int:
        """Blocks of consecutive draws that a chain keeps."""

    def init(self, params: Params) -> Any:
        """The state before the first draw; `params` is w*, whole."""

    def update(self, state: Any, params: Params, num_draws: Array | int) -> Any:
        """The state after one more draw at `params` (whole), of `num_draws` in all."""


class BlockMoments(NamedTuple):
    """Moments of two observables x and y over blocks of consecutive draws; every deviation is from the reference.

    Axes: `(block, *x, *y)` in a chain, `(chain, block, *x, *y)` in `Samples.statistics`.

    Attributes:
        drawn: draws so far, a scalar (per chain).
        count: draws in each block, `(block,)`.
        mean_x, square_x: mean of x - reference_x, and sum of squared deviations from that mean, `(block, *x)`.
        mean_y, square_y: the same of y, `(block, *y)`.
        mean_total, square_total: the same of the mean of y - reference_y over all its entries, `(block,)`: the loss
            above its value at w*, where y are the losses of all examples.
        product: sum of products of the deviations of x and y, `(block, *x, *y)`; None if not kept.
        exponential: mean of exp(-(y - reference_y)) - 1, `(block, *y)`; None if not kept.
        reference_x, reference_y: x(w*) and y(w*), shapes `x` and `y`.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> kept = slt_jax.cross_moments(lambda w: w, lambda w: w, num_blocks=2)
        >>> state = kept.init(jnp.zeros(3))
        >>> state = kept.update(state, jnp.ones(3), num_draws=2)
        >>> int(state.drawn), state.mean_x[0].tolist()
        (1, [1.0, 1.0, 1.0])
    """

    drawn: Any
    count: Any
    mean_x: Any
    square_x: Any
    mean_y: Any
    square_y: Any
    mean_total: Any
    square_total: Any
    product: Any
    exponential: Any
    reference_x: Any
    reference_y: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["x", "y"],
    meta_fields=["num_blocks", "products", "exponentials"],
)
@dataclass(frozen=True)
class Moments:
    """A `Statistic` whose state is a `BlockMoments`; made by `cross_moments` and `example_moments`.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> kept = slt_jax.cross_moments(lambda w: w[0], lambda w: w, num_blocks=4)
        >>> kept.init(jnp.zeros(3)).product.shape  # blocks, entries of y
        (4, 3)
    """

    x: Callable[[Params], Array] | None
    y: Callable[[Params], Array]
    num_blocks: int
    products: bool
    exponentials: bool

    def init(self, params: Params) -> BlockMoments:
        """No draws; the references are x and y at `params`, 0 where those are not finite."""
        y = _finite(_floating(self.y(params)))
        x = jnp.mean(y) if self.x is None else _finite(_floating(self.x(params)))

        def zeros(*shape: int) -> Array:
            return jnp.zeros((self.num_blocks, *shape), y.dtype)

        return BlockMoments(
            drawn=jnp.zeros((), jnp.int32),
            count=jnp.zeros(self.num_blocks, jnp.int32),
            mean_x=zeros(*x.shape),
            square_x=zeros(*x.shape),
            mean_y=zeros(*y.shape),
            square_y=zeros(*y.shape),
            mean_total=zeros(),
            square_total=zeros(),
            product=zeros(*x.shape, *y.shape) if self.products else None,
            exponential=zeros(*y.shape) if self.exponentials else None,
            reference_x=x,
            reference_y=y,
        )

    def update(self, state: BlockMoments, params: Params, num_draws: Array | int) -> BlockMoments:
        """Welford's update of the block to which this draw belongs (Welford 1962; Chan, Golub & LeVeque 1983)."""
        block = block_of_draw(state.drawn, num_draws, self.num_blocks)
        y = _floating(self.y(params)) - state.reference_y
        total = jnp.mean(y)
        x = total if self.x is None else _floating(self.x(params)) - state.reference_x
        count = state.count[block] + 1
        mean_x, old_x, new_x = _move(state.mean_x[block], x, count)
        mean_y, old_y, new_y = _move(state.mean_y[block], y, count)
        mean_total, old_total, new_total = _move(state.mean_total[block], total, count)
        changes = {
            "count": count,
            "mean_x": mean_x,
            "square_x": state.square_x[block] + old_x * new_x,
            "mean_y": mean_y,
            "square_y": state.square_y[block] + old_y * new_y,
            "mean_total": mean_total,
            "square_total": state.square_total[block] + old_total * new_total,
        }
        if state.product is not None:
            changes["product"] = state.product[block] + jnp.multiply.outer(old_x, new_y)
        if state.exponential is not None:
            changes["exponential"] = _move(state.exponential[block], jnp.expm1(-y), count)[0]
        return state._replace(
            drawn=state.drawn + 1,
            **{name: getattr(state, name).at[block].set(value) for name, value in changes.items()},
        )


def _move(mean: Array, value: Array, count: Array) -> tuple[Array, Array, Array]:
    """The mean with `value` among its `count` terms, and the value's deviations from the old and the new mean."""
    deviation = value - mean
    moved = mean + deviation / count
    return moved, deviation, value - moved


def _floating(value: Array) -> Array:
    """At least float32: sums in the half precisions of a network would stall."""
    value = jnp.asarray(value)
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))


def _finite(value: Array) -> Array:
    return jnp.where(jnp.isfinite(value), value, 0.0)


def block_of_draw(draw: Array, num_draws: Array | int, num_blocks: int) -> Array:
    """The block of draw number `draw` (from 0) among `num_draws`, cut into `num_blocks` whose lengths differ by at most 1.

    The longer blocks come first. With fewer draws than blocks the last blocks stay empty.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.sampling.statistics import block_of_draw
        >>> [int(block_of_draw(jnp.asarray(draw), 5, 2)) for draw in range(5)]
        [0, 0, 0, 1, 1]
    """
    length = num_draws // num_blocks
    longer = num_draws - length * num_blocks
    boundary = longer * (length + 1)
    return jnp.where(
        draw < boundary, draw // (length + 1), longer + (draw - boundary) // jnp.maximum(length, 1)
    ).astype(jnp.int32)


def cross_moments(x: Observable | None, y: Observable, *, num_blocks: int = NUM_BLOCKS) -> Moments:
    """Streamed moments for the covariance of every entry of x with every entry of y.

    Memory is (2 + size of x)·(size of y) numbers per block and chain, never draws x size of y.

    Args:
        x: `params -> array` of any shape, the observables; `None` for the mean of y over all its entries, which is the
            loss itself where y are the losses of all examples, at no further cost.
        y: `params -> array` of any shape; the losses of the examples, or of every token of each, for influence
            functions and susceptibilities. One that needs data should be a `jax.tree_util.Partial` carrying it
            (`example_moments(...).y` is), so that new data do not recompile.
        num_blocks: blocks per chain, at least 1.

    Raises:
        ValueError: if `num_blocks` is below 1.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> from slt_jax.sampling.statistics import cross_moments
        >>> def loss_fn(w, x): return 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 10.0, 1.0)
        >>> moments = cross_moments(lambda w: w, jax.tree_util.Partial(lambda x, w: loss_fn(w, x), x))
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.03,
        ...                          num_draws=400, num_burnin=50, thinning=10, statistics={"influence": moments})
        >>> slt_jax.covariance(samples, "influence").value.shape
        (3,)
    """
    return Moments(
        None if x is None else _wrapped(x), _wrapped(y), _checked(num_blocks), products=True, exponentials=False
    )


def example_moments(
    loss_fn: LossFn, data: Batch, center: Params, chunk_size: int = 4096, *, num_blocks: int = NUM_BLOCKS
) -> Moments:
    """Streamed moments of every example's loss, for WAIC, the singular fluctuation and the heat capacity.

    Memory is three numbers per example, block and chain: mean, squared deviations, and mean of exp(-l_i).

    Args:
        loss_fn: `(params, batch) -> losses` with leading axis `batch`; any trailing shape (per token) is kept.
        data: pytree of arrays with leading axis n, evaluated at every draw: n forward passes a draw, so thin.
        center: w*, the whole pytree; only checked, for the losses there are taken off first by the chain itself.
        chunk_size: examples per pass; no result depends on it.
        num_blocks: blocks per chain, at least 1.

    Raises:
        ValueError: if `chunk_size` or `num_blocks` is below 1, the leaves of `data` have no common leading axis, or the
            losses do not have it.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> kept = slt_jax.example_moments(lambda w, x: 0.5 * (w - x) ** 2, x, jnp.zeros(()), num_blocks=4)
        >>> kept.init(jnp.zeros(())).mean_y.shape  # blocks, examples
        (4, 3)
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size = {chunk_size}; it must be at least 1")
    n, shape = leading_axis(data), jax.eval_shape(loss_fn, center, data).shape
    if shape[:1] != (n,):
        raise ValueError(
            f"loss_fn returned shape {shape} for {n} examples; its first axis must be that of the examples"
        )
    losses = Partial(_Losses(loss_fn, chunk_size), data)
    return Moments(None, losses, _checked(num_blocks), products=False, exponentials=True)


@dataclass(frozen=True)
class _Losses:
    """`(data, params) -> losses` of all examples, in chunks. Hashable: equal settings compile once."""

    loss_fn: LossFn
    chunk_size: int

    def __call__(self, data: Batch, params: Params) -> Array:
        return example_losses(LocalPosterior(self.loss_fn, data, params, 1.0, 0.0), params, self.chunk_size)


def _wrapped(function: Observable) -> Partial:
    return function if isinstance(function, Partial) else Partial(function)


def _checked(num_blocks: int) -> int:
    if num_blocks < 1:
        raise ValueError(f"num_blocks = {num_blocks}; it must be at least 1")
    return num_blocks


def check_traces(observables: Mapping[str, Observable], params: Params, num_chains: int, num_draws: int) -> None:
    """Refuse to record an observable whose trace would take more than `LARGEST_TRACE` bytes.

    Raises:
        ValueError: in a sentence that names the observable, its size and `statistics`.
    """
    for name, observable in observables.items():
        for leaf in jax.tree.leaves(jax.eval_shape(observable, params)):
            size = num_chains * num_draws * int(np.prod(leaf.shape)) * leaf.dtype.itemsize
            if size > LARGEST_TRACE:
                raise ValueError(
                    f"observable '{name}' of shape {leaf.shape} would record {num_chains} x {num_draws} draws of it, "
                    f"{size / 1e9:.1f} GB; give statistics={{'{name}': cross_moments(...)}} for its moments alone"
                )
