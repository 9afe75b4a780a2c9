"""Run folders: everything a run leaves behind, written so that a killed run continues and no file is half there."""

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from slt_jax.progress import Stopped
from slt_lab import results
from slt_lab.errors import UserError
from slt_lab.pieces import Pieces, taken
from slt_lab.provenance import read_starts, recorded
from slt_lab.records import read_record, write_record, write_text
from slt_lab.reporting import Reporter
from slt_lab.signals import asked_to_stop
from slt_lab.work import at_hand

if TYPE_CHECKING:
    import xarray

__all__ = ["RUNS", "RunFolder"]

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """A folder for one configuration of one experiment.

    Holds `config.json` (enough to run it again), `provenance.json` (every start), `checkpoints/`, `pieces/` (finished parts),
    `results.zarr` with `results.json` (its digest), `summary.json`, `figures/`, `report.html`. Finished work of the folders
    beside it, and of those in `runs/`, is taken over.
    """

    path: Path
    experiment: str
    config_name: str
    config: dict[str, Any]

    @staticmethod
    def open(experiment: str, config_name: str, config: Any, path: Path | None = None) -> "RunFolder":
        """The folder for `config`, made or continued; a folder of anything else is refused.

        Raises:
            UserError: if the folder holds something else or cannot be written.
        """
        fields = json.loads(json.dumps(dataclasses.asdict(config)))
        record = {"experiment": experiment, "config_name": config_name, "config": fields}
        digest = hashlib.sha256(json.dumps([experiment, fields], sort_keys=True).encode()).hexdigest()[:8]
        path = path or RUNS / f"{Path(experiment).stem}-{config_name}-{digest}"
        stored = path / "config.json"
        try:
            is_run, is_taken = stored.exists(), path.exists() and (not path.is_dir() or any(path.iterdir()))
        except OSError as error:
            raise UserError(f"{path} cannot be a run folder ({error.strerror}); give another --folder") from error
        if is_run:
            found = _read_config(stored)
            if found["experiment"] != experiment or not _same_config(found["config"], config):
                raise UserError(
                    f"run folder {path} holds another run ({found['experiment']}); give another --folder: beside it, finished "
                    "work is taken over"
                )
            if found["config"] != fields:  # it gains the fields that are new since, at their defaults
                write_record(stored, {**found, "config": fields})
        elif is_taken:
            raise UserError(f"{path} exists and is not a run folder; give another --folder or move it away")
        else:
            write_record(stored, record)
        return RunFolder(path, experiment, config_name, fields)

    @staticmethod
    def existing(path: Path) -> "RunFolder":
        """An existing run folder.

        Raises:
            UserError: if there is none, or its record is damaged.
        """
        stored = path / "config.json"
        if not stored.exists():
            raise UserError(f"{path} is not a run folder (it has no config.json)")
        return RunFolder(path, **_read_config(stored))

    @cached_property
    def source(self) -> str:
        """Digest of the file that holds the experiment, if it is a user's own: what its functions compute may have changed."""
        file = Path(self.experiment)
        if file.suffix != ".py" or not file.is_file():
            return ""
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12]

    def _tell_changes(self) -> None:
        """Say that an earlier start of this folder ran another version of the file."""
        if {start.get("source", self.source) for start in read_starts(self.path)} - {self.source}:
            Reporter.say(
                f"{self.experiment} has changed since {self.path} was begun: what is finished there stays as it was computed; "
                "another --folder computes everything anew"
            )

    @contextlib.contextmanager
    def at_work(self, *, worker: bool = False) -> Iterator[None]:
        """Record this start, and hold the folder against a second one; workers share it.

        Raises:
            UserError: if another start holds it, saying who.
        """
        self._tell_changes()
        if worker:
            with recorded(self.path, worker=True, source=self.source):
                yield
            return
        with taken(self.path / "locks" / "run.lock") as alone:
            if not alone:
                raise UserError(
                    f"{self.path} is at work: {self._holder()}; wait until it ends, or help it with --worker"
                )
            with recorded(self.path, worker=False, source=self.source):
                yield

    @contextlib.contextmanager
    def assembling(self) -> Iterator[None]:
        """Hold the results and the report against other workers, which wait."""
        with FileLock(self.path / "locks" / "report.lock"):
            yield

    def _holder(self) -> str:
        starts = [
            start for start in read_starts(self.path) if start.get("outcome") == "at work" and not start.get("worker")
        ]
        if not starts:
            return "another process has just begun"
        last = starts[-1]
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last["started"]))
        job = f", Slurm job {last['job']}" if "job" in last else ""
        return f"process {last['pid']} on {last['host']}{job}, since {since}"

    def neighbours(self) -> list[Path]:
        """Other run folders whose finished work may be taken over: those beside this one, and those in `runs/`; of a user's own
        experiment those that were run from the same text of its file alone."""
        own = self.path.absolute()
        parents = dict.fromkeys((own.parent, RUNS.absolute()))
        found = [path for parent in parents if parent.is_dir() for path in sorted(parent.iterdir()) if path != own]
        return [path for path in found if (path / "config.json").is_file() and self._is_of_same_source(path)]

    def _is_of_same_source(self, path: Path) -> bool:
        if not self.source:
            return True
        try:
            return {start.get("source") for start in read_starts(path)} == {self.source}
        except UserError:
            return False  # damaged: nothing is taken from it

    @property
    def pieces(self) -> Pieces:
        """Its finished parts."""
        return Pieces(self.path, self.neighbours)

    def piece(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, np.ndarray]:
        """The arrays of a finished part, computed once and never again; `name` may contain folders.

        Raises:
            Stopped: if it would have to be computed and a signal has come.
        """
        path, lock = self.pieces.path(name), self.pieces.lock(name)
        while not path.exists():
            if asked_to_stop():
                raise Stopped(f"stopped before {name}")
            with taken(lock) as mine:
                if mine and not path.exists():
                    with at_hand(self.path / "work" / lock.stem):
                        self.pieces.write(name, compute())
            if not mine:
                time.sleep(1.0)  # another worker is at it
        return self.pieces.read(name)

    def has_piece(self, name: str) -> bool:
        """Whether the part `name` is finished."""
        return self.pieces.path(name).exists()

    def write_results(self, dataset: "xarray.Dataset") -> None:
        """Store an `xarray.Dataset` as `results.zarr`, replacing an earlier one whole."""
        results.write_results(self.path, dataset)

    def read_results(self) -> "xarray.Dataset":
        """The stored `xarray.Dataset`, loaded into memory."""
        return results.read_results(self.path)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """The numbers of the report's table, as `summary.json`; one that is not finite is null, as JSON has no other."""
        text = json.dumps(_plain(summary), indent=2, default=float, allow_nan=False)
        write_text(self.path / "summary.json", text + "\n")


