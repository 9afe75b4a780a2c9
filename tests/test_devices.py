"""Chains sharded over devices draw what they draw on one, however many there are, and a run begun on some devices continues on
others."""

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


UNEVEN = """
import sys
import jax, jax.numpy as jnp, numpy as np
import slt_jax
from slt_jax.progress import Stopped
from slt_jax.sampling import driver

def loss_fn(params, batch):
    return 0.5 * (batch["x"] @ params["w"] - batch["y"]) ** 2

x = jax.random.normal(jax.random.key(3), (200, 4))
posterior = slt_jax.LocalPosterior(loss_fn, {"x": x, "y": x @ jnp.ones(4)}, {"w": jnp.ones(4)}, 50.0, 1.0)
used, start = [], driver._start

def watched(*arguments):
    chains = start(*arguments)
    used.append({shard.device for shard in chains.kernel_state.params["w"].addressable_shards})
    return chains

driver._start = watched
moments = slt_jax.example_moments(loss_fn, {"x": x[:5], "y": jnp.ones(5)}, posterior.center)
stop = sys.argv[4] == "stop"
try:
    samples = slt_jax.sample(
        jax.random.key(0), posterior, slt_jax.sgld(8, preconditioner=slt_jax.rmsprop()), step_size=1e-3, num_chains=13,
        num_burnin=5, num_draws=30, statistics={"losses": moments}, state_path=sys.argv[2], should_stop=lambda: stop,
    )
except Stopped:
    sys.exit()
assert jax.device_count() == int(sys.argv[3])
assert all(devices == set(jax.devices()) for devices in used) and used
assert all(len(leaf) == 13 for leaf in jax.tree.leaves((samples.chains, samples.statistics)))
estimate = slt_jax.llc(samples)
np.savez(
    sys.argv[4], loss=samples.loss, burnin=samples.burnin_excess, w=samples.chains.kernel_state.params["w"],
    acceptance=samples.acceptance, heating=samples.inspection.heating, llc=estimate.per_chain,
    moments=np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(samples.statistics)]),
)
"""


def run_thirteen(num_devices, state, out):
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    command = [sys.executable, "-c", UNEVEN, "", str(state), str(num_devices), str(out)]
    done = subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_thirteen_chains_use_all_of_eight_devices_and_a_stopped_run_continues_on_one(tmp_path):
    for num_devices in (1, 8):
        run_thirteen(num_devices, tmp_path / f"state_{num_devices}.npz", tmp_path / f"{num_devices}.npz")
    run_thirteen(8, tmp_path / "stopped.npz", "stop")
    run_thirteen(1, tmp_path / "stopped.npz", tmp_path / "continued.npz")
    one, eight, continued = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("1", "8", "continued"))
    assert one["loss"].shape == (13, 30)
    for name, values in one.items():
        np.testing.assert_allclose(eight[name], values, rtol=1e-5, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(continued[name], values, rtol=1e-5, atol=1e-7, err_msg=name)
