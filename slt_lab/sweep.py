"""A sweep: one experiment at every combination of seeds and settings, each a run folder of its own under one folder."""

import itertools
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from slt_lab.catalogue import Catalogue, config_of
from slt_lab.errors import UserError
from slt_lab.folder import RUNS
from slt_lab.records import read_record, write_record

__all__ = ["Run", "Sweep", "plan", "read_sweep", "write_sweep"]

NAME = "sweep.json"


@dataclass(frozen=True)
class Run:
    """One run of a sweep: where it is kept and the flags that make it differ from the config."""

    folder: Path
    flags: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        """Its flags in short."""
        return ", ".join(f"{name.rsplit('.', 1)[-1]} {value}" for name, value in self.flags)

    def arguments(self, experiment: str, config: str) -> list[str]:
        """Of the command line that runs it."""
        given = [part for name, value in self.flags for part in (f"--{name}", value)]
        return [experiment, "--config", config, *given, "--folder", str(self.folder)]


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, and what they are runs of."""

    command: tuple[str, ...]
    experiment: str
    config: str
    folder: Path
    runs: tuple[Run, ...]

    def command_of(self, run: Run) -> list[str]:
        """The whole command of one run."""
        return [*self.command, *run.arguments(self.experiment, self.config)]

    def printed(self) -> list[str]:
        """Every command as a line for a shell."""
        return [shlex.join(self.command_of(run)) for run in self.runs]


def plan(
    catalogue: Catalogue,
    experiment: str,
    config: str,
    seeds: Sequence[int],
    settings: Mapping[str, Sequence[str]],
    name: str,
) -> Sweep:
    """Every combination of `seeds` and the values of `settings` (flag -> values).

    Raises:
        UserError: if the experiment has no such config or field, or nothing varies.
    """
    default = config_of(catalogue.find(experiment), config)()
    for flag in settings:
        _check_field(default, flag)
    axes = [[(flag, value) for value in values] for flag, values in settings.items()]
    if seeds:
        field = _seed_field(default, experiment)
        axes.append([(field, str(seed)) for seed in seeds])
    if not axes:
        raise UserError("a sweep needs --seeds or --set FIELD VALUE VALUE: nothing varies")
    stem = Path(experiment).stem
    folder = RUNS / "sweeps" / (name or f"{stem}-{config}")
    runs = [Run(folder / _folder_name(flags), tuple(flags)) for flags in itertools.product(*axes)]
    known = experiment if experiment in catalogue.listed else str(Path(experiment).resolve())
    return Sweep((sys.executable, *catalogue.command.split()[1:]), known, config, folder, tuple(runs))


def _folder_name(flags: Sequence[tuple[str, str]]) -> str:
    text = ",".join(f"{name.rsplit('.', 1)[-1]}={value}" for name, value in flags)
    return "".join(letter if letter.isalnum() or letter in "=,.-_+" else "_" for letter in text)


def _check_field(config: Any, flag: str) -> None:
    at = config
    for part in flag.replace("-", "_").split("."):
        names = [one.name for one in fields(at)] if is_dataclass(at) else []
        if part not in names:
            raise UserError(f"there is no field '{flag}'; there are: {', '.join(names) or 'none under it'}")
        at = getattr(at, part)


def _seed_field(config: Any, experiment: str) -> str:
    names = {one.name for one in fields(config)}
    for name in ("seeds", "seed"):
        if name in names:
            return name
    raise UserError(
        f"{experiment} has neither a field 'seed' nor 'seeds'; vary what it has with --set FIELD VALUE VALUE"
    )


def parse_seeds(text: str) -> list[int]:
    """`"0..4"` or `"0,3,7"` as a list.

    Raises:
        UserError: if it is neither.
    """
    try:
        if ".." in text:
            first, last = (int(part) for part in text.split(".."))
            return list(range(first, last + 1))
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UserError(f"--seeds {text} is neither a range like 0..4 nor a list like 0,3,7") from error


def write_sweep(sweep: Sweep) -> None:
    """Keep what belongs to a sweep, so that it can be reported; one that is there must be of the same experiment and gains runs."""
    runs = {str(run.folder): [list(flag) for flag in run.flags] for run in sweep.runs}
    path = sweep.folder / NAME
    if path.exists():
        before = read_record(path, "delete it, and start the sweep again")
        if (before["experiment"], before["config"]) != (sweep.experiment, sweep.config):
            raise UserError(
                f"{sweep.folder} holds a sweep of {before['experiment']}, config {before['config']}; give another --name"
            )
        runs = {**before["runs"], **runs}
    write_record(path, {"experiment": sweep.experiment, "config": sweep.config, "runs": runs})


def read_sweep(folder: Path) -> Sweep:
    """The sweep kept in `folder`."""
    found = read_record(folder / NAME, "start the sweep again")
    runs = tuple(
        Run(Path(path), tuple((name, value) for name, value in flags)) for path, flags in found["runs"].items()
    )
    return Sweep((), found["experiment"], found["config"], folder, runs)
