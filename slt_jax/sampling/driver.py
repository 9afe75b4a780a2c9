"""`sample`: the host-side driver over the pure chains of `slt_jax.sampling.chains`.

It cuts a long run into chunks of one compiled program, shows progress, saves state so that a killed run continues to
the same bits, and spreads chains over devices.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.tree_util import Partial

from slt_jax.posterior import LocalPosterior, Restriction, check_posterior, example_losses, restrict
from slt_jax.progress import progress_bar
from slt_jax.sampling.chains import ChainState, init_chain, run
from slt_jax.sampling.diagnostics import mala_acceptance
from slt_jax.sampling.kernels import Kernel
from slt_jax.sampling.layout import Layout, chain_mesh, default_layout, map_chains, replicate
from slt_jax.sampling.preconditioners import Metric
from slt_jax.sampling.samples import ChainSettings, Samples, collect, join, select_chains
from slt_jax.sampling.statistics import Statistic, check_traces
from slt_jax.sampling.storage import fingerprint, load_state, save_state
from slt_jax.typing import Observable, PRNGKey, Scalar

__all__ = ["sample", "sample_chains", "sample_restrictions"]

LONGEST_CHUNK = 1000  # draws recorded on the devices before they go to the host
CHUNK_SECONDS = 0.5  # chunks grow until one takes this long: rare enough to cost nothing, often enough to be watched


def sample(
    key: PRNGKey,
    posterior: LocalPosterior,
    kernel: Kernel,
    *,
    step_size: float | jax.Array,
    num_chains: int = 4,
    num_draws: int = 1000,
    num_burnin: int = 0,
    thinning: int = 1,
    metric: Metric | None = None,
    observables: Mapping[str, Observable] | None = None,
    statistics: Mapping[str, Statistic] | None = None,
    baseline: str | float = "paired",
    progress: bool = False,
    state_path: Path | str | None = None,
    layout: Layout | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Samples:
    """Draw from the local posterior.

    Args:
        key: typed PRNG key; chain i uses `fold_in(key, i)`, its step t `fold_in(·, t)`.
        posterior: what to sample.
        kernel: `sgld(...)` or `sgnht(...)`.
        step_size: ε for SGLD, the integrator's step for SGNHT; see `calibrate`.
        num_chains: number of chains, all started at w*.
        num_draws: draws kept per chain, after burn-in.
        num_burnin: steps made before the first draw; their losses are kept apart.
        thinning: steps per draw; the value after the last of them is recorded.
        metric: constant preconditioner (`curvature_metric`).
        observables: name -> function of the full parameters, recorded at each draw.
        statistics: name -> `cross_moments(...)` or `example_moments(...)`, updated at each draw and carried with the chain:
            what replaces the trace of an observable that is too large to record.
        baseline: "paired" (loss at w* on the same minibatch), "full" (one pass over the data), or a number.
        progress: show a bar with rate and remaining time on stderr.
        state_path: file in which to keep the state; an existing one of the same run is continued to the same bits.
        layout: "vmap" or "map"; default by backend.
        devices: devices over which chains are sharded; default all.

    Raises:
        ValueError: on settings out of range or a posterior that cannot be sampled; one sentence says which.
    """
    _check_counts(num_chains=num_chains, num_draws=num_draws, thinning=thinning)
    settings = _uniform_settings(num_chains, step_size, posterior)
    return sample_chains(
        key, posterior, kernel, settings, num_draws=num_draws, num_burnin=num_burnin, thinning=thinning, metric=metric,
        observables=observables, statistics=statistics, baseline=baseline, progress=progress, state_path=state_path, layout=layout,
        devices=devices,
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
    """
    count = jax.tree.leaves(restrictions)[0].shape[0]
    total = count * num_chains
    settings = _uniform_settings(total, step_size, posterior)._replace(
        restriction=jax.tree.map(lambda leaf: jnp.repeat(leaf, num_chains, axis=0), restrictions)
    )
    samples = sample_chains(key, posterior, kernel, settings, **options)
    return [select_chains(samples, slice(i * num_chains, (i + 1) * num_chains)) for i in range(count)]


