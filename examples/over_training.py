"""The LLC over training: one compiled program for all checkpoints, and a picture.

python examples/over_training.py [PICTURE]
"""

import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import slt_jax
from slt_jax.plotting import plot_development


def loss_fn(params, batch):
    """Squared error of a linear network, one loss per example."""
    return jnp.sum((batch["x"] @ params["in"] @ params["out"] - batch["y"]) ** 2, axis=-1)


x = jax.random.normal(jax.random.key(0), (1000, 4))
data = {"x": x, "y": x @ jnp.diag(jnp.array([3.0, 1.0, 0.0, 0.0]))}
params = {name: 0.1 * jax.random.normal(jax.random.key(i), (4, 4)) for i, name in enumerate(("in", "out"))}
step = jax.jit(lambda w: jax.tree.map(lambda v, g: v - 0.01 * g, w, jax.grad(lambda w: loss_fn(w, data).mean())(w)))
losses, estimates = [], {}
for number in range(1, 801):
    params = step(params)
    losses.append(float(loss_fn(params, data).mean()))
    if number in (50, 100, 200, 400, 800):
        estimates[number] = slt_jax.estimate_llc(jax.random.key(9), loss_fn, params, data, num_draws=500)
        print(f"step {number}: loss {losses[-1]:.4f}, {estimates[number]}")
means, errors = [e.mean for e in estimates.values()], [e.std_error for e in estimates.values()]
figure, ax = plt.subplots(layout="constrained")
plot_development(ax, range(1, 801), losses, list(estimates), means, errors)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "over_training.png")
