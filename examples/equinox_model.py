"""An equinox model from its weights to its LLC, and the LLC of one layer.

python examples/equinox_model.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import slt_jax

x = jax.random.normal(jax.random.key(0), (500, 2))
data = {"x": x, "y": jnp.sin(x[:, 0]) + 0.1 * jax.random.normal(jax.random.key(1), (500,))}
model = eqx.nn.MLP(in_size=2, out_size="scalar", width_size=4, depth=1, activation=jnp.tanh, key=jax.random.key(2))
params, static = eqx.partition(model, eqx.is_inexact_array)


def loss_fn(params, batch):
    """Squared error, one loss per example."""
    return (jax.vmap(eqx.combine(params, static))(batch["x"]) - batch["y"]) ** 2


optimizer = optax.adam(1e-2)
state = optimizer.init(params)
gradient = jax.jit(jax.grad(lambda params: loss_fn(params, data).mean()))
for _ in range(2000):
    updates, state = optimizer.update(gradient(params), state)
    params = optax.apply_updates(params, updates)

posterior = slt_jax.LocalPosterior(loss_fn, data, params, nbeta=slt_jax.default_nbeta(500), localization=10.0)
sampler = slt_jax.Sampler(slt_jax.sgld(None, integrator="leimkuhler_matthews"))
parts = {"all weights": posterior, "first layer": slt_jax.restrict(posterior, slt_jax.by_path("layers/0/*"))}
for name, part in parts.items():
    tuned = sampler.tune(jax.random.key(3), part)
    print(f"{name}: {slt_jax.llc(slt_jax.sample(jax.random.key(4), part, tuned, thinning=5))}")
