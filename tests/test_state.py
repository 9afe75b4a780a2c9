"""A state file gives back the very arrays that went in, or one sentence; and only to the run that wrote it."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.identity import setting
from slt_jax.posterior import LocalPosterior, by_path, restrict
from slt_jax.sampling import driver, state
from slt_jax.sampling.driver import sample
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.preconditioners import rmsprop
from slt_jax.sampling.sgld import sgld
from slt_jax.sampling.sgnht import sgnht
from slt_jax.sampling.storage import load_state, save_state

# Losses are made anew here on purpose: what is asked is whether they are told apart.
pytestmark = pytest.mark.filterwarnings("ignore::slt_jax.sampling.recompilation.RecompilationWarning")

TREE = {"key": jax.random.key(5), "step": np.arange(3), "w": np.linspace(0, 1, 40, dtype=np.float32).reshape(2, 20)}
IDENTITY = {"kernel": "sgld(8)", "data": "0" * 64}


def load(path, identity=IDENTITY, same_numbers=True):
    return load_state(path, lambda done: TREE, identity, lambda done, tree: same_numbers)


def save(path):
    save_state(path, TREE, {"burnin": 2, "draws": 5}, IDENTITY)
    return path


def assert_unchanged(stored):
    done, tree = stored
    assert done == {"burnin": 2, "draws": 5}
    assert jax.tree.structure(tree) == jax.tree.structure(TREE)
    np.testing.assert_array_equal(jax.random.key_data(tree["key"]), jax.random.key_data(TREE["key"]))
    for name in ("step", "w"):
        np.testing.assert_array_equal(tree[name], TREE[name])


def test_a_state_comes_back_as_it_was(tmp_path):
    assert_unchanged(load(save(tmp_path / "state.npz")))
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]  # no partial file is left


def test_a_truncated_state_is_refused_at_every_length(tmp_path):
    path = save(tmp_path / "state.npz")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"state\.npz cannot be read .*delete it to start again"):
            load(path)


def test_a_flipped_bit_is_refused_at_every_byte(tmp_path):
    path = save(tmp_path / "state.npz")
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state\.npz cannot be read .*delete it to start again"):
            load(path)


def test_bytes_after_the_end_and_files_of_other_kinds_are_refused(tmp_path):
    path = save(tmp_path / "state.npz")
    contents = [path.read_bytes() + b"\0", b"", b"not a state"]
    np.savez(tmp_path / "other.npz", leaf_0=np.zeros(3))
    for content in (*contents, (tmp_path / "other.npz").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read"):
            load(path)


def test_another_jax_is_a_warning_and_another_setting_is_not(tmp_path, monkeypatch):
    path = save(tmp_path / "state.npz")
    monkeypatch.setattr(jax, "__version__", "99.0")
    with pytest.warns(UserWarning, match=r"written under jax \S+ and goes on under 99\.0"):
        assert_unchanged(load(path))
    with pytest.raises(ValueError, match="other settings: kernel, metric;"):
        load(path, IDENTITY | {"kernel": "sgld(4)", "metric": "1"})


WEIGHTS = {"a": jnp.arange(2.0), "b": jnp.ones(2)}
DATA = jax.random.normal(jax.random.key(3), (30, 4))


def make_loss(scale=1.0, target=DATA[:, 0]):
    mean = target.mean()

    def loss_fn(params, batch):
        return scale * 0.5 * (batch @ jnp.concatenate([params["a"], params["b"]]) - mean) ** 2

    return loss_fn


LOSS = make_loss()


def posterior(nbeta=10.0, localization=1.0, data=DATA, center=WEIGHTS, **loss):
    return LocalPosterior(make_loss(**loss) if loss else LOSS, data, center, nbeta, localization)


def metric(stiff=0.5):
    return Metric(jnp.eye(4)[:, :1], jnp.asarray([stiff]), jnp.asarray(1.0))


BASE = {
    "key": jax.random.key(0), "posterior": posterior(), "kernel": sgnht(8, friction=0.1), "step_size": 1e-3,
    "num_chains": 2, "num_draws": 6, "num_burnin": 2, "thinning": 2, "metric": metric(), "layout": "map",
    "observables": {"norm": lambda params: jnp.sum(params["a"] ** 2)},
}  # fmt: skip
OTHERS = {
    "key": {"key": jax.random.key(1)},
    "kernel": {"kernel": sgnht(4, friction=0.1)},
    "kernel, friction": {"kernel": sgnht(8, friction=0.2)},
    "kernel, another": {"kernel": sgld(8)},
    "kernel, preconditioner": {"kernel": sgld(8, rmsprop()), "metric": None},
    "step_size": {"step_size": 2e-3},
    "nbeta": {"posterior": posterior(nbeta=11.0)},
    "localization": {"posterior": posterior(localization=2.0)},
    "loss_fn": {"posterior": posterior(scale=2.0)},
    "loss_fn, an array it closes over": {"posterior": posterior(target=DATA[:, 1])},
    "data": {"posterior": posterior(data=DATA.at[7, 2].add(1e-6))},
    "center": {"posterior": posterior(center=WEIGHTS | {"b": jnp.full(2, 1.1)})},
    "metric": {"metric": metric(0.6)},
    "metric, none": {"metric": None},
    "baseline": {"baseline": "full"},
    "baseline, a number": {"baseline": 0.25},
    "burnin": {"num_burnin": 3},
    "draws": {"num_draws": 7},
    "draws, thinned": {"thinning": 3},
    "observable norm": {"observables": {"norm": lambda params: jnp.sum(params["b"] ** 2)}},
    "observable size": {"observables": {"size": lambda params: jnp.sum(params["a"] ** 2)}},
    "restriction": {"posterior": restrict(posterior(), by_path("a")), "metric": None},
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.npz"
    return path, sample(**BASE, state_path=path)


@pytest.mark.parametrize("name", OTHERS)
def test_a_state_is_refused_by_every_other_run(name, stored):
    part = re.escape(name.split(",")[0])
    with pytest.raises(ValueError, match=rf"belongs to a run with other settings: .*\b{part}\b.*; give another path"):
        sample(**BASE | OTHERS[name], state_path=stored[0])


def test_a_state_is_recognised_by_what_is_computed_not_by_its_address(stored):
    again = {
        "posterior": posterior(scale=1.0),  # a function of its own "kernel": sgnht(8, friction=0.1), "metric": metric(), "layout": "vmap",
        "observables": {"norm": lambda weights: (weights["a"] ** 2).sum()},
    }  # fmt: skip
    samples = sample(**BASE | again, state_path=stored[0])
    np.testing.assert_array_equal(samples.loss, stored[1].loss)
    np.testing.assert_array_equal(samples.observables["norm"], stored[1].observables["norm"])


def test_under_another_jax_programs_are_told_by_their_first_numbers(stored, tmp_path, monkeypatch):
    """Another jax traces the same function to another program, here played by a function that is written otherwise."""
    path = shutil.copy(stored[0], tmp_path / "state.npz")
    monkeypatch.setattr(jax, "__version__", "99.0")

    def written_otherwise(params, batch):
        predicted = batch[:, :2] @ params["a"] + batch[:, 2:] @ params["b"]
        return (predicted - DATA[:, 0].mean()) ** 2 / 2

    otherwise = {"posterior": LocalPosterior(written_otherwise, DATA, WEIGHTS, 10.0, 1.0)}
    with pytest.warns(UserWarning, match="goes on under 99"):
        samples = sample(**BASE | otherwise, state_path=path)
    np.testing.assert_array_equal(samples.loss, stored[1].loss)
    with pytest.raises(ValueError, match=r"first numbers come out as others, or loss_fn is another; go on under jax"):
        sample(**BASE | {"posterior": posterior(scale=1.01)}, state_path=path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="other settings: loss_fn;"):
        sample(**BASE | otherwise, state_path=path)


def test_weights_outside_a_restriction_belong_to_the_run(tmp_path):
    def draw(center, pattern="a"):
        part = restrict(posterior(center=center), by_path(pattern))
        return sample(
            jax.random.key(0), part, sgld(8), step_size=1e-3, num_chains=1, num_draws=4, state_path=tmp_path / "s.npz"
        )

    draw(WEIGHTS)
    with pytest.raises(ValueError, match="other settings: center;"):
        draw(WEIGHTS | {"b": jnp.full(2, 1.1)})
    with pytest.raises(ValueError, match="other settings: center, restriction's take, restriction's put;"):
        draw(WEIGHTS, "b")


class Nameless:
    """A kernel whose repr is an address."""


@pytest.mark.parametrize("kernel", [Nameless(), partial(lambda step, key: step, 0.1)])
def test_a_kernel_that_does_not_say_its_settings_has_no_state(kernel):
    with pytest.raises(ValueError, match=r"kernel = .* does not say its settings.*frozen dataclass"):
        setting("kernel", kernel)


def test_the_address_of_a_named_function_is_no_setting():
    assert setting("kernel", make_loss) == "<function make_loss>"


def test_state_is_written_by_the_clock_and_at_the_end(tmp_path, monkeypatch):
    """Ten times the chunks are not ten times the writes."""
    now, saves = [0.0], []
    real_save = state.save_state

    def save_in_a_second(path, tree, done, identity):
        real_save(path, tree, done, identity)
        saves.append(sum(done.values()))
        now[0] += 1.0

    def ten_seconds_a_chunk(*arguments):
        now[0] += 10.0
        return real_advance(*arguments)

    real_advance = driver._advance
    monkeypatch.setattr(state.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(state, "save_state", save_in_a_second)
    monkeypatch.setattr(driver, "_trace_shapes", lambda *arguments: None)
    monkeypatch.setattr(driver, "_advance", ten_seconds_a_chunk)
    sample(**BASE | {"num_draws": 20, "num_burnin": 0}, state_path=tmp_path / "state.npz")
    assert saves == [3, 6, 9, 12, 15, 18, 20]


HOLD = """
import sys, time
from pathlib import Path
from slt_jax.sampling.storage import lock_state
with lock_state(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_writer_is_told_and_a_killed_one_leaves_no_lock(tmp_path):
    path = tmp_path / "state.npz"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=r"state\.npz is in use by another run; wait until it ends"):
            sample(**BASE, state_path=path)
    finally:
        holder.kill()
        holder.communicate()
    sample(**BASE, state_path=path)
    assert path.exists()


def test_a_path_that_cannot_be_written_is_told_before_anything_is_drawn(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"sampling state .*file/state\.npz cannot be written \(\w+: .*give another state_path"
    ):
        sample(**BASE, state_path=tmp_path / "file" / "state.npz")
    with pytest.raises(ValueError, match="is a folder; give the path of a file in it"):
        sample(**BASE, state_path=tmp_path)


ELSEWHERE = """
import sys
import numpy as np
from tests.test_state import BASE, sample
np.save(sys.argv[2], sample(**BASE, state_path=sys.argv[1]).loss)
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_state_is_recognised_in_another_process(seed, stored, tmp_path):
    out = tmp_path / "loss.npy"
    command = [sys.executable, "-c", ELSEWHERE, str(stored[0]), str(out)]
    before = stored[0].stat().st_mtime_ns
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(out), stored[1].loss)
    assert stored[0].stat().st_mtime_ns == before  # read, not drawn again
