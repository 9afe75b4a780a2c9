"""The training loop: optax updates on batches that are a function of the step, so that a resumed run gives the same bits."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slt_jax.backend import BLOCK, full_precision, on_cpu
from slt_jax.identity import content, program
from slt_jax.progress import Stopped, never
from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.typing import Array, Batch, LossFn, Params, PRNGKey

__all__ = [
    "BatchFn",
    "TrainState",
    "checkpoint_steps",
    "init_train_state",
    "next_steps",
    "train",
    "train_steps",
    "triangle_schedule",
]

CHUNK_SECONDS = 5.0  # between two returns to the host
SAVE_SECONDS = 120.0  # between two saves of the full state: what a kill costs
BLOWN_UP = 1000.0  # a loss that ends so many times as high as it began was no training
FIRST_STEPS = 3  # a store knows its training by them under another version of jax

BatchFn: TypeAlias = Callable[[PRNGKey, Array, Any], Batch]
"""`(key, step, data) -> batch`: pure; `key` is already folded with the step, `data` is whatever `train` was given."""


class TrainState(NamedTuple):
    """Everything needed to continue training: steps taken, parameters, optimizer state.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from slt_jax.training.loop import TrainState
        >>> params = {"w": jnp.ones(2)}
        >>> int(TrainState(jnp.asarray(0), params, optax.sgd(0.1).init(params)).step)
        0
    """

    step: Array
    params: Params
    optimizer_state: Any


def checkpoint_steps(num_steps: int, num_log: int, num_linear: int) -> list[int]:
    """Union of `num_log` log-spaced and `num_linear` linearly spaced steps of `0..num_steps`, as in arXiv 2402.02364.

    Raises:
        ValueError: if `num_steps` is below 1 or a count is negative.

    Example:
        >>> from slt_jax.training.loop import checkpoint_steps
        >>> checkpoint_steps(1000, num_log=4, num_linear=3)
        [0, 1, 10, 100, 500, 1000]
    """
    if num_steps < 1 or num_log < 0 or num_linear < 0:
        raise ValueError(
            f"num_steps = {num_steps}, num_log = {num_log}, num_linear = {num_linear}; need >= 1, >= 0, >= 0"
        )
    logarithmic = np.geomspace(1, num_steps, num_log).astype(int)
    linear = np.linspace(0, num_steps, num_linear).astype(int)
    return sorted({int(step) for step in (*logarithmic, *linear)} | {num_steps})


def triangle_schedule(num_steps: int, peak: float, start: float = 0.0) -> optax.Schedule:
    """Learning rate from `start` up to `peak` at half of `num_steps` and down to 0, piecewise linear.

    Example:
        >>> from slt_jax.training.loop import triangle_schedule
        >>> rate = triangle_schedule(100, peak=0.5)
        >>> [float(rate(step)) for step in (0, 50, 100)]
        [0.0, 0.5, 0.0]
    """
    half = num_steps // 2
    return optax.join_schedules(
        [optax.linear_schedule(start, peak, half), optax.linear_schedule(peak, 0.0, num_steps - half)], [half]
    )


def init_train_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from slt_jax.training.loop import init_train_state
        >>> int(init_train_state({"w": jnp.ones(2)}, optax.adam(1e-3)).step)
        0
    """
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


