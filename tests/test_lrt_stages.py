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

from configs.lrt_stages import CONFIGS, Geometry, LRTStages, Model, Refined, Sampling, Training
from experiments.lrt_stages import EXPERIMENT, check, measures, subjects
from experiments.lrt_stages.stages import PAPER_STAGES, find_stages
from experiments.lrt_stages.subject import components, model_of, saved_steps
from slt_jax.analysis.regression_metrics import behaviour
from slt_jax.data.in_context_regression import sample_sequences
from slt_jax.sampling import driver
from slt_jax.trees import matching_paths
from slt_lab.bench import Bench
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.measures.llc import LLC
from slt_lab.pieces import digest
from slt_lab.streams import stream

STEPS = (4, 8, 16, 24, 32)
TINY = LRTStages(
    seeds=(1,),
    model=Model(width=8, num_heads=2, num_layers=2, hidden=8),
    training=Training(num_steps=32, schedule_steps=32, batch_size=8, checkpoint_steps=(0, *STEPS)),
    sampling=Sampling(num_examples=64, batch_size=8, num_chains=2, num_draws=12, num_burnin=4, checkpoint_steps=STEPS),
    num_evaluation_sequences=64,
    geometry=Geometry(num_examples=16, num_probes=2, num_eigenvalues=2, rank=3, rank_examples=8, rank_steps=(32,)),
)


def open_folder(path, config=TINY):
    """A run folder that says it is of the config `demo`, whose every field `config` replaces."""
    return RunFolder.open("lrt-stages", "demo", config, path)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    check(TINY)
    folder = open_folder(tmp_path_factory.mktemp("runs") / "tiny")
    assert EXPERIMENT.compute(TINY, folder) == []
    EXPERIMENT.report(TINY, folder)
    return folder


@pytest.fixture
def subject(tiny_run):
    return subjects(TINY, tiny_run)[1]


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
    for outside in ('src="http', 'href="http', "<script src", "@import"):
        assert outside not in page
    assert all(name in page for name, *_ in PAPER_STAGES)
    summary = json.loads((tiny_run.path / "summary.json").read_text())
    assert len(summary["checkpoints"]) == 5
    assert summary["diverged_chains"] == 0


def test_a_finished_run_computes_nothing_again(tiny_run):
    pieces = sorted((tiny_run.path / "pieces").rglob("*.npz"))
    before = {path: os.stat(path).st_mtime_ns for path in pieces}
    assert EXPERIMENT.compute(TINY, tiny_run) == []
    assert {path: os.stat(path).st_mtime_ns for path in pieces} == before


def test_all_checkpoints_of_a_run_share_one_compilation(tiny_run, tmp_path):
    folder = open_folder(tmp_path / "again")
    shutil.copytree(tiny_run.path / "checkpoints", folder.path / "checkpoints")
    programs = (driver._start, driver._advance)
    for program in programs:
        program.clear_cache()
    found = Bench(folder).run(subjects(TINY, folder), [LLC(TINY.sampling)], "seed")
    assert np.isfinite(found.llc).sum() == 5
    assert [program._cache_size() for program in programs] == [1, 1]


