"""`sample`: the host-side driver over the pure chains of `slt_jax.sampling.chains`.

It cuts a long run into chunks of one compiled program, shows progress, saves state so that a killed run continues to
the same bits, and spreads chains over devices.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from slt_jax.arguments import check_count, check_key, check_number
from slt_jax.backend import block_of, full_precision
from slt_jax.posterior import LocalPosterior, Restriction, at_center, check_posterior, check_scalars, restrict
from slt_jax.progress import Stopped, never, progress_bar
from slt_jax.restrictions import check_stack
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.center import center_losses
from slt_jax.sampling.chain_looks import inspections, look_for_chains
from slt_jax.sampling.chains import ChainState, end_burnin, init_chain, run
from slt_jax.sampling.checks import check_kernel, check_metric, check_on_host, check_options, check_settings
from slt_jax.sampling.diagnostics import mala_acceptance
from slt_jax.sampling.inspection import Inspection
from slt_jax.sampling.layout import Layout, Rows, advance_chains, chain_mesh, default_layout, map_chains, replicate
from slt_jax.sampling.look import check_losses
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.recompilation import check_unchanged, watch_compilations
from slt_jax.sampling.samples import ChainSettings, Samples, collect, select_chains
from slt_jax.sampling.state import Recorded, StateFile, open_state, run_identity
from slt_jax.sampling.statistics import Statistic, check_traces
from slt_jax.sampling.tuned import Tuned
from slt_jax.typing import Observable, PRNGKey, Scalar

__all__ = ["sample", "sample_chains", "sample_restrictions"]

LONGEST_CHUNK = 1000  # draws recorded on the devices before they go to the host
CHUNK_SECONDS = 0.5  # chunks grow until one takes this long: rare enough to cost nothing, often enough to be watched


def sample(
    key: PRNGKey,
    posterior: LocalPosterior,
    kernel: Kernel | Tuned,
    *,
    step_size: float | jax.Array | None = None,
    num_chains: int = 4,
    num_draws: int = 1000,
    num_burnin: int | None = None,
    thinning: int = 1,
    metric: Metric | None = None,
    observables: Mapping[str, Observable] | None = None,
    statistics: Mapping[str, Statistic] | None = None,
    baseline: str | float = "paired",
    progress: bool = False,
    state_path: Path | str | None = None,
    should_stop: Callable[[], bool] = never,
    inspection: Inspection | bool | None = None,
    layout: Layout | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Samples:
    """Draw from the local posterior.

    Args:
        key: typed PRNG key; chain i uses `fold_in(key, i)`, its step t `fold_in(·, t)`.
        posterior: what to sample.
        kernel: `sgld(...)`, `sgnht(...)`, `underdamped(...)`, or what `Sampler.tune` returned; the latter brings its own step
            size, metric and burn-in.
        step_size: ε for SGLD, the integrator's step for SGNHT and underdamped dynamics; see `calibrate`.
        num_chains: number of chains, all started at w*.
        num_draws: draws kept per chain, after burn-in.
        num_burnin: steps made before the first draw, default 0 or that of a `Tuned`; their losses are kept apart, and an
            adaptive preconditioner is constant afterwards.
        thinning: steps per draw; the value after the last of them is recorded.
        metric: constant preconditioner (`curvature_metric`).
        observables: name -> function of the full parameters, recorded at each draw.
        statistics: name -> `cross_moments(...)` or `example_moments(...)`, updated at each draw and carried with the chain:
            what replaces the trace of an observable that is too large to record.
        baseline: "paired" (loss at w* on the same minibatch), "full" (one pass over the data), or a number.
        progress: show a bar with rate and remaining time on stderr.
        state_path: file in which to keep the state, written every half minute and at the end; an existing one of the same
            run is continued to the same bits. It belongs to all that its numbers follow from: every argument here but
            `progress`, `should_stop`, `layout` and `devices`, with `loss_fn` and observables told by what they compute.
        should_stop: asked about twice a second; if it says so, the state is written and `Stopped` is raised.
        inspection: what `inspect` or `calibrate` found at w*, to be used again; by default `sample` looks itself; `False`
            leaves the look out, and with it every status that comes of it.
        layout: "vmap" or "map"; default by backend.
        devices: devices over which chains are sharded; default all. Each takes equally many: where their number does not divide
            that of the chains, copies of the last chain fill up and are thrown away.

    Raises:
        TypeError: if an argument is of the wrong kind, or `sample` is called under `jit`, `vmap` or `grad`.
        ValueError: on settings out of range, a posterior that cannot be sampled, or a state file that is damaged, in use, or
            of another run; one sentence says which.
        Stopped: if `should_stop` said so.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.003, num_draws=100)
        >>> samples.loss.shape  # chains, draws
        (4, 100)
    """
    check_on_host("sample", key, posterior, step_size)
    if isinstance(kernel, Tuned):
        if step_size is not None or metric is not None:
            raise ValueError("kernel is a Tuned, which brings its own step_size and metric; leave those two out")
        tuned, kernel = kernel, kernel.kernel
        step_size, metric = tuned.step_size, tuned.metric
        num_burnin = tuned.num_burnin if num_burnin is None else num_burnin
        inspection = tuned.inspection if inspection is None else inspection
    elif step_size is None:
        raise ValueError("step_size is missing; take that of calibrate(key, posterior, kernel=kernel), or give a Tuned")
    settings = _uniform_settings(check_count("num_chains", num_chains), step_size, posterior)
    return sample_chains(
        key, posterior, kernel, settings, num_draws=num_draws, num_burnin=0 if num_burnin is None else num_burnin, thinning=thinning,
        metric=metric, observables=observables, statistics=statistics, baseline=baseline, progress=progress, state_path=state_path,
        should_stop=should_stop, inspection=inspection, layout=layout, devices=devices,
    )  # fmt: skip


def sample_restrictions(
    key: PRNGKey,
    posterior: LocalPosterior,
    restrictions: Restriction,
    kernel: Kernel,
    *,
    step_size: float | jax.Array,
    num_chains: int = 4,
    **options: Any,
) -> list[Samples]:
    """Refined sampling of several parts of equal shape, all heads of a layer say, in one compiled program.

    Args:
        key, posterior, kernel, step_size: as in `sample`; `posterior` is unrestricted.
        restrictions: a stack, `by_slice(axes, jnp.arange(heads))`.
        num_chains: chains per restriction.
        options: as in `sample`.

    Returns:
        One `Samples` per restriction.

    Raises:
        TypeError, ValueError: as `sample`; also if `restrictions` is not a stack or an index is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * jnp.sum(w["heads"] ** 2) + 0 * x
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.zeros(2), {"heads": jnp.zeros((3, 4))}, 100.0, 1.0)
        >>> heads = slt_jax.by_slice({"heads": 0}, jnp.arange(3))
        >>> parts = slt_jax.sample_restrictions(jax.random.key(0), posterior, heads, slt_jax.sgld(None), step_size=0.003,
        ...                                     num_draws=50)
        >>> len(parts), parts[0].num_parameters
        (3, 4)
    """
    check_on_host("sample_restrictions", key, posterior, restrictions, step_size)
    check_scalars(posterior)
    count = check_stack(restrictions, posterior.center)
    total = count * check_count("num_chains", num_chains)
    settings = _uniform_settings(total, step_size, posterior)._replace(
        restriction=jax.tree.map(lambda leaf: jnp.repeat(leaf, num_chains, axis=0), restrictions)
    )
    samples = sample_chains(key, posterior, kernel, settings, **options)
    return [select_chains(samples, slice(i * num_chains, (i + 1) * num_chains)) for i in range(count)]


def _uniform_settings(count: int, step_size: Scalar, posterior: LocalPosterior) -> ChainSettings:
    """The same settings for `count` chains."""
    check_scalars(posterior)
    check_number("step_size", step_size, above=True)

    def spread(value: Scalar) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(value, jnp.float32), (count,))

    return ChainSettings(spread(step_size), spread(posterior.nbeta), spread(posterior.localization))


@full_precision()
def sample_chains(
    key: PRNGKey,
    posterior: LocalPosterior,
    kernel: Kernel,
    settings: ChainSettings,
    *,
    num_draws: int = 1000,
    num_burnin: int = 0,
    thinning: int = 1,
    metric: Metric | None = None,
    observables: Mapping[str, Observable] | None = None,
    statistics: Mapping[str, Statistic] | None = None,
    baseline: str | float = "paired",
    progress: bool = False,
    state_path: Path | str | None = None,
    should_stop: Callable[[], bool] = never,
    inspection: Inspection | bool | None = None,
    layout: Layout | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Samples:
    """As `sample`, with the settings of every chain given apart: the one road under sweeps and refined LLCs.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> from slt_jax.sampling.driver import sample_chains
        >>> from slt_jax.sampling.samples import ChainSettings
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> settings = ChainSettings(jnp.array([1e-3, 1e-4]), jnp.array([100.0, 1000.0]), jnp.array([1.0, 1.0]))
        >>> sample_chains(jax.random.key(0), posterior, slt_jax.sgld(None), settings, num_draws=50).nbeta.tolist()
        [100.0, 1000.0]
    """
    check_on_host("sample_chains", key, posterior, settings)
    check_key(key)
    num_chains = check_settings(settings)
    num_draws, thinning = check_count("num_draws", num_draws), check_count("thinning", thinning)
    num_burnin = check_count("num_burnin", num_burnin, least=0)
    check_posterior(posterior)
    check_kernel(kernel)
    _check_metric_fits(metric, posterior, settings)
    check_options(
        posterior, observables=observables, statistics=statistics, baseline=baseline, layout=layout, devices=devices,
        state_path=state_path, should_stop=should_stop, inspection=inspection,
    )  # fmt: skip
    total_steps = num_burnin + num_draws * thinning
    given = posterior
    watch_compilations(posterior.loss_fn, (posterior.center, posterior.data), kernel)
    check_unchanged(posterior.loss_fn, posterior.full_params(posterior.center), posterior.data)
    posterior, settings = _with_center_losses(posterior, settings, kernel, baseline, total_steps)
    seen = look_for_chains(key, posterior, settings, kernel) if inspection is None or inspection is True else None
    number = _baseline(posterior, settings, baseline)
    rows = Rows(chain_mesh(num_chains, devices), num_chains)
    program = _Program(
        kernel=kernel,
        rows=rows,
        layout=layout or default_layout(),
        capacity=min(LONGEST_CHUNK, max(num_draws, num_burnin)),
        record_center_loss=number is None,
        block=block_of(num_burnin, num_draws),
    )
    wrapped = {name: fn if isinstance(fn, Partial) else Partial(fn) for name, fn in (observables or {}).items()}
    check_traces(wrapped, posterior.full_params(posterior.center), num_chains, num_draws)
    shared = replicate((posterior, metric, wrapped, dict(statistics or {})), rows.mesh)
    streams = jnp.arange(num_chains) if settings.stream is None else settings.stream
    keys = jax.vmap(partial(jax.random.fold_in, key))(streams)
    spread_keys, spread_settings = rows.spread((keys, settings))
    chains = _start(spread_keys, spread_settings, shared, program)
    stages = {"burnin": (num_burnin, 1), "draws": (num_draws, thinning)}
    start = Recorded(chains, {name: [] for name in stages}, dict.fromkeys(stages, 0))
    identity = partial(run_identity, keys, given, kernel, settings, metric, wrapped, stages, baseline, statistics or {})
    shapes = partial(_trace_shapes, chains, spread_settings, shared, program)

    def first_draws(stage: str, count: int) -> Any:
        fresh = _start(spread_keys, spread_settings, shared, program)
        given = shared if stage == "draws" else (*shared[:3], {})
        return _advance_chunk(fresh, spread_settings, given, program, (count, stages[stage][1], stages[stage][0]))[1]

    with open_state(state_path, identity, start, rows, shapes, first_draws) as state:
        recorded = _advance_all(state, spread_settings, shared, program, stages, progress, should_stop)
    acceptance = rows.to_host(_acceptance(recorded.chains, spread_settings, shared, program))
    chains = rows.gather(recorded.chains)
    if seen is not None:
        found = inspections(seen, chains, kernel, metric)
    else:
        found = [inspection if isinstance(inspection, Inspection) else Inspection()] * num_chains
    adapting = bool(np.any(kernel.is_adapting(chains.kernel_state)))
    return collect(
        chains, recorded.pieces["burnin"], recorded.pieces["draws"], acceptance, settings,
        baseline if isinstance(baseline, str) else "number", number, [replace(one, adapting=adapting) for one in found],
    )  # fmt: skip


def _check_metric_fits(metric: Metric | None, posterior: LocalPosterior, settings: ChainSettings) -> None:
    """Refuse a metric of another number of parameters than are sampled."""
    if metric is not None:
        first = jax.tree.map(lambda leaf: leaf[0], settings)
        sampled = jax.eval_shape(lambda setting: _local(posterior, setting).center, first)
        check_metric(metric, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(sampled)))


class _Program(NamedTuple):
    """Everything static about the compiled chunk.

    Attributes:
        kernel, rows, layout, record_center_loss: as elsewhere.
        capacity: draws that a chunk has room for.
        block: of `run`.
        thinning: steps per draw where they are static.
    """

    kernel: Kernel
    rows: Rows
    layout: Layout
    capacity: int
    record_center_loss: bool
    block: int
    thinning: int | None = None

    def for_chunk(self, active: int, thinning: int) -> "_Program":
        """The program for `active` draws of `thinning` steps: on an accelerator both loops have a static length, but for the
        rest of a run that is not a multiple of it."""
        if self.block == 1:
            return self
        return self._replace(block=self.block if active % self.block == 0 else 1, thinning=thinning)

    def chunk(self, longest: int, left: int) -> int:
        """How many of the draws that are left come next, at most about `longest`; whole blocks while there are any."""
        if left < self.block:
            return min(longest, left)
        return min(max(longest, self.block), left) // self.block * self.block


def _with_center_losses(
    posterior: LocalPosterior, settings: ChainSettings, kernel: Kernel, baseline: str | float, steps: int
) -> tuple[LocalPosterior, ChainSettings]:
    """The posterior, and centers of chains that have their own, with all losses at w* where the baseline needs them."""
    first, back = _distinct_centers(settings)
    # One pass costs n forward evaluations, a paired forward pass one per example drawn: take the cheaper.
    drawn = len(back) // len(first) * steps * (kernel.batch_size or posterior.n)
    if not (baseline == "full" or (baseline == "paired" and drawn >= posterior.n)):
        return posterior, settings
    own = settings.center
    if own is None:
        known = center_losses(posterior) if posterior.center_losses is None else posterior.center_losses
        return replace(posterior, center_losses=known), settings
    centers = [jax.tree.map(lambda leaf, one=chain: leaf[one], own.params) for chain in first]
    losses = jnp.stack([center_losses(at_center(posterior, params)) for params in centers])
    return posterior, settings._replace(center=own._replace(losses=losses[back]))


def _distinct_centers(settings: ChainSettings) -> tuple[np.ndarray, np.ndarray]:
    """The first chain of every center, and which of these centers each chain has."""
    numbers = np.zeros(len(settings.step_size), int) if settings.center is None else np.asarray(settings.center.number)
    return np.unique(numbers, return_index=True, return_inverse=True)[1:]


def _baseline(posterior: LocalPosterior, settings: ChainSettings, baseline: str | float) -> np.ndarray | None:
    """The baseline of every chain, `(chain,)`, if it is one number; losses at w* that are not finite have none."""
    first, back = _distinct_centers(settings)
    if not isinstance(baseline, str):
        return np.full(len(back), float(baseline))
    known = posterior.center_losses if settings.center is None else settings.center.losses
    if known is not None:
        losses = [np.asarray(known if settings.center is None else known[chain]) for chain in first]
        for of_one in losses:
            check_losses(of_one)
        if baseline == "full":
            return np.array([of_one.astype(np.float64).mean() for of_one in losses])[back]
    return None


def _local(posterior: LocalPosterior, setting: ChainSettings) -> LocalPosterior:
    local = replace(posterior, nbeta=setting.nbeta, localization=setting.localization)
    if setting.center is not None:
        local = at_center(local, setting.center.params, setting.center.losses)
    return local if setting.restriction is None else restrict(local, setting.restriction)


@partial(jax.jit, static_argnames="program")
def _start(keys: jax.Array, settings: ChainSettings, shared: Any, program: _Program) -> ChainState:
    def start(per_chain: Any, shared: Any) -> ChainState:
        key, setting = per_chain
        return init_chain(key, _local(shared[0], setting), program.kernel, shared[3])

    return map_chains(start, program.rows.mesh, program.layout)((keys, settings), shared)


@partial(jax.jit, static_argnames="program", donate_argnames="chains")
def _advance(
    chains: ChainState, settings: ChainSettings, shared: Any, counts: tuple, program: _Program
) -> tuple[ChainState, Any]:
    def advance(chain: ChainState, setting: ChainSettings, shared: Any) -> Any:
        (posterior, metric, observables, statistics), (active_draws, thinning, total_draws) = shared
        return run(
            chain,
            _local(posterior, setting),
            program.kernel,
            step_size=setting.step_size,
            num_draws=program.capacity,
            active_draws=active_draws,
            block=program.block,
            thinning=thinning if program.thinning is None else program.thinning,
            metric=metric,
            observables=observables,
            statistics=statistics,
            statistics_draws=total_draws,
            record_center_loss=program.record_center_loss,
        )

    return advance_chains(advance, program.rows.mesh, program.layout)(chains, settings, (shared, counts))


@partial(jax.jit, static_argnames="program")
def _acceptance(chains: ChainState, settings: ChainSettings, shared: Any, program: _Program) -> jax.Array:
    def accept(per_chain: Any, shared: Any) -> jax.Array:
        chain, setting = per_chain
        return mala_acceptance(chain, _local(shared[0], setting), program.kernel, setting.step_size, shared[1])

    return map_chains(accept, program.rows.mesh, program.layout)((chains, settings), shared)


def _trace_shapes(chains: ChainState, settings: ChainSettings, shared: Any, program: _Program) -> Any:
    counts = tuple(jnp.asarray(value, jnp.int32) for value in (0, 1, 1))
    return jax.eval_shape(partial(_advance, program=program), chains, settings, shared, counts)[1]


def _advance_chunk(
    chains: ChainState, settings: ChainSettings, shared: Any, program: _Program, counts: tuple[int, int, int]
) -> tuple[ChainState, Any]:
    """Chains, and host copies of what they recorded, without those that fill up; counts are draws now, steps per draw, draws of
    the whole stage."""
    traced = tuple(np.asarray(value, np.int32) for value in counts)  # of numpy: the same in every process
    chains, trace = _advance(chains, settings, shared, traced, program.for_chunk(*counts[:2]))
    return chains, jax.tree.map(lambda leaf: leaf[:, : counts[0]], program.rows.to_host(trace))


def _advance_all(
    state: StateFile,
    settings: ChainSettings,
    shared: Any,
    program: _Program,
    stages: dict[str, tuple[int, int]],
    progress: bool,
    should_stop: Callable[[], bool],
) -> Recorded:
    """Run burn-in and draws chunk by chunk; the host keeps the recorded values, the devices only the chains."""
    recorded = state.recorded

    def steps_done() -> int:
        return sum(recorded.done[name] * thinning for name, (_, thinning) in stages.items())

    total = sum(count * thinning for count, thinning in stages.values())
    rows = program.rows
    with progress_bar("sampling", total, show=progress and rows.keeper) as update:
        update(steps_done())
        longest = max(1, program.capacity // 50)
        for name, (count, thinning) in stages.items():
            if name == "draws" and recorded.done["burnin"] > 0:
                recorded.chains = _end_burnin(recorded.chains, program.kernel)  # the second time nothing changes
            # Burn-in is no draw: its program carries the statistics and does not evaluate them.
            given = shared if name == "draws" else (*shared[:3], {})
            while recorded.done[name] < count:
                active = int(rows.agree(program.chunk(longest, count - recorded.done[name])))
                started = time.monotonic()
                recorded.chains, trace = _advance_chunk(
                    recorded.chains, settings, given, program, (active, thinning, count)
                )
                recorded.pieces[name].append(trace)
                if time.monotonic() - started < CHUNK_SECONDS:
                    longest = min(4 * longest, program.capacity)
                recorded.done[name] += active
                update(steps_done())
                stop = rows.any_of(should_stop())
                state.advanced(finished=stop or steps_done() == total)
                if stop and steps_done() < total:
                    raise Stopped(f"stopped at step {steps_done()} of {total}")
    return recorded


@partial(jax.jit, static_argnames="kernel")
def _end_burnin(chains: ChainState, kernel: Kernel) -> ChainState:
    return jax.vmap(partial(end_burnin, kernel=kernel))(chains)
