"""A run of chains that survives a kill: what its state belongs to, when it is written, and how it is taken up again.

A state belongs to everything its numbers follow from. What moves their last digits alone may change between a run and its
continuation: devices, layout, and examples per pass.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from slt_jax.identity import close, content, program, setting
from slt_jax.posterior import LocalPosterior, Restriction, draw_indices
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.layout import Rows
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

    Raises:
        ValueError: if the file is damaged, belongs to another run, or is in use.
    """
    if path is None:
        yield StateFile(None, {}, start, rows)
        return
    path = Path(path).absolute()
    with lock_state(path):
        state = StateFile(path, identity(), start, rows)
        if path.exists():
            state.recorded = _taken_up(state, like(), again)
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
        if finished or time.monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Write the state, unless there is no path or nothing new."""
        if self.path is None or self._saved:
            return
        began, recorded = time.monotonic(), self.recorded
        recorded.pieces = {name: [join(parts)] if parts else [] for name, parts in recorded.pieces.items()}
        traces = {name: parts[0] for name, parts in recorded.pieces.items() if parts}
        chains = self.rows.gather(recorded.chains)
        save_state(self.path, {"chains": chains, "traces": traces}, recorded.done, self.identity)
        now = time.monotonic()
        self._due, self._saved = now + max(SAVE_SECONDS, SAVE_SHARE * (now - began)), True


def _taken_up(state: StateFile, trace: Any, again: Callable[[str, int], Any]) -> Recorded:
    assert state.path is not None
    chains, stages = state.rows.gather(state.recorded.chains), state.recorded.done

    def like(done: Mapping[str, int]) -> Any:
        def shapes(count: int) -> Any:
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((state.rows.count, count, *leaf.shape[2:]), leaf.dtype), trace
            )

        return {"chains": chains, "traces": {name: shapes(done[name]) for name in stages if done[name]}}

    def same_numbers(done: Mapping[str, int], stored: Any) -> bool:
        first = next(name for name in stages if done[name])
        count = min(FIRST_DRAWS, done[first])
        return close(jax.tree.map(lambda leaf: leaf[:, :count], stored["traces"][first]), again(first, count))

    done, stored = load_state(state.path, like, state.identity, same_numbers)
    pieces = {name: [stored["traces"][name]] if done[name] else [] for name in stages}
    return Recorded(state.rows.spread(jax.tree.map(jnp.asarray, stored["chains"])), pieces, dict(done))
