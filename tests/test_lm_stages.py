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
from configs.language_models import HEADS, WHOLE
from configs.refined_llc import RefinedLLC
from experiments.catalogue import CATALOGUE
from experiments.lm_stages import EXPERIMENT, authors, heads
from experiments.refined_llc import EXPERIMENT as REFINED
from slt_jax.data.packing import TokenBatches
from slt_jax.models.language_model import LanguageModel, init
from slt_jax.trees import num_parameters
from slt_lab.bench import Bench
from slt_lab.cli import main
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.heads import crossing
from slt_lab.measures import memory
from slt_lab.settings import Sampling
from slt_lab.subjects.language_settings import LanguageSettings, Model, Text, Training, Triggers

SAMPLING = {
    "num_examples": 64,
    "batch_size": 8,
    "num_draws": 20,
    "num_burnin": 5,
    "num_chains": 2,
    "checkpoint_steps": (4, 6, 8, 10, 12),
}
LANGUAGE = LanguageSettings(
    data=Triggers(context=16, vocab_size=8, num_triggers=2),
    model=Model(embed_dim=16, num_heads=4, num_layers=1),
    training=Training(num_steps=12, checkpoint_every=4, batch_size=8),
    num_evaluation_sequences=32,
    num_probe_sequences=32,
)
TINY = configs.LMStages(
    **vars(LANGUAGE),
    sampling=dataclasses.replace(WHOLE, **SAMPLING),
    refined=dataclasses.replace(HEADS, **SAMPLING | {"checkpoint_steps": (4, 8, 12)}),
)


