"""The command line: what it lists, what it refuses (one sentence, exit code 2), what diverges (3), what survives a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.catalogue import CATALOGUE
from slt_jax.sampling.archive import read_archive
from slt_lab import cli
from slt_lab.pieces import KIND

ROOT = Path(__file__).parent.parent

TINY = [
    "lrt-stages", "--config", "demo", "--num-evaluation-sequences", "64", "--training.batch-size", "16",
    "--training.num-steps", "40", "--training.checkpoint-steps", "0", "20", "40", "--sampling.checkpoint-steps", "20", "40",
    "--sampling.num-examples", "256", "--sampling.batch-size", "16", "--sampling.num-draws", "60",
    "--sampling.num-burnin", "20",
]  # fmt: skip


def but(*changed):
    """The command with the flags of `changed` in place of its own: one that is given twice is refused."""
    flags, kept, drop = {word for word in changed if word.startswith("--")}, [], False
    for word in TINY:
        drop = word in flags if word.startswith("--") else drop
        kept += [] if drop else [word]
    return [*kept, *changed]


def main(arguments):
    return cli.main(arguments, CATALOGUE)


def call(capsys, *arguments):
    """Exit code, stdout and stderr of the command line, in this process."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # how tyro refuses a field
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run folder of a tiny run, made once."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main([*TINY, "--folder", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it to damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def only(folder, pattern):
    """The one path in `folder` that matches."""
    (found,) = folder.glob(pattern)
    return found


def half_written(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".partial") or "orbax-checkpoint-tmp" in path.name]


def test_the_list_names_every_experiment_with_its_configs(capsys):
    code, out, _ = call(capsys)
    assert code == 0
    assert "lrt-stages" in out
    assert "demo, compressed, cpu, paper" in out
    assert call(capsys, "--help") == (0, out, "")


