"""Milliseconds to draw the normal noise of one step of the regression transformer (51,717 numbers), in a compiled loop.

python benchmarks/noise.py                  XLA's CPU backend may use every core
taskset -c 0 python benchmarks/noise.py     one core only: several times faster
"""

import time

import jax
import jax.numpy as jnp

SIZE, STEPS = 51_717, 300


@jax.jit
def draw(key: jax.Array) -> jax.Array:
    def step(index: jax.Array, total: jax.Array) -> jax.Array:
        return total + jax.random.normal(jax.random.fold_in(key, index), (SIZE,))

    return jax.lax.fori_loop(0, STEPS, step, jnp.zeros(SIZE))


for _ in range(2):  # the first call compiles
    started = time.perf_counter()
    draw(jax.random.key(0)).block_until_ready()
    elapsed = time.perf_counter() - started
print(f"{1e3 * elapsed / STEPS:.3f} ms per draw of {SIZE:,} normal numbers")
