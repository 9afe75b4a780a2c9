"""A run folder written before a configuration gained a field continues as the same run, if the field has its default."""

import json
from dataclasses import dataclass, field

import pytest

from slt_lab.errors import UserError
from slt_lab.folder import RunFolder


@dataclass(frozen=True)
class Inner:
    draws: int = 3
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Config:
    seed: int
    inner: Inner = field(default_factory=Inner)
    rate: float = 0.1


def write_record(path, config):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"experiment": "x", "config_name": "c", "config": config}))


def test_new_fields_at_their_defaults_are_the_same_run(tmp_path):
    write_record(tmp_path / "run", {"seed": 1, "inner": {"steps": [1, 2]}})
    config = Config(1, Inner(steps=(1, 2)))
    folder = RunFolder.open("x", "c", config, tmp_path / "run")
    assert folder.config == {"seed": 1, "inner": {"draws": 3, "steps": [1, 2]}, "rate": 0.1}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"] == folder.config


@pytest.mark.parametrize(
    ("stored", "config"),
    [
        ({"seed": 1}, Config(1, rate=0.2)),
        ({"seed": 1}, Config(1, Inner(draws=4))),
        ({"seed": 2}, Config(1)),
        ({"inner": {}}, Config(1)),
        ({"seed": 1, "gone": 0}, Config(1)),
    ],
)
def test_anything_else_is_another_run(tmp_path, stored, config):
    write_record(tmp_path / "run", stored)
    with pytest.raises(UserError, match="another run"):
        RunFolder.open("x", "c", config, tmp_path / "run")
