"""What estimates say of themselves reaches the results, the report and the terminal."""

import numpy as np
import pytest
import xarray

from slt_lab.bench import Bench
from slt_lab.catalogue import Catalogue
from slt_lab.cli import main
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.joining import merged
from slt_lab.remarks import Remark, remarks, section
from tests.test_own_experiment import FILE, SMALL


def of(*statuses):
    return xarray.Dataset(
        {"llc_status": ("checkpoint", list(statuses))}, coords={"checkpoint": [10, 20, 30][: len(statuses)]}
    )


def test_every_estimate_that_is_not_ok_is_named_with_its_place():
    results = of("ok", "not a minimum: far from it", "ok")
    assert remarks(results) == ([Remark("llc", "checkpoint 20", "not a minimum: far from it")], 3)
    told = section(results)
    assert told.table.rows == [("llc", "checkpoint 20", "not a minimum: far from it")]
    assert told.paragraphs[0].startswith("1 of 3 estimates are not ok.")


def test_what_is_fine_is_said_in_one_sentence_and_what_has_no_status_not_at_all():
    assert section(of("ok", "ok")).paragraphs == ["All 2 estimates are ok."]
    assert section(of("ok", "ok")).table is None
    assert section(xarray.Dataset({"llc": 1.0})) is None


def test_a_checkpoint_that_was_not_measured_has_an_empty_status_and_is_not_counted():
    joined = merged(
        [of("ok", "too few draws: 3"), xarray.Dataset({"loss": ("checkpoint", [1.0])}, {"checkpoint": [30]})]
    )
    assert joined.llc_status.values.tolist() == ["ok", "too few draws: 3", ""]
    assert remarks(joined)[1] == 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remarks") / "run"
    assert (
        main([str(FILE), "--config", "demo", "--folder", str(folder), *SMALL], Catalogue("python -m slt_lab", {})) == 0
    )
    return folder


def test_the_report_of_an_untrained_network_says_that_it_is_no_minimum(finished, capsys):
    statuses = RunFolder.existing(finished).read_results().llc_status
    assert statuses.dims == ("checkpoint",)
    assert any("not a minimum" in str(one) for one in statuses.values)
    page = (finished / "report.html").read_text()
    assert "What the estimates say of themselves" in page
    assert "not a minimum" in page
    assert main(["report", str(finished)], Catalogue("python -m slt_lab", {})) == 0
    assert "3 of 3 estimates are not ok; the end of the report names them" in capsys.readouterr().err


def test_a_piece_without_a_variable_of_its_measure_is_named_with_what_to_do(tmp_path):
    class Piece:
        name, axis = "half", "checkpoint"

        def steps(self, subject):
            return [5]

        def variables(self, subject):
            return {"a": None, "b": None}

        def __repr__(self):
            return "Piece()"

    class Subject:
        name, identity = "network", ()

    folder = RunFolder(tmp_path, "x", "demo", {})
    (tmp_path / "config.json").write_text("{}")
    bench = Bench(folder)
    folder.pieces.write(bench._name(Subject(), Piece(), 5), {"a": np.zeros(())})
    with pytest.raises(UserError, match=r"\(b missing\); delete it, and the same command computes it again"):
        bench._gather(Subject(), Piece())
