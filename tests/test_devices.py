"""Chains sharded over devices draw what they draw on one, and a run begun on two devices continues on one."""

import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np
import slt_jax
from slt_jax.sampling.samples import select_chains

def loss_fn(params, batch):
    return 0.5 * (batch["x"] @ params - batch["y"]) ** 2

x = jax.random.normal(jax.random.key(3), (200, 4))
posterior = slt_jax.LocalPosterior(loss_fn, {"x": x, "y": x @ jnp.ones(4)}, jnp.ones(4), 50.0, 1.0)
samples = slt_jax.sample(
    jax.random.key(0), posterior, slt_jax.sgld(8), step_size=1e-3, num_chains=4, num_draws=int(sys.argv[1]),
    state_path=sys.argv[2],
)
assert jax.device_count() == int(sys.argv[3])
assert len(samples.chains.key.sharding.device_set) == int(sys.argv[3])
part = select_chains(samples, slice(1, 3))
assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(part.chains))  # sliced without a collective
np.testing.assert_array_equal(part.chains.kernel_state.params, samples.chains.kernel_state.params[1:3])
np.save(sys.argv[4], samples.loss)
"""


def draw(num_devices, state, out, num_draws=100):
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    command = [sys.executable, "-c", SCRIPT, str(num_draws), str(state), str(num_devices), str(out)]
    done = subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    return np.load(out)


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    return folder, {n: draw(n, folder / f"state_{n}.npz", folder / f"loss_{n}.npy") for n in (1, 2)}


def test_two_devices_draw_what_one_draws(traces):

    np.testing.assert_allclose(traces[1][1], traces[1][2], rtol=1e-5)


def test_state_saved_on_two_devices_is_read_on_one(traces):

    folder, losses = traces
    again = draw(1, folder / "state_2.npz", folder / "again.npy")
    np.testing.assert_array_equal(again, losses[2])
