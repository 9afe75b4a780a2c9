"""The files of `examples/` run as they are, are short, and print numbers that are right."""

import re
import runpy
import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SHORT = ["first_llc", "exact_values", "over_training", "equinox_model", "heat_map"]
ESTIMATE = re.compile(r"LLC (\S+) ± (\S+) \(")


@pytest.fixture
def printed(capsys, monkeypatch, tmp_path):
    """What an example prints, run where it can write its picture."""

    def run(name):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{name}.py"])
        with jax.numpy_rank_promotion("allow"):  # as a user has it
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        plt.close("all")
        return capsys.readouterr().out

    return run


def estimates(text):
    return [(float(mean), float(error)) for mean, error in ESTIMATE.findall(text)]


def test_every_example_is_tested_and_short():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SHORT, "own_experiment"}
    for name in SHORT:
        lines = [line for line in (EXAMPLES / f"{name}.py").read_text().splitlines() if line.strip()]
        assert len(lines) <= 36, name


def test_first_llc(printed):
    ((mean, error),) = estimates(printed("first_llc"))
    assert abs(mean - 10.5) < 3 * error < 1.5


def test_exact_values(printed):
    lines = [line.rsplit(":", 1)[1].split() for line in printed("exact_values").splitlines()]
    assert [line[0] for line in lines] == ["3/2", "1/2", "29", "2", "3/2", "4", "0.355"]


def test_over_training(printed, tmp_path):
    text = printed("over_training")
    assert [int(step) for step in re.findall(r"step (\d+):", text)] == [50, 100, 200, 400, 800]
    (tmp_path / "over_training.png").read_bytes()


def test_equinox_model(printed):
    (whole, error), (layer, layer_error) = estimates(printed("equinox_model"))
    assert 1 < layer < whole < 17 / 2 + 3 * error
    assert max(error, layer_error) < 0.5


def test_heat_map(printed, tmp_path):
    text = printed("heat_map")
    (_, (mean, error), _) = estimates(text)
    assert text.startswith("exact: 6.0")
    assert abs(mean - 6.0) < 3 * error + 0.05
    (tmp_path / "heat_map.png").read_bytes()
