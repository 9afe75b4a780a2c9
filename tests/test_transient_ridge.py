"""`transient-ridge` end to end at its tiny configuration, and its verdict on curves that are known."""

import json

import numpy as np
import pytest
import xarray

from configs.transient_ridge import CONFIGS, tiny
from experiments.catalogue import CATALOGUE
from experiments.transient_ridge.page import rise_and_fall
from experiments.transient_ridge.subject import task_set
from slt_lab.cli import main
from slt_lab.results import read_results


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["transient-ridge", "--config", "tiny", "--folder", str(folder)], CATALOGUE) == 0
    return folder


def test_tiny_run_reports(tiny_run):
    results = read_results(tiny_run)
    assert results.sizes["num_tasks"] == 2
    for name in ("loss_fresh", "loss_trained", "to_ridge_fresh", "to_dmmse_fresh", "llc"):
        assert np.isfinite(results[name]).all(), name
    assert (results.dmmse_loss_trained < results.ridge_loss_trained).all()
    assert (results.ridge_loss_fresh < results.dmmse_loss_fresh).all()
    summary = json.loads((tiny_run / "summary.json").read_text())
    assert [row["num_tasks"] for row in summary["task_sets"]] == [2, 8]
    page = (tiny_run / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4


def test_task_sets_are_nested():
    config = tiny()
    np.testing.assert_array_equal(task_set(config, 2), task_set(config, 8)[:2])


def test_a_loss_that_rises_again_is_transient():
    fresh = np.asarray([[3.0, 1.0, 2.0], [3.0, 1.0, 1.0]])
    flat = (("num_tasks", "step"), np.zeros((2, 3)))
    results = xarray.Dataset(
        {
            "loss_fresh": (("num_tasks", "step"), fresh), "loss_trained": (("num_tasks", "step"), fresh),
            "ridge_loss_fresh": flat, "dmmse_loss_fresh": flat,
            **{name: (("num_tasks", "checkpoint"), np.zeros((2, 1))) for name in ("llc", "llc_std_error", "llc_drift")},
        },
        coords={"num_tasks": [4, 16], "step": [0, 10, 20]},
    )  # fmt: skip
    rows = rise_and_fall(results)
    assert [row["transient"] for row in rows] == [True, False]
    assert rows[0]["lowest_step"] == 10


def test_paper_configuration_is_the_papers_task():
    config = CONFIGS["paper"]()
    assert (config.task_dim, config.num_examples, config.noise_variance) == (8, 16, 0.125)
    assert len(config.num_tasks) >= 3
