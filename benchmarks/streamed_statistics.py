"""What streamed statistics cost: megabytes for a million tokens, and time beside plain sampling.

    python benchmarks/streamed_statistics.py memory
    python benchmarks/streamed_statistics.py time

Memory: the peak of a process that streams the covariances of the loss with a million tokens over 800 draws, less the peak of
one that draws the same chain without statistics. The trace would be 3.2 GB, the covariance matrix 4 TB. Time: a regression
transformer at batch 256 with 4,096 examples evaluated once every 24 steps, and the same chain without, in turn.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

import slt_jax
from slt_jax.models.regression_transformer import RegressionTransformer, squared_error_loss, tokens
from slt_jax.sampling.statistics import cross_moments, example_moments

EXAMPLES, TOKENS, WIDTH = 15_625, 64, 4  # a million tokens
DRAWS = 800


def token_losses(w: jax.Array, batch: jax.Array) -> jax.Array:
    """A loss per token, shape (batch, TOKENS)."""
    return 0.5 * (batch @ w.reshape(WIDTH, TOKENS) - 1.0) ** 2


def example_mean_losses(w: jax.Array, batch: jax.Array) -> jax.Array:
    return token_losses(w, batch).mean(axis=1)


def stream(num_blocks: int, chains: int, moments: str) -> None:
    """One run, whose peak in MB is printed; no statistics for `moments` = "none"."""
    data, w = jax.random.normal(jax.random.key(0), (EXAMPLES, WIDTH)), jnp.ones(WIDTH * TOKENS)
    posterior = slt_jax.LocalPosterior(example_mean_losses, data, w, 100.0, 1.0)
    examples = example_moments(token_losses, data, w, 1024, num_blocks=num_blocks)
    given = {
        "none": {},
        "cross": {"m": cross_moments(None, examples.y, num_blocks=num_blocks)},
        "examples": {"m": examples},
    }
    samples = slt_jax.sample(
        jax.random.key(0), posterior, slt_jax.sgld(256), step_size=1e-4, num_chains=chains, num_draws=DRAWS,
        statistics=given[moments],
    )  # fmt: skip
    assert samples.loss.shape == (chains, DRAWS)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 * 1.048576)


def memory() -> None:
    def peak(*arguments: object) -> float:
        command = [sys.executable, __file__, "stream", *map(str, arguments)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    print(f"{EXAMPLES * TOKENS:,} tokens, {DRAWS} draws; MB above the same chain without statistics")
    for moments in ("cross", "examples"):
        for chains, num_blocks in ((1, 8), (1, 16), (2, 4)):
            extra = peak(num_blocks, chains, moments) - peak(num_blocks, chains, "none")
            state = 3 * 4 * EXAMPLES * TOKENS * num_blocks * chains / 1e6
            print(
                f"{moments:9} {chains} chains x {num_blocks:2} blocks: {extra:6.0f} MB, of which the state {state:.0f} MB"
            )


def timing(rounds: int) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    network = RegressionTransformer()
    data = {"x": jax.random.normal(keys[0], (4096, 8, 4)), "y": jax.random.normal(keys[1], (4096, 8))}
    params = network.init(keys[2], tokens(data))["params"]
    loss_fn = squared_error_loss(network)
    posterior = slt_jax.LocalPosterior(loss_fn, data, params, nbeta=50.0, localization=1.0, chunk_size=64)
    moments = cross_moments(None, example_moments(loss_fn, data, params, 64).y)

    def seconds(given: dict, draws: int) -> float:
        started = time.perf_counter()
        slt_jax.sample(
            jax.random.key(1), posterior, slt_jax.sgld(256), step_size=1e-6, num_chains=1, num_draws=draws, thinning=24,
            statistics=given,
        )  # fmt: skip
        return time.perf_counter() - started

    cases = {"plain": {}, "statistics": {"m": moments}}
    for given in cases.values():
        seconds(given, 1)  # compiles
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, given in cases.items():
            # The difference of two lengths leaves out what a call costs whatever its length.
            times[name].append((seconds(given, 4) - seconds(given, 1)) / 3)
    ratio = statistics.median(a / b for a, b in zip(times["statistics"], times["plain"], strict=True))
    print("regression transformer, batch 256, 4,096 example losses streamed every 24 steps; medians")
    for name, values in times.items():
        print(f"{name:11} {1e3 * statistics.median(values):8.1f} ms per draw of 24 steps")
    print(f"ratio {ratio:.3f}; by counting passes 1 + 4096/(24·256·3) = {1 + 4096 / (24 * 256 * 3):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "time", "stream"])
    parser.add_argument("setting", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.what == "stream":
        blocks, chains, moments = options.setting
        stream(int(blocks), int(chains), moments)
    elif options.what == "memory":
        memory()
    else:
        timing(options.rounds)


if __name__ == "__main__":
    main()
