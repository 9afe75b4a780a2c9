"""`scripts/gpu_figures.py` rehearsed on a CPU: its plan, what it leaves, what it skips, and trainings that go on to the same bits."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def modules(monkeypatch):
    """`gpu_output` and `gpu_training`, which find each other as they do beside the script."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import gpu_output
    import gpu_training

    yield gpu_output, gpu_training
    for name in ("gpu_output", "gpu_training"):
        sys.modules.pop(name)


def figures(*arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "scripts/gpu_figures.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


PIECES = ("tests", "throughput", "precision", "seeds", "llcs", "language model")


def test_the_plan_names_every_piece_with_its_minutes(tmp_path):
    lines = figures("--dry-run", "--out", tmp_path / "none").splitlines()
    minutes = [float(line.split(" min ")[0].rsplit(maxsplit=1)[1]) for line in lines]
    assert [line[:16].strip() for line in lines] == [*PIECES, "all that is left"]
    assert minutes[-1] == pytest.approx(sum(minutes[:-1]))
    assert all("to do" in line for line in lines[:-1])
    assert not (tmp_path / "none").exists()


def test_arrays_go_into_files_of_a_bounded_size_and_come_back(modules, tmp_path, monkeypatch):
    output = modules[0].Output(tmp_path)
    monkeypatch.setattr(modules[0], "ROOM", 1000)
    arrays = {f"{name}/a": np.arange(100, dtype=np.float32) + name for name in range(5)}  # two fit into a file
    output.save_arrays("some", {"step": 3}, arrays)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some-0.npz", "some-1.npz", "some-2.npz"]
    header, again = output.load_arrays("some")
    assert header["step"] == 3
    assert all((again[name] == array).all() for name, array in arrays.items())
    output.save_arrays("some", {"step": 4}, {"0/a": arrays["0/a"]})
    assert [path.name for path in tmp_path.iterdir()] == ["some-0.npz"]
    assert output.load_arrays("none") is None


def test_a_kill_between_two_files_leaves_nothing_half_new(modules, tmp_path, monkeypatch):
    output = modules[0].Output(tmp_path)
    monkeypatch.setattr(modules[0], "ROOM", 1000)
    arrays = {str(name): np.zeros(200, np.float32) for name in range(3)}
    output.save_arrays("some", {"step": 1}, arrays)
    old = (tmp_path / "some-2.npz").read_bytes()
    output.save_arrays("some", {"step": 2}, arrays)
    (tmp_path / "some-2.npz").write_bytes(old)
    assert output.load_arrays("some") is None


def test_too_many_or_too_large_files_are_refused(modules, tmp_path, monkeypatch):
    output = modules[0].Output(tmp_path)
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("")
    with pytest.raises(SystemExit, match="holds 9 files"):
        output.write("one", {"done": True})
    monkeypatch.setattr(modules[0], "MOST_FILES", 20)
    monkeypatch.setattr(modules[0], "LARGEST_FILE", 10)
    with pytest.raises(SystemExit, match=r"too large are \['figures.json'\]"):
        output.write("one", {"done": True})


class Ending:
    """A clock whose time is over after so many questions."""

    def __init__(self, questions):
        self.questions = questions

    def over(self):
        self.questions -= 1
        return self.questions < 0


@pytest.mark.slow
def test_seeds_trained_side_by_side_are_the_seeds_and_a_stopped_training_goes_on_to_the_same_bits(modules, tmp_path):
    gpu_output, gpu_training = modules
    config = gpu_training.lrt_config(8, 40, 8)

    def train(output, questions):
        return gpu_training.train_lrt(config, [1, 2], [8, 40], output, Ending(questions), lambda line: None)

    whole, stopped = gpu_output.Output(tmp_path / "whole"), gpu_output.Output(tmp_path / "stopped")
    assert train(whole, 1000)["done"]
    assert not train(stopped, 3)["done"]
    assert train(stopped, 1000)["done"]
    for seed in (1, 2):
        ours, again = (gpu_training.lrt_checkpoints(config, seed, output) for output in (whole, stopped))
        assert sorted(ours) == sorted(again) == [8, 40]
        for step in ours:
            jax.tree.map(np.testing.assert_array_equal, ours[step], again[step])
    subject = gpu_training.lrt_subject(config, 2)
    state = gpu_training.init_train_state(subject.init(), subject.optimizer)
    state, _ = gpu_training.train_steps(
        subject.training_key, state, None, 40, loss_fn=subject.loss_fn, batch_fn=subject.batches,
        update=subject.optimizer.update,
    )  # fmt: skip
    alone = gpu_training.lrt_checkpoints(config, 2, whole)[40]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), alone, state.params)


@pytest.mark.slow
def test_a_rehearsal_does_every_piece_once(tmp_path):
    out = tmp_path / "out"
    said = figures("--size", "tiny", "--minutes", "30", "--out", out)
    results = json.loads((out / "figures.json").read_text())
    assert [name for name in PIECES if results[name]["done"]] == list(PIECES), said
    assert "skipped" in results["tests"]["summary"]
    assert len(results["throughput"]["rows"]) == 3
    assert all(
        row["chain-steps/s"] > 0 and row["TFLOP/s of the bare gradient"] > 0 for row in results["throughput"]["rows"]
    )
    assert np.isfinite(results["precision"]["rows"]["float32"]["LLC"])
    assert [row["step"] for row in results["llcs"]["rows"]] == [8, 40, 48]
    assert results["llcs"]["chains"] == 6
    assert results["language model"]["steps"] == 40
    assert "matmul_precision" in results["seeds"]["machine"]
    files = [path for path in out.iterdir() if path.is_file()]
    assert len(files) <= 8
    assert max(path.stat().st_size for path in files) <= 16_000_000
    again = figures("--size", "tiny", "--minutes", "30", "--out", out)
    assert again.count("done already") == len(PIECES)
    assert re.search(r"all that is left +0\.0 min", again)