def test_a_run_leaves_what_it_promises_and_ends_with_its_folder(finished, capsys):
    code, out, err = call(capsys, *TINY, "--folder", finished)
    assert code == 0
    assert out.splitlines()[-1] == str(finished)
    assert "report.html" in err
    names = {"config.json", "provenance.json", "checkpoints", "results.zarr", "summary.json", "figures", "report.html"}
    assert names <= {path.name for path in finished.iterdir()}
    assert half_written(finished) == []
    provenance = json.loads((finished / "provenance.json").read_text())["starts"][0]
    assert provenance["versions"]["jax"]
    assert provenance["seconds"] > 0
    assert provenance["outcome"] == "finished"
    page = (finished / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page


def test_a_finished_part_is_not_computed_twice(finished, capsys):
    pieces = sorted((finished / "pieces").rglob("*.npz"))
    before = [path.stat().st_mtime_ns for path in pieces]
    call(capsys, *TINY, "--folder", finished)
    assert [path.stat().st_mtime_ns for path in pieces] == before


def test_report_is_rebuilt_from_storage_alone(copy, capsys):
    for name in ("checkpoints", "pieces", "figures"):
        shutil.rmtree(copy / name)
    summary = (copy / "summary.json").read_text()
    (copy / "summary.json").unlink()
    (copy / "report.html").unlink()
    code, out, _ = call(capsys, "report", copy)
    assert code == 0
    assert out.strip() == str(copy)
    assert (copy / "report.html").exists()
    assert (copy / "summary.json").read_text() == summary


REFUSED = {
    "unknown experiment": (["lrt-stage", "--config", "demo"], "did you mean 'lrt-stages'?"),
    "no config": (["lrt-stages"], "--config is missing; there are: demo"),
    "unknown config": (["lrt-stages", "--config", "dmeo"], "has no config 'dmeo'; there are: demo"),
    "config without a name": (["lrt-stages", "--config"], "--config needs a value"),
    "wrong key": (but("--sampling.num-chain", "4"), "--sampling.num-chains"),
    "wrong type": (but("--sampling.num-chains", "many"), "many"),
    "a value out of range": (but("--sampling.num-draws", "0"), "sampling.num_draws = 0; it must be at least 1"),
    "a negative number": (but("--sampling.num-burnin", "-3"), "sampling.num_burnin = -3; it must be at least 0"),
    "a rate that is no rate": (
        but("--training.peak-learning-rate", "0"),
        "peak_learning_rate = 0.0; it must be positive",
    ),
    "not a number": (but("--sampling.nbeta", "nan"), "sampling.nbeta = nan; it must be finite"),
    "no seed": (but("--seeds"), "seeds is empty; name at least one"),
    "sampling after the end": (
        but("--sampling.checkpoint-steps", "90"),
        "begin at 90, after the last training step",
    ),
    "a field given twice": ([*TINY, "--sampling.num-draws", "9"], "--sampling.num-draws is given twice"),
    "a contradiction": (but("--training.schedule-steps", "30"), "num_steps = 40 is after the end of the schedule"),
    "no run folder": (["report", "nowhere"], "nowhere is not a run folder"),
    "report of nothing": (["report"], "report takes one run folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_sentence(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, sentence = REFUSED[case]
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_another_runs_folder_and_a_strangers_folder_are_refused_and_left_alone(copy, tmp_path, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in copy.rglob("*"))
    code, _, err = call(capsys, *TINY, "--sampling.num-chains", "4", "--folder", copy)
    assert (code, "holds another run" in err) == (2, True)
    assert sorted((path, path.stat().st_mtime_ns) for path in copy.rglob("*")) == before
    stranger = tmp_path / "letters"
    stranger.mkdir()
    (stranger / "letter.txt").write_text("Dear Sir")
    code, _, err = call(capsys, *TINY, "--folder", stranger)
    assert (code, "is not a run folder" in err) == (2, True)
    assert [path.name for path in stranger.iterdir()] == ["letter.txt"]


def test_a_corrupt_checkpoint_is_named(copy, capsys):
    shutil.rmtree(copy / "pieces")
    shutil.rmtree(copy / "results.zarr")
    broken = only(copy / "checkpoints", "seed_1-*") / "params" / "20"
    for path in broken.rglob("*"):
        if path.is_file():
            path.write_bytes(b"broken")
    code, _, err = call(capsys, *TINY, "--folder", copy)
    assert code == 2
    assert f"checkpoint {broken} cannot be read" in err
    assert "delete the folder" in err
    assert half_written(copy) == []


def test_a_corrupt_piece_is_named(copy, capsys):
    piece = only(copy / "pieces" / "llc", "seed_1-*") / "step_0000040.npz"
    piece.write_bytes(b"broken")
    code, _, err = call(capsys, *TINY, "--folder", copy)
    assert (code, f"{piece} cannot be read" in err) == (2, True)


def test_a_step_size_that_explodes_ends_with_3_unless_tolerated(copy, tmp_path, capsys):
    # The training is the tiny run's: only the sampling is new.
    folder = tmp_path / "exploding"
    arguments = [*TINY, "--sampling.step-size", "100.0", "--folder", folder]
    code, out, err = call(capsys, *arguments)
    assert code == 3
    assert out.splitlines()[-1] == str(folder)
    assert "diverged: seed 1, step 20" in err
    assert "smaller step_size than 100" in err
    assert "chains diverged" in (folder / "report.html").read_text()
    assert json.loads((folder / "summary.json").read_text())["checkpoints"][0]["llc"] is None
    assert call(capsys, *arguments, "--tolerate-divergence")[0] == 0


def spawn(folder, *extra):
    command = [sys.executable, "-m", "experiments", *but(*extra), "--folder", str(folder)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_when(process, condition):
    """`kill -9` as soon as `condition()`; the process must not have ended before."""
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_in_training_and_in_sampling_a_run_ends_with_the_same_bits(tmp_path):
    """Twice `kill -9`, then the same command: parameters and traces as if nothing had happened."""
    longer = ("--training.num-steps", "600", "--training.checkpoint-steps", "0", "100", "200", "600",
              "--sampling.checkpoint-steps", "100", "200", "600")  # fmt: skip
    whole, killed = tmp_path / "one" / "whole", tmp_path / "two" / "killed"  # not side by side: nothing is taken over
    assert spawn(whole, *longer).wait() == 0

    def there(pattern):
        return any(killed.glob(pattern))

    kill_when(spawn(killed, *longer), lambda: there("checkpoints/seed_1-*/train_state/100"))
    assert not there("checkpoints/seed_1-*/train_state/600")
    kill_when(spawn(killed, *longer), lambda: there("pieces/llc/seed_1-*/step_0000100.npz"))
    assert not there("pieces/llc/seed_1-*/step_0000600.npz")
    assert spawn(killed, *longer).wait() == 0

    stored = sorted(path.relative_to(whole) for path in (whole / "pieces").rglob("*.npz"))
    assert len(stored) >= 4
    for name in stored:
        expected, found = (read_archive(folder / name, KIND)[1] for folder in (whole, killed))
        assert found.keys() == expected.keys()
        for field in expected:
            np.testing.assert_array_equal(found[field], expected[field], err_msg=f"{name}: {field}")
    assert final_params(killed) == final_params(whole)


def final_params(path):
    import jax

    from experiments.lrt_stages import EXPERIMENT, subjects
    from slt_lab.bench import Bench
    from slt_lab.folder import RunFolder

    folder = RunFolder.existing(path)
    subject = subjects(cli.restore_config(EXPERIMENT, folder), folder)[1]
    return [leaf.tobytes() for leaf in jax.tree.leaves(Bench(folder).params(subject, 600))]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_a_process_bound_to_one_core_makes_one_device():
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from slt_lab.cli import use_all_cores; use_all_cores(); "
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", script + "import jax; print(jax.local_device_count())"],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1], check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "1"
