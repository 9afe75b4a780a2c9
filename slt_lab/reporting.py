"""What a run says while it is at work: a progress bar on stderr, and a small file that tells others how far it is."""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slt_jax.files import replace_file
from slt_jax.progress import progress_bar

__all__ = ["FOLDER", "NOTE_SECONDS", "Reporter"]

FOLDER = "progress"
NOTE_SECONDS = 5.0
"""Between two notes for others; a process that is silent for many times as long is dead."""


@dataclass(frozen=True)
class Note:
    """How far parts of one title are. `first` was done when `began` was: what came before says nothing of the speed."""

    title: str
    done: int
    total: int
    first: int
    began: float
    parts: int
    parts_done: int


class Reporter:
    """Progress over parts that have a title and a size; those of one title share a bar."""

    def __init__(self, folder: Path, parts: Sequence[Any]) -> None:
        self._totals: dict[str, int] = {}
        self._done: dict[str, int] = {}
        for part in parts:
            self._totals[part.title] = self._totals.get(part.title, 0) + part.size
        self._note = Note("", 0, 0, 0, time.time(), len(parts), 0)
        self._file = folder / FOLDER / f"{socket.gethostname()}-{os.getpid()}.json"
        self._bar = contextlib.ExitStack()
        self._ended = threading.Event()
        self._teller = threading.Thread(target=self._keep_telling, daemon=True)

    @staticmethod
    def say(sentence: str) -> None:
        """A line on stderr."""
        print(sentence, file=sys.stderr, flush=True)

    def __enter__(self) -> "Reporter":
        self._teller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._teller.join()
        self._bar.close()
        self._file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process may still have its own there
            self._file.parent.rmdir()

    def at(self, part: Any) -> None:
        """`part` is at hand."""
        if part.title == self._note.title:
            return
        self._bar.close()
        done, total = self._done.get(part.title, 0), self._totals[part.title]
        self._note = replace(self._note, title=part.title, done=done, total=total, first=-1, began=time.time())
        self._update = self._bar.enter_context(progress_bar(part.title, total))
        self._update(done)

    def update(self, done: int, note: str = "") -> None:
        """`done` of the size of the part at hand is done."""
        shown = self._done.get(self._note.title, 0) + done
        if self._note.first < 0:
            self._note = replace(self._note, first=shown, began=time.time())
        self._note = replace(self._note, done=shown)
        self._update(shown, note)

    def finished(self, part: Any) -> None:
        """The part at hand is finished."""
        done = self._done[part.title] = self._done.get(part.title, 0) + part.size
        self._note = replace(
            self._note, done=done, first=max(0, self._note.first), parts_done=self._note.parts_done + 1
        )
        self._update(done)

    def _keep_telling(self) -> None:
        """Write a note every few seconds, also while one part takes long."""
        while True:
            if self._note.title:
                with contextlib.suppress(OSError):  # nobody's number depends on it
                    self._file.parent.mkdir(exist_ok=True)
                    replace_file(self._file, json.dumps({**asdict(self._note), "now": time.time()}).encode())
            if self._ended.wait(NOTE_SECONDS if self._note.title else 0.2):
                return
