"""`examples/own_experiment.py`, an experiment of a user's own: runs, reports, and does nothing twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from slt_lab.catalogue import Catalogue
from slt_lab.cli import main
from slt_lab.folder import RunFolder

FILE = Path(__file__).parent.parent / "examples" / "own_experiment.py"
SMALL = [
    "--num-steps", "60", "--checkpoints", "20", "40", "--sampling.num-draws", "20", "--sampling.num-burnin", "10",
    "--sampling.step-size", "1e-3",
]  # fmt: skip


def run(folder, *more):
    command = [str(FILE), "--config", "demo", "--folder", str(folder), *SMALL, *more]
    return main(command, Catalogue("python -m slt_lab", {}))


def written(folder, kind):
    return {path: path.stat().st_mtime_ns for path in (folder / kind).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert run(folder) == 0
    return folder


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("it trained")

    monkeypatch.setattr("slt_lab.bench.train", refuse)


def test_it_reports_its_own_measure_beside_the_llc(finished):
    results = RunFolder.existing(finished).read_results()
    assert results.step.values.tolist() == [0, 20, 40, 60]
    assert results.checkpoint.values.tolist() == [20, 40, 60]
    assert np.isfinite(results.llc).all()
    assert results.accuracy.attrs["long_name"] == "share of right answers"
    assert len(json.loads((finished / "summary.json").read_text())["llc"]) == 3
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "<table" in page


def test_report_and_a_second_start_do_nothing_again(finished, no_training):
    before = {kind: written(finished, kind) for kind in ("checkpoints", "pieces")}
    (finished / "report.html").unlink()
    assert main(["report", str(finished)], Catalogue("python -m slt_lab", {})) == 0
    assert (finished / "report.html").exists()
    assert run(finished) == 0
    assert {kind: written(finished, kind) for kind in ("checkpoints", "pieces")} == before


def test_another_localization_beside_it_trains_nothing(finished, no_training):
    beside = finished.parent / "beside"
    assert run(beside, "--sampling.localization", "20") == 0
    first, second = (RunFolder.existing(folder).read_results() for folder in (finished, beside))
    assert first.accuracy.identical(second.accuracy)
    assert not np.array_equal(first.llc, second.llc)
