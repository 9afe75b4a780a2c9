"""`kill -9` at random moments, spread over training, sampling, writing and reporting: the run always goes on to the same bits."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slt_lab.results import read_results

ROOT = Path(__file__).parent.parent
RUNS = {
    "line": ["slt_lab", str(ROOT / "tests" / "data" / "line.py"), "--config", "tiny"],
    "transient-ridge": ["experiments", "transient-ridge", "--config", "tiny"],
    "lrt-stages": [
        "experiments", "lrt-stages", "--config", "demo", "--num-evaluation-sequences", "64", "--training.batch-size", "16",
        "--training.num-steps", "40", "--training.checkpoint-steps", "0", "20", "40", "--sampling.checkpoint-steps", "20", "40",
        "--sampling.num-examples", "256", "--sampling.batch-size", "16", "--sampling.num-draws", "60", "--sampling.num-burnin", "20",
    ],
    "known-models": ["experiments", "known-models", "--config", "tiny"],
}  # fmt: skip


def spawn(name, folder, *extra):
    return subprocess.Popen(
        [sys.executable, "-m", *RUNS[name], *extra, "--folder", str(folder)], cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def killed_until_finished(name, folder, kills, length, generator):
    """Kill the run `kills` times, each at a moment drawn from its whole length, then let it finish; how often it was still alive."""
    met = 0
    for _ in range(kills):
        process = spawn(name, folder)
        time.sleep(generator.uniform(0.1, 1.0) * length)
        met += process.poll() is None
        process.kill()
        process.wait()
    last = spawn(name, folder)
    assert last.wait() == 0, f"{name} does not go on after {kills} kills"
    return met


def numbers(folder):
    """Everything that was measured but the time it took."""
    return read_results(folder).drop_vars("seconds", errors="ignore")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(name, tmp_path, capsys):
    whole = tmp_path / "whole" / "run"
    began = time.monotonic()
    assert spawn(name, whole).wait() == 0
    length, expected = time.monotonic() - began, numbers(whole)
    generator, done, met = random.Random(name), 0, 0
    while done < 13:
        kills = min(generator.randint(1, 4), 13 - done)
        folder = tmp_path / str(done) / "run"
        met += killed_until_finished(name, folder, kills, length, generator)
        assert numbers(folder).identical(expected)
        done += kills
    with capsys.disabled():
        print(f"\n{name}: {done} kills ({met} met the run alive), all went on to the same bits")


@pytest.mark.slow
def test_one_of_three_workers_is_killed(tmp_path):
    whole, shared = tmp_path / "whole" / "run", tmp_path / "shared" / "run"
    assert spawn("line", whole).wait() == 0
    workers = [spawn("line", shared, "--worker") for _ in range(3)]
    while not any(shared.glob("pieces/*/*/*.npz")):
        time.sleep(0.05)
    workers[0].kill()
    assert [worker.wait() for worker in workers[1:]] == [0, 0]
    workers[0].wait()
    assert numbers(shared).identical(numbers(whole))
