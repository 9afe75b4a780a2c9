"""Peak memory of `sample` does not grow with the number of draws, but for the recorded scalars."""

import subprocess
import sys

SCRIPT = """
import resource, sys
import jax, jax.numpy as jnp
import slt_jax

def quadratic(params, batch):
    return jnp.broadcast_to(0.5 * jnp.sum(params**2), batch.shape)

posterior = slt_jax.LocalPosterior(quadratic, jnp.zeros(1), jnp.zeros(10_000), 100.0, 1.0)
samples = slt_jax.sample(
    jax.random.key(0), posterior, slt_jax.sgld(None), step_size=1e-3, num_chains=1, num_draws=int(sys.argv[1])
)
assert samples.loss.shape == (1, int(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_mebibytes(num_draws):
    command = [sys.executable, "-c", SCRIPT, str(num_draws)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_peak_memory_is_that_of_the_chains_and_the_recorded_scalars():
    # 100,000 draws of 10,000 parameters would be 3.7 GiB; their recorded scalars are 100,000 x 3 x 8 bytes = 2.3 MiB.
    assert peak_mebibytes(100_000) - peak_mebibytes(1_000) < 50
