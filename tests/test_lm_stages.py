"""`lm-stages` and `refined-llc` on a tiny language, what they refuse, and that a killed run loses nothing."""

import contextlib
import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray

from configs import lm_stages as configs
from configs.refined_llc import RefinedLLC
from experiments.__main__ import main
from experiments.lm_stages import authors, heads, measure, memory
from experiments.registry import UserError
from experiments.run_folder import RunFolder
from slt_jax.data.packing import TokenBatches
from slt_jax.models.language_model import LanguageModel, init
from slt_jax.trees import num_parameters

SAMPLING = {
    "num_examples": 64,
    "batch_size": 8,
    "num_draws": 20,
    "num_burnin": 5,
    "checkpoint_steps": (4, 6, 8, 10, 12),
}
TINY = configs.LMStages(
    data=configs.Triggers(context=16, vocab_size=8, num_triggers=2),
    model=configs.Model(embed_dim=16, num_heads=4, num_layers=1),
    training=configs.Training(num_steps=12, checkpoint_every=4, batch_size=8),
    sampling=configs.Sampling(**SAMPLING, num_chains=2),
    refined=configs.Refined(**SAMPLING | {"num_chains": 2, "checkpoint_steps": (4, 8, 12)}),
    num_evaluation_sequences=32,
    num_probe_sequences=32,
)


def open_folder(path):
    """A run folder in which the memory and the authors' stages are known: they have their own tests, and cost a minute."""
    folder = RunFolder.open("lm-stages", "tiny", TINY, path)
    folder.piece("memory", lambda: memory.Memory(10**9, 2 * 10**9, 10**9)._asdict())
    folder.piece("authors", lambda: {"rows": [["LM1"] * 7]})
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a tiny run that was never interrupted."""
    folder = open_folder(tmp_path_factory.mktemp("runs") / "tiny")
    assert measure.run(TINY, folder) == []
    return folder


@pytest.mark.slow
def test_a_run_measures_and_reports(finished):
    from experiments.lm_stages import report

    report(finished)
    results = finished.read_results()
    assert results.head_llc.shape == (5, 1, 4)
    assert results.llc_trace.shape == (5, 2, 20)
    assert results.step.values.tolist() == [0, 4, 6, 8, 10, 12]
    assert results.loss.values[0] == pytest.approx(np.log(8), abs=0.5)
    assert np.isfinite(results.llc).all()
    assert np.isfinite(results.head_llc.sel(checkpoint=[4, 8, 12])).all()
    assert np.isnan(results.head_llc.sel(checkpoint=[6, 10])).all()
    summary = json.loads((finished.path / "summary.json").read_text())
    assert summary["diverged_chains"] == 0
    assert "1.00 GB to train, 2.00 GB to sample all weights" in summary["memory"]
    assert len(summary["stages"]) == len(summary["boundaries"]) + 1
    page = (finished.path / "report.html").read_text()
    assert page.count("data:image/png") == 5
    assert "induction oracle" in page


@pytest.mark.slow
def test_a_run_whose_every_chain_diverged_is_reported(finished, tmp_path):
    from experiments.lm_stages import report

    folder = open_folder(tmp_path / "lost")
    results = finished.read_results()
    lost = {name: np.nan * results[name] for name in results.data_vars if "llc" in str(name)}
    folder.write_results(
        results.assign(lost).assign(diverged=results.diverged + 1, head_diverged=results.head_diverged + 1)
    )
    report(folder)
    assert json.loads((folder.path / "summary.json").read_text())["diverged_chains"] == 10 + 24
    assert "34 chains diverged" in (folder.path / "report.html").read_text()


class Killed(Exception):
    """Stands for a kill: nothing of the run's own code handles it."""


