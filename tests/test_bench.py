"""The bench and its run folder: what is finished is never done again, workers share, and a second start is told who is at work."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from slt_lab.catalogue import Catalogue
from slt_lab.cli import main
from slt_lab.page import Page, Section, Table, render
from slt_lab.results import read_results
from slt_lab.subject import Subject

ROOT = Path(__file__).parent.parent
FILE = str(ROOT / "tests" / "data" / "line.py")
CATALOGUE = Catalogue("python -m slt_lab", {})


def call(capsys, *arguments):
    """Exit code, stdout and stderr of the command line, in this process."""
    try:
        code = main([str(argument) for argument in arguments], CATALOGUE)
    except SystemExit as stop:  # how tyro refuses a field
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run(capsys, folder, *flags):
    return call(capsys, FILE, "--config", "tiny", *flags, "--folder", folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "line"
    assert main([FILE, "--config", "tiny", "--folder", str(folder)], CATALOGUE) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def files_of(folder, *parts):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.joinpath(*parts).rglob("*")) if path.is_file()}


def test_results_have_one_schema(finished):
    results = read_results(finished)
    assert results.llc.dims == ("seed", "checkpoint")
    assert results.length.dims == ("seed", "step")
    assert results.step.values.tolist() == [0, 20, 40]
    assert results.checkpoint.values.tolist() == [20, 40]  # an untrained model is at no minimum
    assert results.llc_diverged.dtype == bool
    assert results.llc_trace.dims == ("seed", "checkpoint", "chain", "draw")
    for name, variable in results.data_vars.items():
        assert {"long_name", "units"} <= variable.attrs.keys(), name
    assert (results.llc.sel(checkpoint=40) > 0).all()


def test_a_finished_part_is_not_done_twice(copy, capsys):
    before = files_of(copy, "pieces")
    assert run(capsys, copy)[0] == 0
    assert files_of(copy, "pieces") == before


def test_other_settings_beside_it_train_nothing(copy, capsys):
    other = copy.parent / "other"
    code, _, err = run(capsys, other, "--sampling.localization", "3")
    assert code == 0
    assert err.count("trained already, in") == 2
    assert "minutes saved" in err
    one, two = read_results(copy), read_results(other)
    np.testing.assert_array_equal(one.length, two.length)
    assert (one.llc.values != two.llc.values).all()


def test_one_more_seed_costs_that_seed_alone(copy, capsys):
    more = copy.parent / "more"
    code, _, err = run(capsys, more, "--seeds", "0", "1", "2")
    assert code == 0
    assert err.count("trained already, in") == 2
    np.testing.assert_array_equal(read_results(more).llc.values[:2], read_results(copy).llc.values)
    # Taken over, not copied by hand: one file with two names.
    shared = sorted(path.relative_to(copy) for path in (copy / "pieces" / "llc").rglob("*.npz"))
    assert all(os.path.samefile(copy / name, more / name) for name in shared)


def test_a_checkpoint_asked_for_after_the_training_is_made(copy, capsys):
    other = copy.parent / "other"
    code, _, _ = run(capsys, other, "--sampling.checkpoint-steps", "10", "40")
    assert code == 0
    assert read_results(other).checkpoint.values.tolist() == [10, 40]


def test_a_deleted_checkpoint_is_made_again(copy, capsys):
    (store,) = (copy / "checkpoints").glob("seed_0-*")
    shutil.rmtree(store / "params" / "20")
    shutil.rmtree(copy / "pieces")
    before = read_results(copy)
    assert run(capsys, copy)[0] == 0
    assert read_results(copy).identical(before)


def test_two_labels_of_the_command_line_are_refused_twice(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for flags, sentence in {
        ("--folder", ""): "--folder is empty",
        ("--learning-rate", "0.1", "--learning-rate", "0.2"): "--learning-rate is given twice",
        ("--seeds", "1", "1"): "seeds names 1 twice",
        ("--seeds", "99999999999999999999"): "must be at most",
        ("--sampling.num-draws", "0"): "sampling.num_draws = 0; it must be at least 1",
        ("--worker=yes",): "--worker takes no value",
    }.items():
        code, out, err = call(capsys, FILE, "--config", "tiny", *flags)
        assert (code, out) == (2, ""), flags
        assert sentence in err
        assert list(tmp_path.iterdir()) == []


def test_a_training_that_blows_up_is_called_diverged(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path / "high", "--learning-rate", "1e30")
    assert code == 3
    assert "diverged: the training loss is" in err


# A shell lets what it starts in the background ignore Ctrl-C; a run started here is not to inherit that.
HEEDING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


def spawn(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", HEEDING, "-m", "slt_lab", FILE, "--config", "tiny", *map(str, arguments)], cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process, condition):
    while not condition():
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.02)


LONG = ("--num-steps", "3000000", "--seeds", "0")


def test_a_second_start_is_told_who_is_at_work_and_a_signal_stops_with_75(tmp_path, capsys):
    folder = tmp_path / "long"
    first = spawn(*LONG, "--folder", folder)
    wait_for(first, lambda: any(folder.glob("progress/*.json")))
    code, _, err = run(capsys, folder, *LONG)
    assert code == 2
    assert f"is at work: process {first.pid} on " in err
    assert "--worker" in err
    code, out, _ = call(capsys, "list", tmp_path)
    assert code == 0
    assert "at work" in out
    assert "training seed 0" in out
    first.terminate()
    assert "the same command continues" in first.communicate()[1]
    assert first.returncode == 75
    state = json.loads((folder / "provenance.json").read_text())["starts"][0]
    assert state["outcome"].startswith("Stopped: stopped at step ")
    assert "stopped" in call(capsys, "list", tmp_path)[1]
    reached = int(state["outcome"].split()[4])
    assert reached > 0
    again = spawn(*LONG, "--folder", folder)  # goes on where it stopped
    wait_for(
        again, lambda: any(json.loads(note.read_text())["first"] >= reached for note in folder.glob("progress/*.json"))
    )
    again.kill()
    again.communicate()
    assert "dead" in call(capsys, "list", tmp_path)[1]


def test_a_folder_that_vanishes_does_not_end_well(tmp_path, capsys, monkeypatch):
    from slt_lab.pieces import Pieces

    folder, write = tmp_path / "gone", Pieces.write

    def vanish(self, name, arrays):
        shutil.rmtree(folder, ignore_errors=True)
        write(self, name, arrays)

    monkeypatch.setattr(Pieces, "write", vanish)
    code, _, err = run(capsys, folder)
    assert code == 2
    assert "has vanished" in err


@pytest.mark.parametrize("place", ["/proc/nowhere/run", "/dev/null/run"])
def test_a_place_where_nothing_can_be_written_is_one_sentence(place, capsys):
    code, out, err = run(capsys, place)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_three_workers_share_a_folder(finished, tmp_path):
    folder = tmp_path / "shared"
    workers = [spawn("--worker", "--folder", folder) for _ in range(3)]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], said
    assert read_results(folder).identical(read_results(finished))


def test_ctrl_c_is_one_sentence_and_130(tmp_path):
    folder = tmp_path / "long"
    run = spawn(*LONG, "--folder", folder)
    wait_for(run, lambda: any(folder.glob("progress/*.json")))
    run.send_signal(signal.SIGINT)
    said = run.communicate()[1]
    assert run.returncode == 130, said
    assert "interrupted; the same command continues" in said
    assert "Traceback" not in said


def test_a_signal_stops_long_chains_with_their_state(tmp_path):
    """Stopped in sampling, the chains go on where they were, to the bits of a run that was left alone."""
    flags = ("--seeds", "0", "--sampling.num-draws", "400000", "--sampling.checkpoint-steps", "40")
    whole, stopped = tmp_path / "whole" / "run", tmp_path / "stopped" / "run"
    first = spawn(*flags, "--folder", stopped)
    wait_for(first, lambda: any(stopped.glob("work/*.lock")))
    first.terminate()
    said = first.communicate()[1]
    assert first.returncode == 75, said
    assert "stopped at step" in said
    assert any(stopped.glob("work/*.npz"))
    for folder in (stopped, whole):
        run = spawn(*flags, "--folder", folder)
        said = run.communicate()[1]
        assert run.returncode == 0, said
    assert read_results(stopped).identical(read_results(whole))
    assert not any(stopped.glob("work/*"))


def test_a_report_says_what_it_mixes(copy, capsys):
    path = copy / "provenance.json"
    record = json.loads(path.read_text())
    record.pop("sha256")
    record["starts"].append({**record["starts"][0], "commit": "another", "matmul_precision": "tensorfloat32"})
    path.write_text(json.dumps(record))
    assert call(capsys, "report", copy)[0] == 0
    page = (copy / "report.html").read_text()
    assert "computed under several commits" in page
    assert "computed under several matmul precisions" in page


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_a_disk_that_refuses_is_one_sentence(number, tmp_path, capsys, monkeypatch):
    """From the first file on, and from a piece on, when training is done."""
    for spared in (0, 12):
        calls = iter(range(10**6))
        replace = os.replace

        def refuse(*paths, calls=calls, spared=spared, replace=replace):
            if next(calls) >= spared:
                raise OSError(number, os.strerror(number), str(paths[1]))
            return replace(*paths)

        monkeypatch.setattr("slt_jax.files.os.replace", refuse)
        code, out, err = run(capsys, tmp_path / str(spared) / "run")
        monkeypatch.undo()
        sentence = err.splitlines()[-1]
        assert (code, out) == (2, "")
        assert sentence.startswith("error: ")
        assert os.strerror(number) in sentence
        assert "Traceback" not in err


@pytest.mark.parametrize("name", ["x" * 300, "a\x00b"])
def test_a_name_that_no_disk_takes_is_one_sentence(name, tmp_path, capsys):
    code, out, err = run(capsys, tmp_path / name)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_a_file_in_the_way_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("here already")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        code, _, err = run(capsys, folder)
        assert code == 2
        assert err.startswith("error: ")
    assert (tmp_path / "file").read_text() == "here already"


def test_a_page_has_contents_with_the_headline_of_each_section_and_needs_no_network():
    sections = [Section("First", headline="LLC 3 ± 1"), Section("Second", table=Table(["a"], [["1"], ["2"], ["3"]]))]
    html = render(Page("t", "l", sections), {}, "", "")
    contents = html.split("<nav")[1].split("</nav>")[0]
    assert (
        contents.index('href="#section-1">First')
        < contents.index("LLC 3 ± 1")
        < contents.index('href="#section-2">Second')
    )
    assert html.count("LLC 3 ± 1") == 2
    assert html.count('id="section-') == 2
    assert "prefers-color-scheme: dark" in html
    assert "aria-sort" in html
    assert "http" not in html


def test_a_picture_is_kept_as_png_and_as_svg_in_the_style_of_reports(tmp_path):
    import matplotlib.pyplot as plt

    from slt_lab.page import STYLE, Picture, save_picture

    with plt.style.context(STYLE):
        figure, ax = plt.subplots()
    assert not ax.spines["top"].get_visible()
    png = save_picture(tmp_path, Picture("name", figure, "caption"))
    assert (tmp_path / "figures" / "name.png").read_bytes() == png
    assert png.startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "figures" / "name.svg").read_text()
    assert not plt.get_fignums()


def test_a_table_has_no_nan_and_no_empty_column():
    page = Page("t", "l", [Section("s", table=Table(["a", "b", "c"], [["1", "nan", "+nan"], ["2", "nan ± nan", "3"]]))])
    html = render(page, {}, "", "")
    assert "nan" not in html
    assert "<th>a</th><th>c</th>" in html


def test_checkpoints_that_training_does_not_reach_are_named_once(capsys):
    def subject(num_steps):
        return Subject(
            name="one", identity=(), loss_fn=len, init=dict, posterior_data=len, chains_key=jax.random.key(0),
            num_steps=num_steps, save_at=(0, 17, 34),
        )  # fmt: skip

    assert [subject(34).sampled_steps((17, 51)) for _ in range(2)] == [[17], [17]]
    assert capsys.readouterr().err.count("checkpoint_steps 51: beyond the 34 steps of training") == 1
    assert subject(34).sampled_steps((68, 51)) == [17, 34]
    assert "51, 68" in (told := capsys.readouterr().err)
    assert "all that are kept are measured instead" in told
