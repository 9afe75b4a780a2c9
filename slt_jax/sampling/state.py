"""A run of chains that survives a kill: what its state belongs to, when it is written, and how it is taken up again.

A state belongs to everything its numbers follow from. What moves their last digits alone may change between a run and its
continuation: devices, layout, and examples per pass.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.identity import close, content, program, setting
from slt_jax.posterior import LocalPosterior, Restriction, draw_indices
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.layout import Rows, is_key
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.samples import ChainSettings, join
from slt_jax.sampling.statistics import Statistic
from slt_jax.sampling.storage import load_state, lock_state, save_state
from slt_jax.trees import take_examples

__all__ = ["Recorded", "StateFile", "open_state", "run_identity"]

SAVE_SECONDS = 30.0
"""Between two writes of a state: what a kill costs."""
FIRST_DRAWS = 3
"""Drawn again to compare, where programs cannot be; few, for rounding grows along a chain."""
SAVE_SHARE = 20
"""A write that takes longer than this share of `SAVE_SECONDS` is repeated less often: never more than 5% of the time."""


@dataclass
class Recorded:
    """What chains have done so far: their states on the devices, those that fill up among them; the traces of each stage in
    consecutive pieces on the host, without them; and draws made."""

    chains: Any
    pieces: dict[str, list]
    done: dict[str, int]


def run_identity(
    keys: jax.Array,
    posterior: LocalPosterior,
    kernel: Kernel,
    settings: ChainSettings,
    metric: Metric | None,
    observables: Mapping[str, Callable],
    stages: Mapping[str, tuple[int, int]],
    baseline: str | float,
    statistics: Mapping[str, Statistic],
) -> dict[str, str]:
    """Name -> digest of everything that the recorded numbers follow from; `posterior` as given to `sample`.

    Raises:
        ValueError: if the kernel's repr does not say its settings.
    """
    whole = posterior.center if posterior.whole is None else posterior.whole
    restriction = posterior.restriction
    if settings.restriction is not None:
        restriction = jax.tree.map(lambda leaf: leaf[0], settings.restriction)
    parts = {
        "key": content(keys),
        "kernel": setting("kernel", kernel),
        "step_size": content(settings.step_size),
        "nbeta": content(settings.nbeta),
        "localization": content(settings.localization),
        "loss_fn": _loss_program(posterior, whole, kernel.batch_size),
        "data": content(posterior.data),
        "center": content((posterior.center, whole)),
        **_restriction_identity(posterior, settings, restriction, whole),
        **({} if settings.center is None else {"centers": content(settings.center.params)}),
        "metric": content(metric),
        "baseline": baseline if isinstance(baseline, str) else repr(float(baseline)),
        **{stage: repr(counts) for stage, counts in stages.items()},
    }
    parts |= {f"observable {name}": program(function, whole) for name, function in observables.items()}
    return parts | {f"statistic {name}": _statistic_program(one, whole) for name, one in statistics.items()}


def _statistic_program(statistic: Statistic, whole: Any) -> str:
    """What an update computes, from a fresh state and the draw's number."""

    def of(params: Any) -> Any:
        return statistic.update(statistic.init(params), params, 1)

    return program(of, whole)


def _loss_program(posterior: LocalPosterior, whole: Any, batch_size: int | None) -> str:
    """Loss and gradient on a minibatch: only once differentiated does a program show its custom derivatives."""

    def mean_loss(params: Any, batch: Any) -> jax.Array:
        return jnp.mean(posterior.loss_fn(params, batch))

    def of(params: Any, data: Any, key: jax.Array) -> Any:
        indices = draw_indices(key, posterior.n, batch_size)
        return jax.value_and_grad(mean_loss)(params, data if indices is None else take_examples(data, indices))

    return program(of, whole, posterior.data, jax.random.key(0))


def _restriction_identity(
    posterior: LocalPosterior, settings: ChainSettings, restriction: Restriction | None, whole: Any
) -> dict[str, str]:
    if restriction is None:
        return {}
    part = jax.eval_shape(restriction.take, whole)
    return {
        "restriction": content((posterior.restriction, settings.restriction)),
        "restriction's take": program(restriction.take, whole),
        "restriction's put": program(restriction.put, whole, part),
    }


@contextmanager
def open_state(
    path: Path | str | None,
    identity: Callable[[], Mapping[str, str]],
    start: Recorded,
    rows: Rows,
    like: Callable[[], Any],
    again: Callable[[str, int], Any],
) -> Iterator["StateFile"]:
    """The state at `path`, held until the block ends; nothing at all if there is no path.

    Args:
        path: the file, or `None`.
        identity: makes what `run_identity` returns; not called without a path.
        start: chains before their first step.
        rows: where chains lie; a file holds none that fill up, so other devices can go on with it.
        like: makes the shapes of the trace of one chunk.
        again: `(stage, count) -> trace`, the first draws made once more, if `stage` is the first that has any.

    Of several processes the first alone reads and writes the file; what it holds is told to the others.

    Raises:
        ValueError: if the file is damaged, belongs to another run, or is in use.
    """
    if path is None:
        yield StateFile(None, {}, start, rows)
        return
    path = Path(path).absolute()
    state, first = StateFile(path, {}, start, rows), _First(rows.gather(start.chains), like())
    stored = refused = None
    with ExitStack() as stack:
        if rows.keeper:
            try:
                stack.enter_context(lock_state(path))
                state.identity = identity()
                stored = _read(state, first, again) if path.exists() else None
            except ValueError as error:
                refused = error
        _raise_everywhere(rows, path, refused)
        told = _told_to_all(state, first, stored)
        if told is not None:
            state.recorded = _taken_up(state, *told)
        yield state