def kill_in(monkeypatch, stage):
    """Let the run die at the second sign of progress of the stage whose bar is titled `stage`..."""

    @contextlib.contextmanager
    def bar(title, total, **options):
        seen = 0

        def update(completed, note=""):
            nonlocal seen
            seen += 1
            if title.startswith(stage) and seen == 2:
                raise Killed(title)

        yield update

    monkeypatch.setattr("experiments.lm_stages.measure.progress_bar", bar)
    monkeypatch.setattr("experiments.lm_stages.refined.progress_bar", bar)


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_bits(finished, tmp_path, monkeypatch):
    """Killed while training, while measuring, while sampling all weights and while sampling heads."""
    folder = open_folder(tmp_path / "killed")
    for stage in ("training", "scores", "LLC", "refined"):
        kill_in(monkeypatch, stage)
        with pytest.raises(Killed, match=stage):
            measure.run(TINY, folder)
    monkeypatch.undo()
    measure.run(TINY, folder)
    xarray.testing.assert_identical(folder.read_results(), finished.read_results())
    steps = [0, 4, 6, 8, 10, 12]
    task = measure.open_task(TINY, folder)
    first, second = (measure.stored_params(TINY, f, task, steps) for f in (finished, folder))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def refined_config(**changes):
    return RefinedLLC(**{"stages": TINY, "refined": TINY.refined, **changes})


@pytest.mark.slow
def test_refined_llc_samples_every_head_of_a_trained_model_on_every_source(finished, tmp_path):
    from experiments.refined_llc import report, run

    config = refined_config(trained_in=str(finished.path))
    folder = RunFolder.open("refined-llc", "tiny", config, tmp_path / "refined")
    folder.piece("memory", lambda: memory.Memory(1, 1, 1)._asdict())
    assert run(config, folder) == []
    assert not (folder.path / "checkpoints").exists()  # the trained ones are used
    report(folder)
    results = folder.read_results()
    assert results.source.values.tolist() == ["triggers", "bigrams"]
    at = results.sel(checkpoint=[4, 8, 12])
    assert np.isfinite(at.head_llc).all()
    assert np.isfinite(at.whole_llc).all()
    assert (at.head_llc.sel(source="triggers") != at.head_llc.sel(source="bigrams")).all()
    # The training data are the first source, and heads were sampled there in the same way: the same numbers.
    np.testing.assert_array_equal(
        at.head_llc.sel(source="triggers"), finished.read_results().head_llc.sel(checkpoint=[4, 8, 12])
    )
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["heads"] == ["0:0", "0:1", "0:2", "0:3"]
    assert len(summary["clusters"]) == len(summary["rise_then_fall"]) == 4
    assert (folder.path / "report.html").read_text().count("data:image/png") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": dataclasses.replace(TINY, seed=1)}, "was trained with another 'seed': 0 instead of 1"),
        ({"sources": ("books",)}, "there is no source 'books'; there are: triggers, bigrams"),
    ],
)
def test_refined_llc_refuses_another_training_and_an_unknown_source(changes, message, finished, tmp_path):
    from experiments.refined_llc import run

    config = refined_config(trained_in=str(finished.path), **changes)
    folder = RunFolder.open("refined-llc", "tiny", config, tmp_path / "other")
    folder.piece("memory", lambda: memory.Memory(1, 1, 1)._asdict())
    with pytest.raises(UserError, match=message):
        run(config, folder)


def _write(folder, text):
    folder.mkdir()
    (folder / "text.txt").write_bytes(text)
    return str(folder / "text.txt")


