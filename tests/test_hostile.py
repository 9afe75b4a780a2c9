"""Random command lines over all experiments: each is accepted, or refused in one sentence with nothing written."""

import random
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from experiments.catalogue import CATALOGUE
from slt_lab.cli import main
from slt_lab.experiment import Experiment

VALUES = [
    "0", "-1", "1", "3", "nan", "inf", "-inf", "1e30", "1e-30", "99999999999999999999", "", " ", "many", "None", "true", "0.5", "[]",
    "1 2", "../x", "/dev/null", "é", "'", "--", "sgld", "--folder", "\x00", "💥",
]  # fmt: skip


class Accepted(Exception):
    """What would have been run."""


def flags(config, prefix=""):
    """Every flag of a config."""
    for one in fields(config):
        value = getattr(config, one.name)
        name = f"{prefix}{one.name}".replace("_", "-")
        if is_dataclass(value):
            yield from flags(value, f"{name}.")
        else:
            yield f"--{name}"


def random_line(generator):
    names = list(CATALOGUE.listed)
    name = generator.choice(
        [*names, *names, *names, "lrt-stage", "", "report", "list", "sweep", "--config", "é", "x.py"]
    )
    configs, known = ["demo", "tiny", "cpu"], []
    if name in CATALOGUE.listed:
        experiment = CATALOGUE.find(name)
        configs = list(experiment.configs)
        known = list(flags(next(iter(experiment.configs.values()))()))
    line = [name]
    if generator.random() < 0.9:
        line += ["--config", generator.choice([*configs, *configs, *configs, "none", ""])]
    for _ in range(generator.randint(0, 4)):
        flag = generator.choice(
            [*known, *known, "--folder", "--worker", "--tolerate-divergence", "--no-such-flag", "--seed", "word"]
        )
        line.append(flag)
        line += generator.choices(VALUES, k=generator.choice([0, 1, 1, 1, 2]))
    return line


def outcome(line):
    try:
        return main(line, CATALOGUE)
    except SystemExit as stop:  # how tyro refuses a field
        return stop.code
    except Accepted:
        return "accepted"


def try_lines(count, seed, tmp_path, monkeypatch, capsys):
    """Exit code -> how often; nothing is computed."""

    def accept(self, config, folder):
        raise Accepted

    monkeypatch.setattr(Experiment, "compute", accept)
    monkeypatch.chdir(tmp_path)
    generator, counts = random.Random(seed), {}
    for _ in range(count):
        line = random_line(generator)
        before = set(Path(tmp_path).rglob("*"))
        code = outcome(line)
        captured = capsys.readouterr()
        assert code in (0, 2, "accepted"), (line, code, captured.err)
        assert "Traceback" not in captured.err, line
        if code == 2:
            assert set(Path(tmp_path).rglob("*")) == before, line
            assert captured.err.strip() or captured.out.strip(), line
        counts[code] = counts.get(code, 0) + 1
    return counts


def test_hostile_command_lines(tmp_path, monkeypatch, capsys):
    counts = try_lines(60, 0, tmp_path, monkeypatch, capsys)
    assert counts[2] > 30


@pytest.mark.slow
def test_a_thousand_hostile_command_lines(tmp_path, monkeypatch, capsys):
    counts = try_lines(1000, 1, tmp_path, monkeypatch, capsys)
    with capsys.disabled():
        print(f"\n1,000 command lines: {counts}")