def _uniform_settings(count: int, step_size: Scalar, posterior: LocalPosterior) -> ChainSettings:
    """The same settings for `count` chains."""

    def spread(value: Scalar) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(value, jnp.float32), (count,))

    return ChainSettings(spread(step_size), spread(posterior.nbeta), spread(posterior.localization))


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
    layout: Layout | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Samples:
    """As `sample`, with the settings of every chain given apart: the one road under sweeps and refined LLCs."""
    _check_counts(num_draws=num_draws, thinning=thinning)
    if num_burnin < 0:
        raise ValueError(f"num_burnin = {num_burnin}; it must not be negative")
    steps = np.asarray(settings.step_size)
    if not (np.all(np.isfinite(steps)) and np.all(steps > 0)):
        raise ValueError(f"step_size = {steps.min() if steps.size > 1 else steps[0]}; it must be finite and positive")
    check_posterior(posterior)
    num_chains = len(steps)
    total_steps = num_burnin + num_draws * thinning
    posterior, number = _with_baseline(posterior, kernel, baseline, num_chains * total_steps)
    program = _Program(
        kernel=kernel,
        mesh=chain_mesh(num_chains, devices),
        layout=layout or default_layout(),
        capacity=min(LONGEST_CHUNK, max(num_draws, num_burnin)),
        record_center_loss=number is None,
    )
    wrapped = {name: fn if isinstance(fn, Partial) else Partial(fn) for name, fn in (observables or {}).items()}
    check_traces(wrapped, posterior.full_params(posterior.center), num_chains, num_draws)
    shared = replicate((posterior, metric, wrapped, dict(statistics or {})), program.mesh)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(num_chains))
    chains = _start(keys, settings, shared, program)
    stages = {"burnin": (num_burnin, 1), "draws": (num_draws, thinning)}
    identity = None
    if state_path is not None:
        identity = fingerprint(keys, settings, posterior.center, posterior.data, metric, stages, kernel.name)
        moments = {name: (one.num_blocks, jax.tree.leaves(one)) for name, one in (statistics or {}).items()}
        identity = fingerprint(identity, moments) if moments else identity
    chains, burnin, draws = _advance_all(chains, settings, shared, program, stages, progress, state_path, identity)
    acceptance = _acceptance(chains, settings, shared, program)
    return collect(
        chains, burnin, draws, acceptance, settings, baseline if isinstance(baseline, str) else "number", number
    )


class _Program(NamedTuple):
    """Everything static about the compiled chunk."""

    kernel: Kernel
    mesh: Mesh
    layout: Layout
    capacity: int
    record_center_loss: bool


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} = {value}; it must be at least 1")


def _with_baseline(
    posterior: LocalPosterior, kernel: Kernel, baseline: str | float, chain_steps: int
) -> tuple[LocalPosterior, float | None]:
    """The posterior with what the baseline needs, and the baseline's value if it is one number."""
    if isinstance(baseline, str) and baseline not in ("paired", "full"):
        raise ValueError(f"baseline = '{baseline}'; it must be 'paired', 'full' or a number")
    if not isinstance(baseline, str):
        return posterior, float(baseline)
    if baseline == "full":
        return posterior, float(np.asarray(_center_losses(posterior), np.float64).mean())
    # One pass costs n forward evaluations, a paired forward pass one per example drawn: take the cheaper.
    drawn = chain_steps * (kernel.batch_size or posterior.n)
    if drawn >= posterior.n:
        posterior = replace(posterior, center_losses=_center_losses(posterior))
    return posterior, None


@jax.jit
def _center_losses(posterior: LocalPosterior) -> jax.Array:
    return example_losses(posterior, posterior.center)


def _local(posterior: LocalPosterior, setting: ChainSettings) -> LocalPosterior:
    local = replace(posterior, nbeta=setting.nbeta, localization=setting.localization)
    return local if setting.restriction is None else restrict(local, setting.restriction)


@partial(jax.jit, static_argnames="program")
def _start(keys: jax.Array, settings: ChainSettings, shared: Any, program: _Program) -> ChainState:
    def start(per_chain: Any, shared: Any) -> ChainState:
        key, setting = per_chain
        return init_chain(key, _local(shared[0], setting), program.kernel, shared[3])

    return map_chains(start, program.mesh, program.layout)((keys, settings), shared)