def _plain(value: Any) -> Any:
    """`value` with numbers of numpy as Python's, and those that are not finite as `None`."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # an array or a scalar of numpy, JAX or xarray
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_config(path: Path) -> dict[str, Any]:
    remedy = "the run folder is damaged: the same command with another --folder takes over what is finished in it"
    found = read_record(path, remedy)
    missing = [name for name in ("experiment", "config_name", "config") if name not in found]
    if missing:
        raise UserError(f"{path} lacks the field '{missing[0]}'; {remedy}")
    return {name: found[name] for name in ("experiment", "config_name", "config")}


def _same_config(stored: Any, config: Any) -> bool:
    """Whether `stored` describes `config`; a field that is newer than the record may be missing if it has its default."""
    if isinstance(config, (tuple, list)):
        return isinstance(stored, list) and len(stored) == len(config) and all(map(_same_config, stored, config))
    if not dataclasses.is_dataclass(config):
        return stored == json.loads(json.dumps(config))
    fields = {field.name: field for field in dataclasses.fields(config)}
    if not isinstance(stored, dict) or not stored.keys() <= fields.keys():
        return False
    return all(
        _same_config(stored[name], getattr(config, name))
        if name in stored
        else _is_default(field, getattr(config, name))
        for name, field in fields.items()
    )


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return bool(value == field.default)
