"""Who worked on a run folder, with what, from when to when: each start is written down as it begins and closed however it ends."""

import contextlib
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock

from slt_lab.errors import UserError
from slt_lab.records import read_record, write_record

__all__ = ["Start", "machine", "read_starts", "recorded"]

NAME = "provenance.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "blackjax", "orbax-checkpoint", "numpy", "slt-jax")
REMEDY = "delete it: the runs so far are then not listed, and nothing else is lost"


@dataclass
class Start:
    """One start of a run: a process at work on a folder, and how it ended."""

    folder: Path
    record: dict[str, Any] = field(default_factory=dict)

    def close(self, outcome: str) -> None:
        """Write how it ended."""
        ended = time.time()
        _change(
            self.folder, {**self.record, "outcome": outcome, "ended": ended, "seconds": ended - self.record["started"]}
        )


@contextlib.contextmanager
def recorded(folder: Path, *, worker: bool, source: str = "") -> Iterator[Start]:
    """Write a start when the block begins, and close it with what ended the block.

    Args:
        folder: of the run.
        worker: whether it helps others.
        source: digest of the file that holds the experiment, if it is a user's own.
    """
    own = {"source": source} if source else {}
    start = Start(
        folder, {"started": time.time(), "outcome": "at work", "worker": worker, **place(), **machine(), **own}
    )
    _change(folder, start.record)
    try:
        yield start
    except BaseException as error:
        with contextlib.suppress(UserError, OSError):  # the first error is the one to tell
            start.close(f"{type(error).__name__}: {error}".strip(": ")[:200])
        raise
    start.close("finished")


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """Every start so far, oldest first; those of folders of before are called sessions."""
    path = folder / NAME
    if not path.exists():
        return []
    found = read_record(path, REMEDY)
    starts = found.get("starts", found.get("sessions", []))
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        raise UserError(f"{path} cannot be read (it lists no starts); {REMEDY}")
    return starts


def _change(folder: Path, record: dict[str, Any]) -> None:
    """Add a start, or replace it by what it has become."""
    with FileLock(folder / "locks" / "provenance.lock", timeout=60):
        starts = read_starts(folder)
        same = [start.get("started") == record["started"] and _who(start) == _who(record) for start in starts]
        kept = [start for start, is_same in zip(starts, same, strict=True) if not is_same]
        write_record(folder / NAME, {"starts": [*kept, record]})


def _who(start: dict[str, Any]) -> tuple[Any, Any]:
    return start.get("host"), start.get("pid")


def place() -> dict[str, Any]:
    """Which process of which machine this is, and of which job."""
    job = os.environ.get("SLURM_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return {
        "host": socket.gethostname(), "pid": os.getpid(), **({"job": f"{job}_{task}" if task else job} if job else {}),
    }  # fmt: skip


@cache
def machine() -> dict[str, Any]:
    """What numbers may depend on: commit, versions, kind of device, matmul precision."""
    import jax

    from slt_jax.backend import matmul_precision

    return {
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "devices": [str(device.device_kind) for device in jax.devices()],
        "matmul_precision": matmul_precision() or "default",
        "platform": platform.platform(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _version(name: str) -> str:
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