ENGLISH = b"the quick brown fox jumps over the lazy dog. " * 5000
REFUSED = {
    "no text": (None, [], "there is no text at"),
    "no UTF-8": (b"caf\xe9 " * 9000, [], "text.txt is not UTF-8 (byte 0xe9 at position 3); convert it"),
    "vocabulary": (ENGLISH, ["--data.vocab-size", "70000"], "vocab_size = 70000; stored as uint16"),
    "small corpus": (
        ENGLISH,
        ["--data.context", "100000"],
        "too few for one sequence of context = 100000; give more text",
    ),
    "no hold-out": (b"a few words", [], "'text' has too little text for a held_out split; give it more text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_text_that_cannot_be_used_is_refused_in_one_sentence(case, tmp_path, capsys):
    text, options, sentence = REFUSED[case]
    path = str(tmp_path / "absent.txt") if text is None else _write(tmp_path / "texts", text)
    arguments = ["lm-stages", "--config", "cpu", "--folder", str(tmp_path / "run"), "--data.paths", path, *options]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("error: ") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(("extra", "options"), [("tokenizers", []), ("datasets", ["--data.huggingface", "owner/name"])])
def test_a_missing_extra_is_named_with_its_command(extra, options, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, extra, None)
    path = _write(tmp_path / "texts", ENGLISH)
    arguments = ["lm-stages", "--config", "cpu", "--folder", str(tmp_path / "run"), "--data.paths", path, *options]
    assert main(arguments) == 2
    assert f"needs the package '{extra}'; install it with: pip install 'slt-jax[text]'" in capsys.readouterr().err


def test_memory_grows_with_the_batch():
    model = LanguageModel(16, 8, 16, 2, 1)
    size = 4 * num_parameters(init(jax.random.key(0), model))
    optimizer, tokens = optax.adamw(1e-3), jax.ShapeDtypeStruct((1000,), jnp.uint16)
    small, large = (memory.training_memory(model, TokenBatches(8, n), tokens, optimizer) for n in (4, 400))
    assert small > 3 * size  # parameters and two moments
    assert large > 20 * small
    assert memory.sampling_memory(model, configs.Sampling(num_examples=10, batch_size=4), 1000) > 1000 * size
    assert "does not fit an 80 GB card" in str(memory.Memory(1, 10**11, 1))


@pytest.mark.slow
def test_paper_compiles_and_fits_an_80_gb_card():
    config = configs.paper()
    model = LanguageModel(5000, 1024, 256, 8, 2)
    batches = TokenBatches(1024, config.training.batch_size)
    found = memory.estimate_memory(
        config, model, batches, jax.ShapeDtypeStruct((10**9,), jnp.uint16), optax.adamw(1e-3, weight_decay=0.05)
    )
    assert 20e9 < found.training < 60e9
    assert max(found) < memory.CARD


def test_small_questions_to_curves():
    steps, values = np.asarray([0, 10, 20, 30, 40]), np.asarray([0.0, 0.05, 0.5, 0.95, 1.0])
    assert heads.crossing(steps, values, 0.5) == 20
    assert heads.crossing(steps, values, 2.0) is None
    assert heads.crossing(steps, -values, -0.9, falling=True) == 30
    assert heads.window(steps, values) == (10, 30)
    at = {"coords": {"checkpoint": [5, 15, 25, 35]}, "dims": "checkpoint"}
    curve, error = xarray.DataArray([1.0, np.nan, 3.0, 7.0], **at), xarray.DataArray([0.3, 0.1, 0.1, 0.4], **at)
    assert heads.largest_change(curve, error, (10, 30)) == heads.Change(5, 35, 6.0, 0.5)
    hill = xarray.DataArray([1.0, 5.0, 4.0, 0.5], **at)
    assert heads.largest_change(hill, error, (5, 30))[:3] == (15, 35, -4.5)
    assert heads.largest_change(hill, error, (5, 20))[:3] == (5, 15, 4.0)
    assert np.isnan(heads.largest_change(curve * np.nan, error, (10, 30)).change)


@pytest.mark.slow
def test_the_authors_curves_have_the_published_stages():
    """Found without being told: within 8% of the published ends, and the same changes of LLC from LM2 on."""
    stages = authors.authors_stages()
    assert len(stages.boundaries) == 4
    for found, published in zip(stages.boundaries, authors.PUBLISHED, strict=False):
        assert found.step == pytest.approx(published.end, rel=0.08)
    for found, published in zip(stages.stages[1:], authors.PUBLISHED[1:], strict=True):
        assert found.llc_change == pytest.approx(published.llc_change, abs=0.4)
