"""Which runs there are and how far they are: read from their small records alone, so that hundreds take a moment."""

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slt_lab.errors import UserError
from slt_lab.records import read_record

__all__ = ["State", "find_runs", "state_of", "table"]

SILENT_SECONDS = 60.0
"""A process at work that has said nothing for so long, on another machine, is taken for dead."""
STARTING_SECONDS = 120.0
"""So long it may take until it says something for the first time."""


@dataclass(frozen=True)
class State:
    """A run, as a line of a table."""

    folder: Path
    experiment: str = ""
    config: str = ""
    state: str = ""
    progress: str = ""
    remaining: str = ""
    where: str = ""


def find_runs(root: Path) -> list[Path]:
    """Run folders in `root` and in the folders of sweeps under it, by name."""
    found = list(_run_folders(root)) + [run for sweep in sorted(root.glob("sweeps/*")) for run in _run_folders(sweep)]
    return found


def _run_folders(root: Path) -> Iterator[Path]:
    yield from sorted(path.parent for path in root.glob("*/config.json"))


def state_of(folder: Path) -> State:
    """What a run is at: finished, at work, dead, or how it ended."""
    try:
        config = read_record(folder / "config.json", "")
        starts = (
            read_record(folder / "provenance.json", "").get("starts", [])
            if (folder / "provenance.json").exists()
            else []
        )
        notes = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("progress/*.json")}
        experiment, name = Path(str(config["experiment"])).name, str(config["config_name"])
        at_work = [start for start in starts if start["outcome"] == "at work"]
        alive = [start for start in at_work if _is_alive(start, notes)]
        state = "at work" if alive else "dead" if at_work and at_work[-1] is starts[-1] else _ended(starts)
        told = [notes[_who(start)] for start in (alive or at_work) if _who(start) in notes]
        progress, remaining = _progress(told, bool(alive))
        where = ", ".join(f"{start['host']} ({start['pid']})" for start in (alive or starts[-1:]))
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return State(folder, state="damaged", progress=f"`report {folder}` says what is wrong")
    return State(folder, experiment, name, state, progress, remaining, where)


def _who(start: dict[str, Any]) -> str:
    return f"{start['host']}-{start['pid']}"


def _ended(starts: list[dict[str, Any]]) -> str:
    if not starts:
        return "not started"
    outcome = str(starts[-1]["outcome"])
    names = {
        "finished": "finished",
        "Stopped": "stopped",
        "KeyboardInterrupt": "interrupted",
        "FloatingPointError": "diverged",
    }
    return names.get(outcome.split(":")[0], "failed")


def _is_alive(start: dict[str, Any], notes: dict[str, Any]) -> bool:
    if start["host"] == socket.gethostname():
        return _process_runs(start["pid"])
    note = notes.get(_who(start))
    if note is None:
        return time.time() - start["started"] < STARTING_SECONDS
    return time.time() - note["now"] < SILENT_SECONDS


def _process_runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _progress(notes: list[dict[str, Any]], alive: bool) -> tuple[str, str]:
    if not notes:
        return "", ""
    texts, seconds = [], []
    for note in notes:
        texts.append(
            f"{note['title']}: {note['done']:,} of {note['total']:,} (part {note['parts_done'] + 1} of {note['parts']})"
        )
        made = note["done"] - note["first"]
        if alive and made > 0:
            seconds.append((note["now"] - note["began"]) / made * (note["total"] - note["done"]))
    return "; ".join(texts), _duration(max(seconds)) if seconds else ""


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{hours} h {minutes % 60:02d} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def table(states: list[State]) -> str:
    """The states as a table of text."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("run", "experiment", "config", "state", "progress", "this part ends in", "host (process)"):
        shown.add_column(head, overflow="fold")
    for one in states:
        shown.add_row(str(one.folder), one.experiment, one.config, one.state, one.progress, one.remaining, one.where)
    console = Console(width=max(100, _width()))
    with console.capture() as text:
        console.print(shown)
    return text.get().rstrip()


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((160, 24)).columns