@partial(jax.jit, static_argnames=("loss_fn", "batch_fn", "update", "block"), donate_argnames="state")
def train_steps(
    key: PRNGKey,
    state: TrainState,
    data: Any,
    num_steps: Array,
    *,
    loss_fn: LossFn,
    batch_fn: BatchFn,
    update: Callable,
    block: int = 1,
) -> tuple[TrainState, Array]:
    """`num_steps` (traced, a multiple of `block`) optimizer steps in one program; also the mean loss over them, a scalar.

    `block` steps are an inner loop whose length is compiled in, which an accelerator runs without asking the host.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from slt_jax.training.loop import init_train_state, train_steps
        >>> def loss_fn(w, x): return 0.5 * (w - x) ** 2
        >>> def batch_fn(key, step, data): return data
        >>> optimizer = optax.sgd(0.5)
        >>> state = init_train_state(jnp.zeros(()), optimizer)
        >>> state, loss = train_steps(jax.random.key(0), state, jnp.ones(4), jnp.asarray(20),
        ...                           loss_fn=loss_fn, batch_fn=batch_fn, update=optimizer.update)
        >>> int(state.step), round(float(state.params), 3)
        (20, 1.0)
    """

    def step(_: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        state, total = carry
        batch = batch_fn(jax.random.fold_in(key, state.step), state.step, data)
        loss, gradient = jax.value_and_grad(lambda params: jnp.mean(loss_fn(params, batch)))(state.params)
        updates, optimizer_state = update(gradient, state.optimizer_state, state.params)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), optimizer_state), total + loss

    def step_block(_: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        return jax.lax.fori_loop(0, block, step, carry)

    begun = (state, jnp.zeros(()))
    if block == 1:
        state, total = jax.lax.fori_loop(0, num_steps, step, begun)
    else:
        state, total = jax.lax.fori_loop(0, num_steps // block, step_block, begun)
    return state, total / jnp.maximum(num_steps, 1)


@full_precision()
def train(
    key: PRNGKey,
    loss_fn: LossFn,
    params: Params,
    batch_fn: BatchFn,
    optimizer: optax.GradientTransformation,
    *,
    num_steps: int,
    store: CheckpointStore,
    save_at: Sequence[int],
    data: Any = None,
    max_chunk: int = 1000,
    on_progress: Callable[[int, float], None] = lambda step, loss: None,
    should_stop: Callable[[], bool] = never,
) -> TrainState:
    """Train to `num_steps`, keeping parameters at the steps `save_at`; continues from what `store` holds.

    Args:
        key: typed PRNG key; step t uses `fold_in(key, t)`.
        loss_fn: `(params, batch) -> losses`; hashable, as `batch_fn`.
        params: initial parameters, where the training began also if it is continued.
        batch_fn: `(key, step, data) -> batch`, pure.
        optimizer: an optax transformation, schedule included.
        num_steps: where to stop.
        store: where parameters and the full state are kept. It belongs to this training, told by what its functions compute:
            another `num_steps`, `save_at` or `max_chunk` continues it, anything else needs a store of its own.
        save_at: steps at which parameters are kept.
        data: passed to `batch_fn`; traced.
        max_chunk: most steps between two returns to the host; there are fewer where so many take longer than a few seconds.
        on_progress: called with (step, mean loss since the last call).
        should_stop: asked at every return to the host; if it says so, the state is saved and `Stopped` is raised.

    Raises:
        ValueError: if the stored state cannot be read, or the store is of another training or in use.
        FloatingPointError: if the training loss stops being finite, or ends a thousand times as high as it began.
        Stopped: if `should_stop` said so.

    Example:
        >>> import tempfile, jax, jax.numpy as jnp, optax
        >>> from slt_jax.training.checkpoints import CheckpointStore
        >>> from slt_jax.training.loop import train
        >>> def loss_fn(w, x): return 0.5 * (w - x) ** 2
        >>> def batch_fn(key, step, data): return data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CheckpointStore(folder)
        ...     state = train(jax.random.key(0), loss_fn, jnp.zeros(()), batch_fn, optax.sgd(0.5), num_steps=20, store=store,
        ...                   save_at=[0, 10], data=jnp.ones(4))
        ...     print(store.steps(), round(float(state.params), 3))
        [0, 10, 20] 1.0
    """
    with store.only_writer():
        advance = partial(train_steps, key, data=data, loss_fn=loss_fn, batch_fn=batch_fn, update=optimizer.update)

        def first_numbers() -> list[float]:
            fresh = init_train_state(jax.tree.map(jnp.array, params), optimizer)  # a copy: the loop donates its state
            moved, loss = advance(fresh, num_steps=jnp.asarray(FIRST_STEPS, jnp.int32))
            return [float(loss), *(float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(moved.params))]

        store.claim(_training_identity(key, loss_fn, params, batch_fn, optimizer, data), first_numbers)
        state = store.restore_state(like=init_train_state(params, optimizer))
        if state is None:
            state = init_train_state(jax.tree.map(jnp.array, params), optimizer)  # a copy: the loop donates its state
        targets = sorted({step for step in save_at if step <= num_steps} | {num_steps})
        if int(state.step) == 0 and targets[0] == 0:
            store.save(0, state.params, state)
        clock, made = _Clock(max_chunk), int(state.step) < num_steps
        for target in targets:
            while (step := int(state.step)) < target:
                count, block = next_steps(step, target, clock.chunk)
                state, loss = advance(state, num_steps=jnp.asarray(count, jnp.int32), block=block)
                step = int(state.step)
                if not np.isfinite(loss):
                    raise FloatingPointError(f"the training loss is {float(loss)} before step {step}; lower the rate")
                clock.tick()
                on_progress(step, float(loss))
                stop = should_stop() and step < num_steps
                if step == target:
                    store.save(target, state.params, state)
                elif stop or clock.is_time_to_save():
                    store.save_state(step, state)
                if stop:
                    raise Stopped(f"stopped at step {step} of {num_steps}")
        if made and float(loss) > BLOWN_UP * (first := _first_loss(key, loss_fn, params, batch_fn, data)) > 0:
            raise FloatingPointError(
                f"the training loss has risen from {first:.3g} to {float(loss):.3g}; lower the rate"
            )
    return state


def next_steps(step: int, target: int, longest: int) -> tuple[int, int]:
    """How many steps to make, at most about `longest`, and how many of them are one loop of static length.

    On an accelerator, whole blocks wherever one begins and ends before the target: which steps are in one follows from the
    targets and not from the clock, so a continued training repeats the programs of one that was never stopped.

    Example:
        >>> from slt_jax.training.loop import next_steps
        >>> next_steps(0, 100, 64)[0] <= 64
        True
    """
    if on_cpu():
        return min(longest, target - step), 1
    if step % BLOCK or target - step < BLOCK:
        return min(BLOCK - step % BLOCK, target - step), 1
    return min(max(longest, BLOCK), target - step) // BLOCK * BLOCK, BLOCK


def _first_loss(key: PRNGKey, loss_fn: LossFn, params: Params, batch_fn: BatchFn, data: Any) -> float:
    """The loss of the first batch before training."""
    step = jnp.zeros((), jnp.int32)
    return float(jnp.mean(jax.jit(loss_fn)(params, batch_fn(jax.random.fold_in(key, step), step, data))))


class _Clock:
    """When to return to the host, and when to save the state between two kept steps: by the time that passes, which moves no bit."""

    def __init__(self, max_chunk: int) -> None:
        self.chunk, self._max_chunk = 1, max_chunk
        self._began = self._saved = time.monotonic()

    def tick(self) -> None:
        """A chunk has ended: make the next one longer or shorter."""
        now = time.monotonic()
        took, self._began = now - self._began, now
        factor = 4 if took < CHUNK_SECONDS / 4 else 2 if took < CHUNK_SECONDS / 2 else 1
        self.chunk = max(1, min(self._max_chunk, factor * self.chunk if took <= CHUNK_SECONDS else self.chunk // 2))

    def is_time_to_save(self) -> bool:
        """Whether the last save of this kind is long ago; true once each time."""
        if time.monotonic() - self._saved < SAVE_SECONDS:
            return False
        self._saved = time.monotonic()
        return True


def _training_identity(
    key: PRNGKey,
    loss_fn: LossFn,
    params: Params,
    batch_fn: BatchFn,
    optimizer: optax.GradientTransformation,
    data: Any,
) -> dict[str, str]:
    """Name -> digest of everything that checkpoints follow from, how many steps are made and kept apart."""
    step = jnp.zeros((), jnp.int32)
    batch = jax.eval_shape(batch_fn, key, step, data)
    optimizer_state = optimizer.init(params)

    def loss_and_gradient(params: Params, batch: Batch) -> tuple[Array, Params]:
        return jax.value_and_grad(lambda params: jnp.mean(loss_fn(params, batch)))(params)

    return {
        "key": content(key),
        "loss_fn": program(loss_and_gradient, params, batch),
        "params": content(params),
        "batch_fn": program(batch_fn, key, step, data),
        "optimizer": program(optimizer.update, params, optimizer_state, params),
        "optimizer's state": content(optimizer_state),
        "data": content(data),
    }
