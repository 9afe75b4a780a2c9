"""Run folders: everything a run leaves behind, written so that a killed run continues and no file is half there."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from experiments.registry import UserError

__all__ = ["RunFolder", "write_text"]

RUNS = Path("runs")


def write_text(path: Path, text: str) -> None:
    """Write `path` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


@dataclass(frozen=True)
class RunFolder:
    """A folder for one configuration of one experiment.

    Holds `config.json` (enough to run it again), `provenance.json`, `checkpoints/`, `pieces/` (finished parts of
    stages), `results.zarr`, `summary.json`, `figures/`, `report.html`.
    """

    path: Path
    experiment: str
    config_name: str
    config: dict[str, Any]

    @staticmethod
    def open(experiment: str, config_name: str, config: Any, path: Path | None = None) -> "RunFolder":
        """The folder for `config`, made or continued; a folder of anything else is refused."""
        fields = json.loads(json.dumps(dataclasses.asdict(config)))
        record = {"experiment": experiment, "config_name": config_name, "config": fields}
        digest = hashlib.sha256(json.dumps([experiment, fields], sort_keys=True).encode()).hexdigest()[:8]
        path = path or RUNS / f"{experiment}-{config_name}-{digest}"
        stored = path / "config.json"
        if stored.exists():
            found = _read_json(stored)
            if found.get("experiment") != experiment or not _same_config(found.get("config"), config):
                raise UserError(
                    f"run folder {path} holds another run ({found.get('experiment')}); give another --folder"
                )
            if found["config"] != fields:  # it gains the fields that are new since, at their defaults
                write_text(stored, json.dumps({**found, "config": fields}, indent=2) + "\n")
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists and is not a run folder; give another --folder or move it away")
        else:
            write_text(stored, json.dumps(record, indent=2) + "\n")
        return RunFolder(path, experiment, config_name, fields)

    @staticmethod
    def existing(path: Path) -> "RunFolder":
        """An existing run folder."""
        stored = path / "config.json"
        if not stored.exists():
            raise UserError(f"{path} is not a run folder (it has no config.json)")
        found = _read_json(stored)
        try:
            return RunFolder(path, found["experiment"], found["config_name"], found["config"])
        except KeyError as error:
            raise UserError(f"{stored} lacks the field {error}; the run folder is damaged") from error

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Record versions, commit, device and times in `provenance.json` around a run."""
        started = time.time()
        earlier = self.path / "provenance.json"
        sessions = _read_json(earlier)["sessions"] if earlier.exists() else []
        yield
        session = {"started": started, "seconds": time.time() - started, **_machine()}
        write_text(earlier, json.dumps({"sessions": [*sessions, session]}, indent=2) + "\n")

    def piece(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, np.ndarray]:
        """The arrays of a finished part, computed once and never again; `name` may contain folders."""
        path = self.path / "pieces" / f"{name}.npz"
        if not path.exists():
            arrays = {key: np.asarray(value) for key, value in compute().items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".partial")
            with partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            os.replace(partial, path)
        try:
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{path} cannot be read ({error}); delete it to compute it again") from error

    def has_piece(self, name: str) -> bool:
        """Whether the part `name` is finished."""
        return (self.path / "pieces" / f"{name}.npz").exists()

    def write_results(self, dataset: Any) -> None:
        """Store an `xarray.Dataset` as `results.zarr`, replacing an earlier one whole."""
        partial, final = self.path / "results.zarr.partial", self.path / "results.zarr"
        shutil.rmtree(partial, ignore_errors=True)
        dataset.to_zarr(partial, mode="w", zarr_format=3, consolidated=False)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)

    def read_results(self) -> Any:
        """The stored `xarray.Dataset`, loaded into memory."""
        import xarray

        if not (self.path / "results.zarr").exists():
            raise UserError(f"{self.path} has no results.zarr yet; run the experiment first")
        return xarray.open_zarr(self.path / "results.zarr", consolidated=False).load()

    def write_summary(self, summary: dict[str, Any]) -> None:
        """The numbers of the report's table, as `summary.json`."""
        write_text(self.path / "summary.json", json.dumps(summary, indent=2, default=float) + "\n")


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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error


def _machine() -> dict[str, Any]:
    import jax

    packages = ("jax", "jaxlib", "flax", "optax", "blackjax", "orbax-checkpoint", "numpy", "slt-jax")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "commit": _commit(),
        "devices": [str(device.device_kind) for device in jax.devices()],
        "host": platform.platform(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
