"""Milliseconds to draw one step's normal noise for the two models of throughput.py, in a compiled loop.

python benchmarks/noise.py                  XLA's CPU backend may use every core
taskset -c 0 python benchmarks/noise.py     one core only
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from slt_jax.sampling.noise import standard_normal_vector

MODELS = {"linear network": 1_024, "regression transformer": 51_717}


def milliseconds(draw: Callable[[jax.Array], jax.Array], size: int) -> float:
    """Median time of a draw over seven loops; the first, which compiles, is left out."""
    steps = 20_000_000 // size

    @jax.jit
    def loop(key: jax.Array) -> jax.Array:
        def step(index: jax.Array, total: jax.Array) -> jax.Array:
            return total + jax.lax.optimization_barrier(draw(jax.random.fold_in(key, index)))

        return jax.lax.fori_loop(0, steps, step, jnp.zeros(size))

    times = []
    for _ in range(8):
        started = time.perf_counter()
        loop(jax.random.key(0)).block_until_ready()
        times.append(1e3 * (time.perf_counter() - started) / steps)
    return statistics.median(times[1:])


if __name__ == "__main__":
    for model, size in MODELS.items():
        draws = {
            "all at once": lambda key, size=size: jax.random.normal(key, (size,)),
            "all at once, one number more": lambda key, size=size: jax.random.normal(key, (size + 1,))[:size],
            "in even blocks (`standard_normal_vector`)": lambda key, size=size: standard_normal_vector(
                key, jnp.zeros(size)
            ),
        }
        print(f"ms per draw of {size:,} normal numbers, the parameters of the {model}")
        for name, draw in draws.items():
            print(f"{milliseconds(draw, size):10.4f}   {name}")
