"""`lrt-stages` end to end on a tiny model: what it computes, writes, does not compute again, and shows from storage alone."""

import csv
import dataclasses
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.lrt_stages import CONFIGS, Geometry, LRTStages, Refined, Sampling, Training
from experiments.lrt_stages import measure
from experiments.lrt_stages.refined import components, measure_refined
from experiments.lrt_stages.report import report
from experiments.lrt_stages.stages import PAPER_STAGES, find_stages
from experiments.registry import UserError
from experiments.run_folder import RunFolder
from slt_jax.analysis.regression_metrics import behaviour
from slt_jax.data.in_context_regression import sample_sequences
from slt_jax.models.regression_transformer import RegressionTransformer
from slt_jax.sampling import driver

TINY_MODEL = RegressionTransformer(num_examples=8, width=8, num_heads=2, num_layers=2, hidden=8)
STEPS = (4, 8, 16, 24, 32)
TINY = LRTStages(
    seeds=(1,),
    training=Training(num_steps=32, schedule_steps=32, batch_size=8, checkpoint_steps=(0, *STEPS)),
    sampling=Sampling(num_examples=64, batch_size=8, num_chains=2, num_draws=12, num_burnin=4, checkpoint_steps=STEPS),
    num_evaluation_sequences=64,
    geometry=Geometry(num_examples=16, num_probes=2, num_eigenvalues=2, rank=3, rank_examples=8, rank_steps=(32,)),
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(measure, "MODEL", TINY_MODEL)
    folder = RunFolder.open("lrt-stages", "tiny", TINY, tmp_path_factory.mktemp("runs") / "tiny")
    assert measure.run(TINY, folder) == []
    report(folder)
    yield folder
    patch.undo()


def test_results_hold_every_metric(tiny_run):
    results = tiny_run.read_results()
    assert results.sizes["seed"] == 1
    assert results.sizes["step"] == 6
    assert results.sizes["checkpoint"] == 5
    for name in ("llc", "hessian_trace", "fisher_trace", "attention_entropy", "ood_input_icl", "effective_unembedding"):
        assert np.isfinite(results[name]).all(), name
    assert np.isfinite(results.effective_dimension.sel(checkpoint=32)).all()
    assert np.isnan(results.effective_dimension.sel(checkpoint=4)).all()


def test_curves_hold_what_the_comparison_needs(tiny_run):
    with (tiny_run.path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    named = {
        "step", "seed", "loss", *(f"loss_token_{k}" for k in range(8)), "llc", "llc_std_error", "zero_prediction",
        "distance_to_ridge", "hessian_trace", "hessian_trace_std_error",
    }  # fmt: skip
    assert named <= rows[0].keys()
    assert rows[0]["llc"] == ""  # an untrained model is at no minimum
    results = tiny_run.read_results()
    last = next(row for row in rows if row["step"] == "32")
    assert float(last["llc"]) == pytest.approx(float(results.llc.sel(seed=1, checkpoint=32)), rel=1e-5)


def test_page_stands_alone(tiny_run):
    page = (tiny_run.path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    for outside in ('src="http', 'href="http', "<script", "@import"):
        assert outside not in page
    assert all(name in page for name, *_ in PAPER_STAGES)
    summary = json.loads((tiny_run.path / "summary.json").read_text())
    assert len(summary["checkpoints"]) == 5
    assert summary["diverged_chains"] == 0


def test_a_finished_run_computes_nothing_again(tiny_run):
    pieces = sorted((tiny_run.path / "pieces").rglob("*.npz"))
    before = {path: os.stat(path).st_mtime_ns for path in pieces}
    measure.run(TINY, tiny_run)
    assert {path: os.stat(path).st_mtime_ns for path in pieces} == before


def test_all_checkpoints_of_a_run_share_one_compilation(tiny_run, tmp_path):
    folder = RunFolder.open("lrt-stages", "tiny", TINY, tmp_path / "again")
    shutil.copytree(tiny_run.path / "checkpoints", folder.path / "checkpoints")
    programs = (driver._start, driver._advance)
    for program in programs:
        program.clear_cache()
    assert len(measure.measure_llc(TINY, folder, 1)) == 5
    assert [program._cache_size() for program in programs] == [1, 1]


@pytest.fixture
def against_authors(tiny_run):
    """The script, with blocks that suit a tiny model."""
    path = Path(__file__).parents[1] / "scripts" / "training_against_authors.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BATCH = 32
    return module


def test_training_beside_the_authors_counts_every_block_and_every_seed(
    tiny_run, against_authors, tmp_path, monkeypatch, capsys
):
    shutil.copytree(tiny_run.path / "checkpoints" / "seed_1", tmp_path / "checkpoints" / "seed_3")
    monkeypatch.setattr(
        sys, "argv", ["script", str(tiny_run.path), str(tmp_path), "--sequences", "64", "--steps", "8", "32"]
    )
    against_authors.main()
    out = capsys.readouterr().out
    key = jax.random.fold_in(jax.random.key(measure.SHARED_SEED), measure.EVALUATION)
    params = measure.stored_params(tiny_run, 1, [32])[32]
    losses = [
        float(behaviour(TINY_MODEL, params, sample_sequences(jax.random.fold_in(key, block), 32))["loss"])
        for block in range(2)
    ]
    rows = [line for line in out.splitlines() if line.strip().startswith("32 ")]
    assert [float(line.split()[1]) for line in rows] == pytest.approx([np.mean(losses)] * 3, abs=6e-4)
    assert float(rows[0].split()[3]) == pytest.approx(abs(losses[0] - losses[1]) / 2, abs=6e-4)
    assert "Mean of our seeds 1, 3" in out


def test_training_beside_the_authors_wants_a_run(against_authors, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no checkpoints"):
        against_authors.main()


def test_stages_need_five_finite_estimates(tiny_run):
    results = tiny_run.read_results()
    assert set(find_stages(results)) == {1}
    assert find_stages(results.isel(checkpoint=slice(0, 4))) == {}


def test_components_cover_the_model_once():
    params = measure.initial_params(0)
    from slt_jax.trees import matching_paths

    covered = [path for patterns in components(measure.MODEL).values() for path in matching_paths(params, patterns)]
    assert len(covered) == len(set(covered))
    rest = set(matching_paths(params, ("*",))) - set(covered)
    assert all("/attention/" in path for path in rest)


@pytest.mark.slow
def test_refined_estimates_of_all_parts(tiny_run):
    config = dataclasses.replace(
        TINY, refined=Refined(checkpoint_steps=(8, 32), batch_size=8, num_draws=12, num_burnin=0)
    )
    params = measure.stored_params(tiny_run, 1, [8, 32])
    found = measure_refined(config, tiny_run, 1, TINY_MODEL, measure.posterior_data(config.sampling), params)
    assert found.sizes == {"refined_checkpoint": 2, "component": 4 + len(components(TINY_MODEL))}
    assert np.isfinite(found.refined_llc).all()
    assert not found.refined_llc_diverged.any()


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_are_consistent(name):
    config = CONFIGS[name]()
    saved = measure.saved_steps(config.training)
    assert saved[-1] == config.training.num_steps
    assert all(0 < step <= config.training.num_steps for step in measure.sampled_steps(config))
    assert "Expect:" in (CONFIGS[name].__doc__ or "")
    if name == "paper":
        assert len(saved) == 190


def test_a_shorter_run_leaves_out_later_steps():
    config = CONFIGS["cpu"]()
    shorter = dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=41_000))
    assert measure.saved_steps(shorter.training)[-2:] == [40_000, 41_000]
    assert measure.sampled_steps(shorter)[-2:] == [20_000, 40_000]
    assert measure.refined_steps(shorter) == [2500, 5000, 10_000, 40_000]
    shortest = dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=400))
    with pytest.raises(UserError, match=r"begin at 500, after the last training step \(400\)"):
        measure.sampled_steps(shortest)
