"""What a preconditioner that follows the chain does to the variances of a quadratic, beside one frozen after burn-in (1 is right).

python benchmarks/adapting.py
"""

import jax
import jax.numpy as jnp
import numpy as np

import slt_jax

H = jnp.array([10.0, 3.0, 1.0, 0.3, 0.1])


def loss(w: jax.Array, batch: jax.Array) -> jax.Array:
    """Exact LLC 2.431 at nβ = 100, γ = 1."""
    return jnp.broadcast_to(0.5 * jnp.sum(H * w**2), batch.shape)


def main() -> None:
    """Print variances over their exact values, stiffest direction first."""
    posterior = slt_jax.LocalPosterior(loss, jnp.zeros(2), jnp.zeros(5), 100.0, 1.0)
    for step_size in (3e-5, 1e-4, 3e-4):
        for frozen in (False, True):
            samples = slt_jax.sample(
                jax.random.key(0), posterior, slt_jax.sgld(None, slt_jax.rmsprop()), step_size=step_size, num_chains=128,
                num_draws=800, num_burnin=4000 if frozen else 0, thinning=20, observables={"w": lambda w: w},
                layout="vmap", inspection=False,
            )  # fmt: skip
            late = samples.observables["w"][:, 400:].astype(np.float64)
            ratios = (late**2).mean(axis=(0, 1)) * np.asarray(100 * H + 1)
            print(f"step {step_size:g}, {'frozen  ' if frozen else 'adapting'}: {np.round(ratios, 2)}")


if __name__ == "__main__":
    main()