def open_folder(path, config=TINY, experiment=EXPERIMENT):
    """A run folder in which the memory and the authors' stages are known: they have their own tests, and cost a minute."""
    folder = RunFolder.open(experiment.name, "tiny", config, path)
    folder.piece("memory", lambda: memory.Memory(10**9, 2 * 10**9, 10**9)._asdict())
    folder.piece("authors", lambda: {"rows": [["LM1"] * 7]})
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a tiny run that was never interrupted."""
    folder = open_folder(tmp_path_factory.mktemp("runs") / "tiny")
    assert EXPERIMENT.compute(TINY, folder) == []
    return folder


@pytest.mark.slow
def test_a_run_measures_and_reports(finished):
    EXPERIMENT.report(TINY, finished)
    results = finished.read_results()
    assert results.head_llc.shape == (5, 1, 4)
    assert results.llc_trace.shape == (5, 2, 20)
    assert results.attention.dims == ("step", "layer", "head", "query", "key")
    assert results.step.values.tolist() == [0, 4, 6, 8, 10, 12]
    assert results.loss.values[0] == pytest.approx(np.log(8), abs=0.5)
    assert np.isfinite(results.llc).all()
    assert np.isfinite(results.head_llc.sel(checkpoint=[4, 8, 12])).all()
    assert np.isnan(results.head_llc.sel(checkpoint=[6, 10])).all()
    assert results.llc_diverged.dtype == results.head_llc_diverged.dtype == bool
    assert results.head_llc_diverged.dims == ("checkpoint", "layer", "head", "refined_chain")
    summary = json.loads((finished.path / "summary.json").read_text())
    assert summary["diverged_chains"] == 0
    assert list(summary["baselines"]) == ["uniform", "bigram", "induction oracle"]
    assert "1.00 GB to train, 2.00 GB to sample all weights" in summary["memory"]
    assert len(summary["stages"]) == len(summary["boundaries"]) + 1
    page = (finished.path / "report.html").read_text()
    assert page.count("data:image/png") == 5
    assert "induction oracle" in page


@pytest.mark.slow
def test_a_run_whose_every_chain_diverged_is_reported(finished, tmp_path):
    folder = open_folder(tmp_path / "lost")
    results = finished.read_results()
    lost = {name: np.nan * results[name] for name in results.data_vars if "llc" in str(name)}
    diverged = {f"{name}_diverged": results[f"{name}_per_chain"].notnull() for name in ("llc", "head_llc")}
    folder.write_results(results.assign(lost).assign(diverged))
    EXPERIMENT.report(TINY, folder)
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

    monkeypatch.setattr("slt_lab.reporting.progress_bar", bar)


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_bits(finished, tmp_path, monkeypatch):
    """Killed while training, while measuring, while sampling all weights and while sampling heads."""
    folder = open_folder(tmp_path / "killed")
    for stage in ("training", "knowledge", "llc", "refined LLC"):
        kill_in(monkeypatch, stage)
        with pytest.raises(Killed, match=stage):
            EXPERIMENT.compute(TINY, folder)
    monkeypatch.undo()
    EXPERIMENT.compute(TINY, folder)
    xarray.testing.assert_identical(folder.read_results(), finished.read_results())
    subject = EXPERIMENT.subjects(TINY, folder)["model"]
    for step in (0, 4, 6, 8, 10, 12):
        first, second = (Bench(f).params(subject, step) for f in (finished, folder))
        jax.tree.map(np.testing.assert_array_equal, first, second)


def refined_config(**changes):
    return RefinedLLC(**{**vars(LANGUAGE), "refined": TINY.refined, **changes})


@pytest.mark.slow
def test_refined_llc_samples_every_head_of_a_trained_model_on_every_source(finished, capsys):
    """In a folder beside that of `lm-stages`: what is trained and measured there is not done again."""
    config = refined_config()
    folder = open_folder(finished.path.parent / "refined", config, REFINED)
    assert REFINED.compute(config, folder) == []
    assert f"trained already, in {finished.path}" in capsys.readouterr().err
    own, theirs = ({path.relative_to(f.path): path.stat().st_ino for path in f.path.rglob("pieces/refined_LLC/*/*.npz")} for f in (folder, finished))  # fmt: skip
    assert len(own) == 3
    assert own == theirs  # the same files: sampled once
    REFINED.report(config, folder)
    results = folder.read_results()
    assert results.source.values.tolist() == ["triggers", "bigrams"]
    assert results.checkpoint.values.tolist() == [4, 8, 12]
    assert results.head_llc.dims == ("source", "checkpoint", "layer", "head")
    assert results.loss.dims == ("step",)
    assert np.isfinite(results.head_llc).all()
    assert np.isfinite(results.whole_llc).all()
    assert (results.head_llc.sel(source="triggers") != results.head_llc.sel(source="bigrams")).all()
    # The training data are the first source, and heads were sampled there in the same way: the same numbers.
    np.testing.assert_array_equal(
        results.head_llc.sel(source="triggers"), finished.read_results().head_llc.sel(checkpoint=[4, 8, 12])
    )
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["heads"] == ["0:0", "0:1", "0:2", "0:3"]
    assert len(summary["clusters"]) == len(summary["rise_then_fall"]) == 4
    assert (folder.path / "report.html").read_text().count("data:image/png") == 1


@pytest.mark.slow
def test_only_the_same_training_is_taken_over(finished, capsys):
    """Another seed is another training; more steps are the same one, which goes on."""
    config = refined_config(seed=1)
    subject = REFINED.subjects(config, open_folder(finished.path.parent / "other", config, REFINED))["model"]
    assert subject.identity != EXPERIMENT.subjects(TINY, finished)["model"].identity
    longer = dataclasses.replace(TINY, training=dataclasses.replace(TINY.training, num_steps=16))
    folder = open_folder(finished.path.parent / "longer", longer)
    bench, subjects = Bench(folder), EXPERIMENT.subjects(longer, folder)
    results = bench.run(subjects, EXPERIMENT.measures(longer)[:1], None)
    assert "trained already" in capsys.readouterr().err
    assert results.step.values.tolist() == [0, 4, 6, 8, 10, 12, 16]
    np.testing.assert_array_equal(results.loss[:6], finished.read_results().loss)
    alone = open_folder(folder.path.parent / "elsewhere" / "longer", longer)
    again = Bench(alone).run(EXPERIMENT.subjects(longer, alone), EXPERIMENT.measures(longer)[:1], None)
    xarray.testing.assert_identical(again, results)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ("books",)}, "there is no source 'books'; there are: triggers, bigrams"),
        ({"model": Model(embed_dim=20, num_heads=3)}, "embed_dim = 20 must be a multiple of num_heads = 3"),
        ({"data": Triggers(vocab_size=8, num_triggers=8)}, "num_triggers = 8; it must be below vocab_size = 8"),
        ({"data": Text(held_out=0.6, paths=())}, "held_out = 0.6; it must be a fraction above 0 and at most 0.5"),
        ({"data": Text(paths=())}, "data has neither paths nor huggingface"),
        ({"refined": Sampling(step_size=None)}, "refined.step_size is missing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(changes, message):
    with pytest.raises((UserError, ValueError), match=message):
        REFINED.check(refined_config(**changes))
    if "sources" not in changes:
        with pytest.raises((UserError, ValueError), match=message):
            EXPERIMENT.check(dataclasses.replace(TINY, **changes))


def test_the_catalogue_says_what_the_experiments_say():
    for experiment in (EXPERIMENT, REFINED):
        listed = CATALOGUE.listed[experiment.name]
        assert (listed.summary, listed.paper) == (experiment.summary, experiment.paper)
        assert CATALOGUE.find(experiment.name) is experiment


def _write(folder, text):
    folder.mkdir()
    (folder / "text.txt").write_bytes(text)
    return str(folder / "text.txt")


ENGLISH = b"the quick brown fox jumps over the lazy dog. " * 5000
REFUSED = {
    "no text": (None, [], "there is no text at"),
    "no UTF-8": (b"caf\xe9 " * 40_000, [], "text.txt is not UTF-8 (byte 0xe9 at position 3); convert it"),
    "vocabulary": (ENGLISH, ["--data.vocab-size", "70000"], "vocab_size = 70000; stored as uint16"),
    "small corpus": (
        ENGLISH,
        ["--data.context", "100000"],
        "too few for one sequence of context = 100000; give more text",
    ),
    "no hold-out": (b"a few words", [], "'text' has too little text for a held_out split; give it more text"),
}


WITHOUT_READING = ("no text", "vocabulary", "small corpus", "no hold-out")
"""What is refused before the run folder is made."""


@pytest.mark.parametrize("case", REFUSED)
def test_text_that_cannot_be_used_is_refused_in_one_sentence(case, tmp_path, capsys):
    text, options, sentence = REFUSED[case]
    path = str(tmp_path / "absent.txt") if text is None else _write(tmp_path / "texts", text)
    arguments = ["lm-stages", "--config", "cpu", "--folder", str(tmp_path / "run"), "--data.paths", path, *options]
    assert main(arguments, CATALOGUE) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert (tmp_path / "run").exists() == (case not in WITHOUT_READING)
    assert captured.err.count("error: ") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(("extra", "options"), [("tokenizers", []), ("datasets", ["--data.huggingface", "owner/name"])])
def test_a_missing_extra_is_named_with_its_command(extra, options, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, extra, None)
    path = _write(tmp_path / "texts", ENGLISH)
    arguments = ["lm-stages", "--config", "cpu", "--folder", str(tmp_path / "run"), "--data.paths", path, *options]
    assert main(arguments, CATALOGUE) == 2
    assert f"needs the package '{extra}'; install it with: pip install 'slt-jax[text]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


TEXT = dataclasses.replace(
    TINY, data=Text(context=16, vocab_size=300), model=Model(embed_dim=16, num_heads=4), num_evaluation_sequences=8
)


def open_text(path, text, **changes):
    """The subject that a run in `path` trains on the file `text`."""
    config = dataclasses.replace(TEXT, data=dataclasses.replace(TEXT.data, paths=(text,), **changes))
    return EXPERIMENT.subjects(config, RunFolder.open("lm-stages", "cpu", config, path))["model"]


def test_text_is_tokenized_once_for_all_runs_beside_each_other(tmp_path, monkeypatch, capsys):
    """A run takes the tokens over from its neighbour, wherever the text lies; other text or another vocabulary is packed anew."""
    first = open_text(tmp_path / "runs" / "a", _write(tmp_path / "texts", ENGLISH))
    moved = _write(tmp_path / "moved", ENGLISH)
    packed = []
    monkeypatch.setattr("slt_lab.subjects.corpora.pack", lambda *args, **options: packed.append(args) or 1 / 0)
    second = open_text(tmp_path / "runs" / "b", moved, context=24)
    assert f"tokenized already, in {tmp_path / 'runs' / 'a'}" in capsys.readouterr().err
    np.testing.assert_array_equal(first.data, second.data)
    assert first.identity != second.identity  # another context is another training
    assert first.identity == open_text(tmp_path / "runs" / "c", moved).identity
    assert not packed
    for name, text, changes in (("d", ENGLISH + b"end", {}), ("e", ENGLISH, {"vocab_size": 301})):
        with pytest.raises(ZeroDivisionError):
            open_text(tmp_path / "runs" / name, _write(tmp_path / name, text), **changes)


def test_damaged_tokens_are_refused(tmp_path):
    text = _write(tmp_path / "texts", ENGLISH)
    open_text(tmp_path / "run", text)
    for file in sorted((tmp_path / "run" / "data").rglob("*.*")):
        whole = file.read_bytes()
        for damaged in (
            whole[: len(whole) // 2],
            bytes([whole[0] ^ 1]) + whole[1:],
            whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:],
        ):
            file.write_bytes(damaged)
            with pytest.raises(UserError, match="delete the folder"):
                open_text(tmp_path / "run", text)
        file.write_bytes(whole)
    open_text(tmp_path / "run", text)


def test_memory_grows_with_the_batch():
    model = LanguageModel(16, 8, 16, 2, 1)
    size = 4 * num_parameters(init(jax.random.key(0), model))
    optimizer, tokens = optax.adamw(1e-3), jax.ShapeDtypeStruct((1000,), jnp.uint16)
    small, large = (memory.training_memory(model, TokenBatches(8, n), tokens, optimizer) for n in (4, 400))
    assert small > 3 * size  # parameters and two moments
    assert large > 20 * small
    assert memory.sampling_memory(model, Sampling(num_examples=10, batch_size=4), 1000) > 1000 * size
    assert "does not fit an 80 GB card" in str(memory.Memory(1, 10**11, 1))


@pytest.mark.slow
def test_paper_compiles_and_fits_an_80_gb_card():
    config = configs.paper()
    model = LanguageModel(5000, 1024, 256, 8, 2)
    batches = TokenBatches(1024, config.training.batch_size)
    tokens, optimizer = jax.ShapeDtypeStruct((10**9,), jnp.uint16), optax.adamw(1e-3, weight_decay=0.05)
    found = memory.estimate_memory(model, batches, tokens, optimizer, config.sampling, config.refined)
    assert 20e9 < found.training < 60e9
    assert max(found) < memory.CARD


def test_small_questions_to_curves():
    steps, values = np.asarray([0, 10, 20, 30, 40]), np.asarray([0.0, 0.05, 0.5, 0.95, 1.0])
    assert crossing(steps, values, 0.5) == 20
    assert crossing(steps, values, 2.0) is None
    assert crossing(steps, -values, -0.9, falling=True) == 30
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