@dataclass
class StateFile:
    """What has been recorded, and the file it is kept in; `path` is `None` if it is kept nowhere."""

    path: Path | None
    identity: Mapping[str, str]
    recorded: Recorded
    rows: Rows
    _due: float = field(default_factory=lambda: time.monotonic() + SAVE_SECONDS)
    _saved: bool = True

    def advanced(self, *, finished: bool) -> None:
        """To be told after every chunk; writes the state when its time has come or all is done."""
        self._saved = False
        if self.path is not None and self.rows.agree(finished or time.monotonic() >= self._due):
            self.save()

    def save(self) -> None:
        """Write the state, unless there is no path or nothing new."""
        if self.path is None or self._saved:
            return
        began, recorded = time.monotonic(), self.recorded
        recorded.pieces = {name: [join(parts)] if parts else [] for name, parts in recorded.pieces.items()}
        traces = {name: parts[0] for name, parts in recorded.pieces.items() if parts}
        chains = self.rows.gather(recorded.chains)
        if self.rows.keeper:
            save_state(self.path, {"chains": chains, "traces": traces}, recorded.done, self.identity)
        now = time.monotonic()
        self._due, self._saved = now + max(SAVE_SECONDS, SAVE_SHARE * (now - began)), True


class _First(NamedTuple):
    """What a file looks like: the chains before their first step, without those that fill up, and the shapes of a chunk's trace."""

    chains: Any
    trace: Any


def _like(first: _First, done: Mapping[str, int]) -> Any:
    """The tree that a file holds after `done` draws."""
    num_chains = len(first.chains.step)

    def shapes(count: int) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((num_chains, count, *leaf.shape[2:]), leaf.dtype), first.trace
        )

    return {"chains": first.chains, "traces": {name: shapes(count) for name, count in done.items() if count}}


def _read(state: StateFile, first: _First, again: Callable[[str, int], Any]) -> tuple[dict[str, int], Any]:
    """Draws made in each stage, and chains and traces on the host."""
    assert state.path is not None

    def same_numbers(done: Mapping[str, int], stored: Any) -> bool:
        if state.rows.mesh.is_multi_process:
            raise ValueError(
                f"sampling state {state.path} was written under another version of jax, which one process alone can compare; go "
                "on in one process, or give another path"
            )
        stage = next(name for name in state.recorded.done if done[name])
        count = min(FIRST_DRAWS, done[stage])
        return close(jax.tree.map(lambda leaf: leaf[:, :count], stored["traces"][stage]), again(stage, count))

    return load_state(state.path, lambda done: _like(first, done), state.identity, same_numbers)


def _taken_up(state: StateFile, done: Mapping[str, int], stored: Any) -> Recorded:
    pieces = {name: [stored["traces"][name]] if done[name] else [] for name in state.recorded.done}
    return Recorded(state.rows.spread(jax.tree.map(jnp.asarray, stored["chains"])), pieces, dict(done))


def _raise_everywhere(rows: Rows, path: Path, refused: ValueError | None) -> None:
    """Raise `refused` in the process that has it, and its like in the others, which would wait for it forever."""
    if rows.any_of(refused is not None):
        raise refused or ValueError(f"sampling state {path} was refused by process 0, which says why; see there")


def _told_to_all(
    state: StateFile, first: _First, stored: tuple[dict[str, int], Any] | None
) -> tuple[Mapping[str, int], Any] | None:
    """What process 0 has read, in every process."""
    rows = state.rows
    if not rows.mesh.is_multi_process:
        return stored
    names = list(state.recorded.done)
    counts = [-1] * len(names) if stored is None else [stored[0][name] for name in names]
    counts = np.asarray(rows.agree(np.asarray(counts, np.int32))).tolist()
    if counts[0] < 0:
        return None
    done = dict(zip(names, counts, strict=True))
    like = _like(first, done)
    own = like if stored is None else stored[1]
    told = rows.agree(jax.tree.map(_numbers, own))
    return done, jax.tree.map(_as_before, told, like)


def _numbers(leaf: Any) -> np.ndarray:
    """What can be told to other processes: the numbers of keys, and zeros for what only has a shape."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return np.zeros(leaf.shape, leaf.dtype)
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def _as_before(told: Any, like: Any) -> Any:
    return (
        jax.random.wrap_key_data(jnp.asarray(told), impl=jax.random.key_impl(like))
        if is_key(like)
        else np.asarray(told)
    )
