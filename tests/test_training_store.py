"""A store of checkpoints gives back the weights that went in, or one sentence; and goes on for the training that filled it."""

import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.training.loop import train

ROOT = os.path.dirname(os.path.dirname(__file__))
PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "layers": [jnp.ones(4), jnp.ones(2, jnp.bfloat16)]}


def make_loss(scale=1.0):
    def loss_fn(params, batch):
        return scale * 0.5 * jnp.sum((batch - params["w"][None]) ** 2, axis=1)

    return loss_fn


def make_batches(count=4):
    def batch_fn(key, step, data):
        rows = jax.random.randint(key, (count,), 0, len(data))
        # As a corpus on disk is read: the host looks the rows up.
        return jax.pure_callback(lambda rows: np.asarray(BATCH_SOURCE)[rows], jnp.zeros((count, 2)), rows)

    return batch_fn


BATCH_SOURCE = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)


def run(folder, **changes):
    options = {
        "key": jax.random.key(0), "loss_fn": make_loss(), "params": {"w": jnp.zeros(2)}, "batch_fn": make_batches(),
        "optimizer": optax.adam(0.1), "num_steps": 6, "save_at": (0, 2, 4, 6), "data": jnp.zeros(20),
    }  # fmt: skip
    return train(store=CheckpointStore(folder), **options | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "store"
    return folder, run(folder)


OTHERS = {
    "optimizer": {"optimizer": optax.adam(0.2)},
    "optimizer, its schedule": {"optimizer": optax.adam(optax.linear_schedule(0.1, 0.0, 100))},
    "optimizer, a rate in its state": {"optimizer": optax.inject_hyperparams(optax.adam)(learning_rate=0.1)},
    "key": {"key": jax.random.key(1)},
    "loss_fn": {"loss_fn": make_loss(2.0)},
    "params": {"params": {"w": jnp.ones(2)}},
    "batch_fn": {"batch_fn": make_batches(5)},
    "data": {"data": jnp.ones(20)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_store_is_refused_by_every_other_training(name, trained):
    part = name.split(",")[0]
    with pytest.raises(ValueError, match=rf"store belongs to a run with other settings: .*\b{part}\b.*; give another"):
        run(trained[0], **OTHERS[name])


def test_what_a_host_callback_reads_belongs_to_the_training(trained, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "BATCH_SOURCE", BATCH_SOURCE + 1)
    with pytest.raises(ValueError, match="other settings: batch_fn;"):
        run(trained[0])


def test_under_another_jax_a_training_is_told_by_its_first_numbers(trained, tmp_path, monkeypatch):
    shutil.copytree(trained[0], tmp_path / "store")
    monkeypatch.setattr(jax, "__version__", "99.0")

    def written_otherwise(params, batch):
        return jnp.sum((batch - params["w"][None]) ** 2 / 2, axis=1)

    with pytest.warns(UserWarning, match="goes on under 99"):
        run(tmp_path / "store", loss_fn=written_otherwise)
    with pytest.raises(ValueError, match="come out as others, or optimizer is another"):
        run(tmp_path / "store", optimizer=optax.adam(0.2))


def test_the_same_training_goes_on_longer_to_the_same_bits(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "store")
    longer = run(tmp_path / "store", num_steps=9, save_at=(3, 8), max_chunk=2)
    np.testing.assert_array_equal(longer.params["w"], run(tmp_path / "fresh", num_steps=9).params["w"])
    assert CheckpointStore(tmp_path / "store").steps() == [0, 2, 4, 6, 8, 9]


ELSEWHERE = """
import sys
import numpy as np
from tests.test_training_store import run
np.save(sys.argv[2], run(sys.argv[1]).params["w"])
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_store_is_recognised_in_another_process(seed, trained, tmp_path):
    out = tmp_path / "w.npy"
    command = [sys.executable, "-c", ELSEWHERE, str(trained[0]), str(out)]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": ROOT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(out), trained[1].params["w"])


def test_a_store_without_a_record_is_taken_with_a_warning_and_keeps_one(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "store")
    (tmp_path / "store" / "identity.json").unlink()
    with pytest.warns(UserWarning, match="do not say which training they are of"):
        run(tmp_path / "store")
    with pytest.raises(ValueError, match="other settings: key;"):
        run(tmp_path / "store", key=jax.random.key(1))


def test_a_damaged_record_is_told_at_every_length(trained, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(trained[0], folder)
    whole = (folder / "identity.json").read_bytes()
    store = CheckpointStore(folder)
    identity = json.loads(whole)["identity"]
    store.claim(identity, list)
    for length in range(len(whole)):
        (folder / "identity.json").write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"identity\.json cannot be read .*delete the folder .*store to train again"
        ):
            store.claim(identity, list)


def test_two_trainings_of_one_store_and_the_second_is_told(trained):
    store = CheckpointStore(trained[0])
    with store.only_writer(), pytest.raises(ValueError, match="is in use by another run; wait until it ends"):
        run(trained[0])
    run(trained[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w": jnp.zeros((3, 3))}, r"has float32\[2, 3\] at 'w', and like float32\[3, 3\]"),
        ({"w": jnp.zeros((2, 3), jnp.int32)}, r"has float32\[2, 3\] at 'w', and like int32\[2, 3\]"),
        ({"w": np.zeros((2, 3))}, r"has float32\[2, 3\] at 'w', and like float64\[2, 3\]"),
        ({"layers": [jnp.ones(4), jnp.ones(2)]}, r"has bfloat16\[2\] at 'layers/1', and like float32\[2\]"),
        ({"layers": [jnp.ones(4)]}, r"other leaves than like: \['layers/1'\] there alone, none in like alone"),
        ({"v": jnp.ones(4)}, r"other leaves than like: none there alone, \['v'\] in like alone"),
    ],
)
def test_weights_of_other_shapes_types_and_names_are_refused(changes, message, weights):
    store = CheckpointStore(weights)
    for stored, given in zip(*map(jax.tree.leaves, (store.params(3, PARAMS), PARAMS)), strict=True):
        assert stored.dtype == given.dtype
        np.testing.assert_array_equal(stored, given)
    with pytest.raises(ValueError, match=message):
        store.params(3, PARAMS | changes)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "store"
    store = CheckpointStore(folder)
    store.save(3, PARAMS, {"params": PARAMS})
    store.wait()
    return folder


def test_advice_about_damaged_weights_is_good(trained, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(trained[0], folder)
    shutil.rmtree(folder / "params" / "2" / "default")
    with pytest.raises(ValueError, match=r"params/2 cannot be read .*; delete the folder .* to train again") as told:
        CheckpointStore(folder).params(2, {"w": jnp.zeros(2)})
    shutil.rmtree(str(told.value).split("delete the folder ")[1].split(" to train")[0])
    run(folder)
    again, before = (CheckpointStore(where).params(2, {"w": jnp.zeros(2)}) for where in (folder, trained[0]))
    np.testing.assert_array_equal(again["w"], before["w"])


def test_advice_about_a_damaged_training_state_is_good(trained, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(trained[0], folder)
    shutil.rmtree(folder / "train_state" / "6" / "default")
    with pytest.raises(
        ValueError, match=r"train_state/6 cannot be read .*; delete that folder to go on from the state"
    ):
        run(folder)
    shutil.rmtree(folder / "train_state" / "6")
    np.testing.assert_array_equal(run(folder).params["w"], trained[1].params["w"])


DAMAGE = """
import collections, json, sys
from pathlib import Path
import numpy as np
from slt_jax.training.checkpoints import CheckpointStore

folder, outcomes = Path(sys.argv[1]), collections.Counter()
weights = {"w": np.random.default_rng(0).normal(size=50_000).astype(np.float32)}
store = CheckpointStore(folder)
store.save(3, weights, weights)
store.wait()

def outcome():
    try:
        found = CheckpointStore(folder).params(3, weights)
    except ValueError as error:
        text = str(error)
        return "told" if "delete the folder " + str(folder) in text and "cannot be" in text else text
    return "same" if np.array_equal(found["w"], weights["w"]) else "other numbers"

for path in [path for path in (folder / "params").rglob("*") if path.is_file()]:
    whole = path.read_bytes()
    for position in np.unique(np.linspace(0, len(whole) - 1, 12).astype(int)) if whole else []:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        for damaged in (flipped, whole[:position]):
            path.write_bytes(damaged)
            outcomes[outcome()] += 1
    path.write_bytes(whole)
print(json.dumps(outcomes))
"""


def test_damaged_weights_are_told_or_the_same(tmp_path):
    """In a process of its own, for the threads of the reader complain about damage on their own."""
    command = [sys.executable, "-c", DAMAGE, str(tmp_path / "store")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout)
    assert set(outcomes) == {"told", "same"}, outcomes
    assert outcomes["told"] > 40  # what orbax does not read may be damaged without harm