@partial(jax.jit, static_argnames="program", donate_argnames="chains")
def _advance(
    chains: ChainState, settings: ChainSettings, shared: Any, counts: tuple, program: _Program
) -> tuple[ChainState, Any]:
    def advance(per_chain: Any, shared: Any) -> Any:
        chain, setting = per_chain
        (posterior, metric, observables, statistics), (active_draws, thinning, total_draws) = shared
        return run(
            chain,
            _local(posterior, setting),
            program.kernel,
            step_size=setting.step_size,
            num_draws=program.capacity,
            active_draws=active_draws,
            thinning=thinning,
            metric=metric,
            observables=observables,
            statistics=statistics,
            statistics_draws=total_draws,
            record_center_loss=program.record_center_loss,
        )

    return map_chains(advance, program.mesh, program.layout)((chains, settings), (shared, counts))


@partial(jax.jit, static_argnames="program")
def _acceptance(chains: ChainState, settings: ChainSettings, shared: Any, program: _Program) -> jax.Array:
    def accept(per_chain: Any, shared: Any) -> jax.Array:
        chain, setting = per_chain
        return mala_acceptance(chain, _local(shared[0], setting), program.kernel, setting.step_size, shared[1])

    return map_chains(accept, program.mesh, program.layout)((chains, settings), shared)


def _advance_all(
    chains: ChainState,
    settings: ChainSettings,
    shared: Any,
    program: _Program,
    stages: dict[str, tuple[int, int]],
    progress: bool,
    state_path: Path | str | None,
    identity: str | None,
) -> tuple[ChainState, list, list]:
    """Run burn-in and draws chunk by chunk; the host keeps the recorded values, the devices only the chains."""
    pieces: dict[str, list] = {"burnin": [], "draws": []}
    done = dict.fromkeys(stages, 0)
    if state_path is not None and Path(state_path).exists():
        chains, pieces, done = _restore(Path(state_path), chains, settings, shared, program, identity)
    total = sum(count * thinning for count, thinning in stages.values())
    with progress_bar("sampling", total, show=progress) as update:
        update(sum(done[name] * stages[name][1] for name in stages))
        longest = max(1, program.capacity // 50)
        for name, (count, thinning) in stages.items():
            # Burn-in is no draw: its program carries the statistics and does not evaluate them.
            given = shared if name == "draws" else (*shared[:3], {})
            while done[name] < count:
                active = min(longest, count - done[name])
                counts = tuple(jnp.asarray(value, jnp.int32) for value in (active, thinning, count))
                started = time.monotonic()
                chains, trace = _advance(chains, settings, given, counts, program)
                pieces[name].append(jax.tree.map(lambda leaf, active=active: np.asarray(leaf)[:, :active], trace))
                if time.monotonic() - started < CHUNK_SECONDS:
                    longest = min(4 * longest, program.capacity)
                done[name] += active
                update(sum(done[name] * stages[name][1] for name in stages))
                if state_path is not None:
                    save_state(Path(state_path), _stored(chains, pieces, done), identity or "")
    return chains, pieces["burnin"], pieces["draws"]


def _stored(chains: ChainState, pieces: dict[str, list], done: dict[str, int]) -> Any:
    joined = {name: join(parts) for name, parts in pieces.items() if parts}
    return {"chains": chains, "done": done, "traces": joined}


def _restore(
    path: Path,
    chains: ChainState,
    settings: ChainSettings,
    shared: Any,
    program: _Program,
    identity: str | None,
) -> tuple[ChainState, dict[str, list], dict[str, int]]:
    counts = tuple(jnp.asarray(value, jnp.int32) for value in (0, 1, 1))
    trace = jax.eval_shape(partial(_advance, program=program), chains, settings, shared, counts)[1]
    # Which stages have a trace is part of the stored structure; try the later state first.
    error: ValueError | None = None
    for names in (("burnin", "draws"), ("draws",), ("burnin",)):
        like = {"chains": chains, "done": {"burnin": 0, "draws": 0}, "traces": dict.fromkeys(names, trace)}
        try:
            stored = load_state(path, like, identity or "")
        except ValueError as failure:
            error = failure
            continue
        done = {name: int(value) for name, value in stored["done"].items()}
        if all((done[name] > 0) == (name in names) for name in done):
            pieces = {name: [stored["traces"][name]] if name in names else [] for name in done}
            return jax.tree.map(jnp.asarray, stored["chains"]), pieces, done
    raise error or ValueError(f"sampling state {path} cannot be read; delete it to start again")
