"""An opened run: its numbers, its checkpoints with their loss, another measurement without training, its figures."""

import json
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import slt_jax
from experiments.catalogue import CATALOGUE
from slt_lab import UserError, open_run
from slt_lab.catalogue import Catalogue
from slt_lab.cli import main

FILE = Path(__file__).parent.parent / "examples" / "own_experiment.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "own"
    command = [str(FILE), "--config", "demo", "--folder", str(path), "--num-steps", "40", "--checkpoints", "20",
               "--sampling.num-draws", "10", "--sampling.num-burnin", "5", "--sampling.step-size", "1e-3"]  # fmt: skip
    assert main(command, Catalogue("python -m slt_lab", {})) == 0
    return path


def test_a_run_in_a_file_opens_with_its_numbers_parameters_and_loss(folder):
    run = open_run(folder)
    assert run.config.num_steps == 40
    assert run.config.checkpoints == (20,)
    assert run.steps("network") == [0, 20, 40]
    subject = run.subjects["network"]
    loss = float(subject.loss_fn(run.params("network", 40), subject.data).mean())
    assert loss == pytest.approx(float(run.results.loss.sel(step=40)), rel=1e-6)
    assert not np.array_equal(run.params("network", 0)["inner"], run.params("network", 40)["inner"])


def test_a_checkpoint_is_measured_again_with_other_settings(folder, monkeypatch):
    monkeypatch.setattr("slt_lab.bench.train", None)
    before = sorted(path for path in folder.rglob("*"))
    run = open_run(str(folder))
    posterior = run.posterior("network", 40, localization=50.0)
    assert (posterior.n, posterior.nbeta, posterior.localization) == (16384, 148.0, 50.0)
    assert run.posterior("network", 40).localization == 10.0
    other = run.posterior("network", 40, num_examples=64, nbeta=10.0)
    assert (other.n, other.nbeta) == (64, 10.0)
    samples = slt_jax.sample(
        jax.random.key(0), posterior, slt_jax.sgld(64), step_size=1e-3, num_chains=2, num_draws=10, num_burnin=5
    )
    assert np.isfinite(slt_jax.llc(samples).mean)
    assert sorted(path for path in folder.rglob("*")) == before


def test_its_figures_are_drawn_again(folder):
    page = open_run(folder).page()
    (picture,) = page.sections[0].figures
    assert isinstance(picture.figure, plt.Figure)
    assert page.summary == json.loads((folder / "summary.json").read_text())
    plt.close(picture.figure)


def test_a_listed_experiment_opens_by_its_name(tmp_path):
    assert main(["deep-linear-networks", "--config", "tiny", "--folder", str(tmp_path / "run")], CATALOGUE) == 0
    run = open_run(tmp_path / "run")
    assert run.experiment.name == "deep-linear-networks"
    assert run.config == run.experiment.configs["tiny"]()
    assert run.results.llc.sizes["seed"] == 3
    with pytest.raises(UserError, match="has no subject 'network'; there are: none, for nothing was trained"):
        run.params("network", 0)


def test_what_is_not_there_is_said(folder, tmp_path, monkeypatch):
    run = open_run(folder)
    with pytest.raises(UserError, match="network has no checkpoint at step 30; there are: 0, 20, 40"):
        run.params("network", 30)
    with pytest.raises(UserError, match="has no subject 0; there are: 'network'"):
        run.posterior(0, 20)
    with pytest.raises(UserError, match="is not a run folder"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"experiment": "lrt-stages", "config_name": "demo", "config": {}}))
    monkeypatch.setattr("slt_lab.opening.find_spec", lambda name: None)
    with pytest.raises(UserError, match="start from the root of a clone"):
        open_run(tmp_path)
