"""What a run says while it is at work: a progress bar on stderr, and a small file that tells others how far it is."""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slt_jax.files import replace_file
from slt_jax.progress import progress_bar

__all__ = ["Reporter"]

NOTE_SECONDS = 2.0  # between two notes for others


class Reporter:
    """Progress over parts that have a title and a size; those of one title share a bar."""

    def __init__(self, folder: Path, parts: Sequence[Any]) -> None:
        self._totals: dict[str, int] = {}
        self._done: dict[str, int] = {}
        for part in parts:
            self._totals[part.title] = self._totals.get(part.title, 0) + part.size
        self._parts, self._finished, self._noted = len(parts), 0, 0.0
        self._file = folder / "progress" / f"{socket.gethostname()}-{os.getpid()}.json"
        self._bar, self._title, self._began = contextlib.ExitStack(), "", time.time()

    @staticmethod
    def say(sentence: str) -> None:
        """A line on stderr."""
        print(sentence, file=sys.stderr, flush=True)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process may still have its own there
            self._file.parent.rmdir()

    def at(self, part: Any) -> None:
        """`part` is at hand."""
        if part.title != self._title:
            self._bar.close()
            self._title, self._began = part.title, time.time()
            self._update = self._bar.enter_context(progress_bar(part.title, self._totals[part.title]))
            self._update(self._done.get(part.title, 0))

    def finished(self, part: Any) -> None:
        """The part at hand is finished."""
        self._done[part.title] = self._done.get(part.title, 0) + part.size
        self._finished += 1
        self._update(min(self._done[part.title], self._totals[part.title]))
        self._note(part.title, self._done[part.title])

    def update(self, done: int, note: str = "") -> None:
        """`done` of the size of the part at hand is done."""
        before = self._done.get(self._title, 0)
        self._update(before + done, note)
        self._note(self._title, before + done)

    def _note(self, title: str, done: int) -> None:
        now = time.time()
        if now - self._noted < NOTE_SECONDS:
            return
        self._noted = now
        text = json.dumps({
            "title": title, "done": done, "total": self._totals[title], "began": self._began, "now": now,
            "parts": self._parts, "parts_done": self._finished,
        })  # fmt: skip
        with contextlib.suppress(OSError):  # nobody's number depends on it
            self._file.parent.mkdir(exist_ok=True)
            replace_file(self._file, text.encode())