def test_a_further_checkpoint_leaves_the_finished_ones_as_they_are(tiny_run, tmp_path):
    fewer = dataclasses.replace(TINY.sampling, checkpoint_steps=STEPS[:2])
    assert digest(LLC(fewer)) == digest(LLC(TINY.sampling))
    assert digest(LLC(dataclasses.replace(fewer, num_draws=13))) != digest(LLC(fewer))


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
    tiny_run, subject, against_authors, tmp_path, monkeypatch, capsys
):
    other = dataclasses.replace(TINY, seeds=(3, 4))
    folder = open_folder(tmp_path / "other", other)
    name = f"seed_3-{digest(subjects(other, folder)[3].identity)}"  # of seed 4 there is nothing yet
    shutil.copytree(Bench(tiny_run).store(subject).directory, folder.path / "checkpoints" / name)
    monkeypatch.setattr(
        sys, "argv", ["script", str(tiny_run.path), str(folder.path), "--sequences", "64", "--steps", "8", "32"]
    )
    against_authors.main()
    out = capsys.readouterr().out
    assert [path.name for path in (folder.path / "checkpoints").iterdir()] == [name]
    key, params = stream("regression/evaluation"), Bench(tiny_run).params(subject, 32)
    losses = [
        float(behaviour(model_of(TINY), params, sample_sequences(jax.random.fold_in(key, block), 32))["loss"])
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
    monkeypatch.setattr(sys, "argv", ["script", str(open_folder(tmp_path / "begun").path)])
    with pytest.raises(SystemExit, match="holds no checkpoints of an lrt-stages run yet"):
        against_authors.main()


def test_stages_need_five_finite_estimates(tiny_run):
    results = tiny_run.read_results()
    assert set(find_stages(results)) == {1}
    assert find_stages(results.isel(checkpoint=slice(0, 4))) == {}


def test_components_cover_the_model_once(subject):
    params = subject.init()
    patterns = [
        pattern
        for part in components(subject.model)
        for pattern in (part.patterns if hasattr(part, "patterns") else dict(part.axes))
    ]
    covered = [path for pattern in patterns for path in matching_paths(params, (pattern,))]
    assert sorted(covered) == sorted(matching_paths(params, ("*",)))
    names = [name for part in components(subject.model) for name in part.names]
    assert len(names) == len(set(names)) == 4 + 10


@pytest.mark.slow
def test_refined_estimates_of_all_parts(tmp_path):
    config = dataclasses.replace(
        TINY,
        seeds=(1, 2),
        geometry=Geometry(num_probes=0),
        refined=Refined(checkpoint_steps=(8, 30), seeds=(2,), batch_size=8, num_draws=12, num_burnin=0),
    )
    folder = open_folder(tmp_path / "refined", config)
    assert EXPERIMENT.compute(config, folder) == []
    EXPERIMENT.report(config, folder)
    found = folder.read_results()
    assert found.sizes["component"] == 4 + 10
    assert found.checkpoint.values.tolist() == [4, 8, 16, 24, 30, 32]
    assert set(found.checkpoint.values) <= set(found.step.values)
    refined = found.refined_llc.sel(checkpoint=[8, 30])
    assert np.isfinite(refined.sel(seed=2)).all()
    assert np.isnan(refined.sel(seed=1)).all()
    assert np.isnan(found.refined_llc.sel(checkpoint=[4, 16, 24, 32])).all()
    assert found.refined_llc_diverged.dtype == bool
    assert not found.refined_llc_diverged.any()
    summary = json.loads((folder.path / "summary.json").read_text())
    assert [row["step"] for row in summary["checkpoints"]] == [*STEPS, *STEPS]  # 30 has no LLC
    assert "Part by part" in (folder.path / "report.html").read_text()


def sampled_steps(config):
    subject = subjects(config, None)[config.seeds[0]]
    return {measure.name: list(measure.steps(subject)) for measure in measures(config)}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_are_consistent(name):
    config = CONFIGS[name]()
    check(config)
    saved = saved_steps(config.training)
    assert saved[-1] == config.training.num_steps
    steps = sampled_steps(config)
    assert steps["llc"]
    assert all(0 < step <= config.training.num_steps for step in steps["llc"])
    kept = set(steps.pop("behaviour"))
    assert all(set(others) <= kept for others in steps.values())
    assert "Expect:" in (CONFIGS[name].__doc__ or "")
    if name == "paper":
        assert len(saved) == 190


def test_a_shorter_run_leaves_out_later_steps():
    config = CONFIGS["cpu"]()
    shorter = dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=41_000))
    check(shorter)
    assert saved_steps(shorter.training)[-2:] == [40_000, 41_000]
    steps = sampled_steps(shorter)
    assert steps["llc"][-2:] == steps["geometry"][-2:] == [20_000, 40_000]
    assert steps["refined LLC"] == [2500, 5000, 10_000, 40_000]
    shortest = dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=400))
    with pytest.raises(UserError, match=r"begin at 500, after the last training step \(400\)"):
        check(shortest)


CONTRADICTIONS = {
    "no seed": ({"seeds": ()}, "seeds is empty; name at least one"),
    "heads": ({"model": Model(width=8, num_heads=3)}, r"model.num_heads = 3; it must divide model.width = 8"),
    "schedule": ({"training": Training(num_steps=40, schedule_steps=32)}, "after the end of the schedule"),
    "refined seeds": ({"refined": Refined(seeds=(7,))}, "refined.seeds names 7, which is not among seeds"),
    "damping": ({"sampling": Sampling(method="metric", metric_damping=1.0)}, "metric_damping = 1; it must be at least"),
    "persistence": ({"sampling": Sampling(method="underdamped", persistence=1.0)}, "persistence = 1; it must be less"),
    "metric rank": ({"sampling": Sampling(method="metric", metric_rank=10_000)}, r"metric_rank = 10,000; the model has"),
    "one probe": ({"geometry": Geometry(num_probes=1)}, "num_probes = 1; the standard error needs at least 2"),
    "one example": ({"geometry": Geometry(num_examples=1)}, "geometry.num_examples = 1"),
    "rank": ({"geometry": Geometry(rank=10_000)}, "geometry.rank = 10,000; the model has"),
    "flat": ({"geometry": Geometry(rank=1), "sampling": Sampling(localization=0.0)}, "the effective dimension needs it"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_configuration_that_contradicts_itself_is_refused(case):
    changes, sentence = CONTRADICTIONS[case]
    with pytest.raises(UserError, match=sentence):
        check(dataclasses.replace(TINY, **changes))


@pytest.mark.parametrize("method", ["sgld", "metric", "underdamped"])
def test_every_sampler_has_its_own_step_unless_one_is_given(method):
    own = {"sgld": 3e-4, "metric": 0.02, "underdamped": 0.07}[method]
    assert Sampling(method=method).sampler().step_size == own
    assert Sampling(method=method, step_size=0.5).sampler().step_size == 0.5
    assert (Sampling(method=method).sampler().metric is None) == (method == "sgld")
