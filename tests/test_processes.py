"""Chains over the devices of two processes draw the bits that one process draws on as many devices, stopped or not."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np

process, processes, port, state, out, stop = sys.argv[1:]
if processes != "1":
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", int(processes), int(process))
assert (jax.device_count(), jax.local_device_count()) == (4, 4 // int(processes))

import slt_jax
from slt_jax.progress import Stopped

def loss_fn(params, batch):
    return 0.5 * (batch["x"] @ params["w"] - batch["y"]) ** 2

x = jax.random.normal(jax.random.key(3), (200, 4))
posterior = slt_jax.LocalPosterior(loss_fn, {"x": x, "y": x @ jnp.ones(4)}, {"w": jnp.ones(4)}, 50.0, 1.0)
moments = slt_jax.example_moments(loss_fn, {"x": x[:5], "y": jnp.ones(5)}, posterior.center)
try:
    samples = slt_jax.sample(
        jax.random.key(0), posterior, slt_jax.sgld(8), step_size=1e-3, num_chains=6, num_burnin=5, num_draws=40, thinning=2,
        statistics={"losses": moments}, observables={"w": lambda params: params["w"]}, state_path=state,
        should_stop=lambda: stop == process,
    )
except Stopped:
    sys.exit(75)
except ValueError as error:
    sys.exit(f"refused: {error}")
np.savez(
    out, loss=samples.loss, burnin=samples.burnin_excess, w=samples.observables["w"], acceptance=samples.acceptance,
    last=samples.chains.kernel_state.params["w"], keys=jax.random.key_data(samples.chains.key),
    gain=samples.inspection.gain, moments=np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(samples.statistics)]),
)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def run(folder, state, processes, stop="no"):
    """What every process recorded; exit codes and messages where they did not end well."""
    flags = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // processes}"}
    port, outs = free_port(), [folder / f"{state}-{processes}-{number}.npz" for number in range(processes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(number), str(processes), str(port), str(folder / state), str(out), stop],
            env=flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number, out in enumerate(outs)
    ]  # fmt: skip
    ended = [process.communicate(timeout=300) for process in started]
    codes = [process.returncode for process in started]
    if any(codes):
        return codes, [err for _, err in ended]
    return [dict(np.load(out)) for out in outs]


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.slow
def test_two_processes_draw_the_bits_of_one(tmp_path):
    (alone,) = run(tmp_path, "alone.npz", 1)
    assert alone["loss"].shape == (6, 40)
    for recorded in run(tmp_path, "both.npz", 2):
        assert_same_bits(recorded, alone)
    (continued,) = run(tmp_path, "both.npz", 1)  # the state of both is one that one process can read
    assert_same_bits(continued, alone)


@pytest.mark.slow
def test_a_stop_in_one_process_stops_both_and_they_continue_to_the_same_bits(tmp_path):
    (alone,) = run(tmp_path, "alone.npz", 1)
    codes, _ = run(tmp_path, "stopped.npz", 2, stop="1")
    assert codes == [75, 75]
    for recorded in run(tmp_path, "stopped.npz", 2):
        assert_same_bits(recorded, alone)


@pytest.mark.slow
def test_a_state_that_is_refused_is_refused_by_both(tmp_path):
    (tmp_path / "damaged.npz").write_bytes(b"nothing")
    codes, messages = run(tmp_path, "damaged.npz", 2)
    assert codes == [1, 1]
    assert "cannot be read" in messages[0]
    assert "refused by process 0" in messages[1]
