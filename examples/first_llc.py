"""The LLC of a model whose learning coefficient is known exactly.

python examples/first_llc.py
"""

import jax
import jax.numpy as jnp

import slt_jax


def loss_fn(params, batch):
    """Squared error of a two-layer linear network, one loss per example."""
    return jnp.sum((batch["x"] @ params["in"] @ params["out"] - batch["y"]) ** 2, axis=-1)


keys = jax.random.split(jax.random.key(0), 3)
x = jax.random.normal(keys[0], (10_000, 6))
params = {"in": jax.random.normal(keys[1], (6, 3)), "out": jax.random.normal(keys[2], (3, 4))}
data = {"x": x, "y": x @ params["in"] @ params["out"]}

estimate = slt_jax.estimate_llc(jax.random.key(1), loss_fn, params, data)
exact = slt_jax.theory.reduced_rank_regression(input_dim=6, hidden_dim=3, output_dim=4, rank=3)
print("estimate:", estimate)
print("exact:   ", float(exact.learning_coefficient), "of at most", 30 / 2)
