"""What a training step and a checkpoint of `lrt-stages` cost beside bare gradients, and how often its programs compile.

    python benchmarks/lrt_stages.py                                 configs cpu and compressed, some minutes
    python benchmarks/lrt_stages.py --configs compressed --checkpoints 2

A training step is timed beside the bare gradient of the same loss on sequences drawn in the same way; so is an LLC
estimate, everything included (baseline, burn-in, metric, diagnostics), whose bare gradients are `chains x steps` in a
compiled loop that does nothing else, with the same layout of chains over cores. Values do not change the time, so
checkpoints are the untrained model with noise added.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from slt_lab.cores import usable_cores

CORES = usable_cores()
jax.config.update("jax_num_cpu_devices", CORES)  # every core a device, as `python -m experiments` sets up

from configs import lrt_stages  # noqa: E402
from slt_jax.estimators.llc import llc  # noqa: E402
from slt_jax.models.regression_transformer import RegressionTransformer  # noqa: E402
from slt_jax.posterior import LocalPosterior  # noqa: E402
from slt_jax.sampling import driver  # noqa: E402
from slt_jax.sampling.layout import Rows, chain_mesh, default_layout, map_chains  # noqa: E402
from slt_jax.training.loop import init_train_state, train_steps  # noqa: E402
from slt_lab.measures.llc import draw  # noqa: E402
from slt_lab.subjects.regression_transformer import RegressionSubject, regression_subject, sequences  # noqa: E402

MODEL = RegressionTransformer()


def subject_of(batch_size: int) -> RegressionSubject:
    """What `lrt-stages` trains; values of the schedule do not change the time."""
    return regression_subject(
        0, MODEL, num_steps=10_000, schedule_steps=10_000, peak_learning_rate=1e-3, batch_size=batch_size
    )


LOSS = subject_of(1).loss_fn


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of `run`, its result waited for."""
    started = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - started


@partial(jax.jit, static_argnames="batch_size")
def bare_on_fresh_batches(key: jax.Array, params: Any, num_steps: jax.Array, *, batch_size: int) -> Any:
    """`num_steps` gradients on fresh batches, each at a parameter that depends on the last, or only one would be made."""

    def step(index: jax.Array, params: Any) -> Any:
        batch = sequences(MODEL, jax.random.fold_in(key, index), batch_size)
        gradient = jax.grad(lambda w: jnp.mean(LOSS(w, batch)))(params)
        return jax.tree.map(lambda w, g: w - 1e-6 * g, params, gradient)

    return jax.lax.fori_loop(0, num_steps, step, params)


def training(batch_size: int, steps: int, rounds: int) -> None:
    """Prints the training step and the bare gradient, in turn."""
    subject, key = subject_of(batch_size), jax.random.key(1)
    params, optimizer = subject.init(), subject.optimizer

    def train(count: int) -> Any:
        state = init_train_state(jax.tree.map(jnp.array, params), optimizer)  # a copy: the loop donates its state
        return train_steps(
            key, state, None, jnp.int32(count), loss_fn=LOSS, batch_fn=subject.batches, update=optimizer.update
        )

    def bare(count: int) -> Any:
        return bare_on_fresh_batches(key, params, jnp.int32(count), batch_size=batch_size)

    train(1), bare(1)  # compile
    times = [(seconds(lambda: train(steps)) / steps, seconds(lambda: bare(steps)) / steps) for _ in range(rounds)]
    ours, least = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(
        f"training step, batch {batch_size}: {ours:.2f} ms; bare gradient {least:.2f} ms; ratio {ratio:.2f}", flush=True
    )


@partial(jax.jit, static_argnames=("batch_size", "num_chains"))
def bare_chains(posterior: LocalPosterior, steps: jax.Array, *, batch_size: int, num_chains: int) -> Any:
    """`steps` gradients for each chain, on contiguous slices of the data."""

    def chain(start: jax.Array, posterior: LocalPosterior) -> Any:
        def step(index: jax.Array, params: Any) -> Any:
            begin = (start + index * batch_size) % (posterior.n - batch_size + 1)
            batch = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, begin, batch_size), posterior.data)
            gradient = jax.grad(lambda w: jnp.mean(LOSS(w, batch)))(params)
            return jax.tree.map(lambda w, g: w - 1e-6 * g, params, gradient)

        return jax.lax.fori_loop(0, steps, step, posterior.center)

    rows = Rows(chain_mesh(num_chains), num_chains)
    return map_chains(chain, rows.mesh, default_layout())(jnp.arange(rows.total), posterior)


def checkpoints(name: str, sampling: lrt_stages.Sampling, count: int) -> None:
    """Prints the time of `count` estimates after a first one, beside that of their gradients, and the compilations."""
    subject, key = subject_of(1), jax.random.key(2)
    data, start = subject.posterior_data(sampling.num_examples), subject.init()
    steps = sampling.num_burnin + sampling.num_draws

    def center(index: int) -> Any:
        return jax.tree.map(lambda leaf: leaf + 0.01 * index, start)

    def estimate(index: int) -> float:
        return llc(draw(key, subject, data, center(index), sampling)).mean

    def bare(index: int, steps: int) -> Any:
        posterior = LocalPosterior(LOSS, data, center(index), sampling.nbeta, sampling.localization)
        return bare_chains(posterior, jnp.int32(steps), batch_size=sampling.batch_size, num_chains=sampling.num_chains)

    bare(0, 1)
    first = seconds(lambda: estimate(0))
    times = [
        (seconds(lambda i=i: estimate(i)), seconds(lambda i=i: bare(i, steps)))  # type: ignore[misc]
        for i in range(1, count + 1)
    ]
    ours, least = (statistics.median(column) for column in zip(*times, strict=True))
    programs = [program._cache_size() for program in (driver._start, driver._advance)]  # type: ignore[attr-defined]
    print(
        f"LLC of a checkpoint, config {name} ({sampling.method}, {sampling.num_chains} chains x {steps} steps, batch "
        f"{sampling.batch_size}): {ours:.1f} s; its {sampling.num_chains * steps:,} bare gradients {least:.1f} s; ratio "
        f"{statistics.median(a / b for a, b in times):.2f}; the first, compilation included, {first:.1f} s; "
        f"{count + 1} checkpoints compiled `start` {programs[0]} and `advance` {programs[1]} time(s)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["compressed", "cpu"], choices=[*lrt_stages.CONFIGS])
    parser.add_argument("--checkpoints", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="training steps of a measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}")
    configs = {name: lrt_stages.CONFIGS[name]() for name in options.configs}
    for batch_size in sorted({config.training.batch_size for config in configs.values()}):
        training(batch_size, options.steps, options.rounds)
    for name, config in configs.items():
        jax.clear_caches()
        checkpoints(name, config.sampling, options.checkpoints)


if __name__ == "__main__":
    main()
