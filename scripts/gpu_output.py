"""What `gpu_figures.py` leaves: results by piece, arrays in files of a bounded size, and how much time there is.

A folder holds `figures.json` and, for each group of arrays, `NAME-0.npz`, `NAME-1.npz`, ...: at most eight files of 16 MB in all.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from slt_jax.files import replace_file
from slt_jax.sampling.archive import read_archive, write_archive

MOST_FILES, LARGEST_FILE = 8, 16_000_000
ROOM = 15_500_000
"""Bytes of arrays in a file; its header and the seal need some too."""
KIND = "arrays of gpu_figures"


class Clock:
    """Minutes until the run has to be over."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Minutes left, below 0 when they are over."""
        return (self._end - time.monotonic()) / 60

    def over(self) -> bool:
        return self.left() <= 0


class Output:
    """A folder of results, those of earlier runs among them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._figures = folder / "figures.json"
        self.results: dict[str, Any] = json.loads(self._figures.read_text()) if self._figures.exists() else {}

    def write(self, name: str, result: dict[str, Any]) -> None:
        """Keep the result of a piece; `done` in it says whether there is nothing left to do."""
        self.results[name] = result
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self._figures, json.dumps(self.results, indent=1).encode())
        self._check()

    def done(self, name: str) -> bool:
        return bool(self.results.get(name, {}).get("done"))

    def save_arrays(self, group: str, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Keep a group of arrays, in as many files as they need; whatever the group was before is replaced."""
        parts: list[dict[str, np.ndarray]] = [{}]
        for name, array in arrays.items():
            held = sum(one.nbytes for one in parts[-1].values())
            if parts[-1] and held + array.nbytes > ROOM:
                parts.append({})
            parts[-1][name] = array
        for number, part in enumerate(parts):
            write_archive(self._part(group, number), KIND, {**header, "parts": len(parts)}, part)
        for path in self.folder.glob(f"{group}-*.npz"):
            if int(path.stem.rsplit("-", 1)[1]) >= len(parts):
                path.unlink()
        self._check()

    def load_arrays(self, group: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """The header and arrays of a group; `None` if there is none, or a kill came between two of its files.

        Raises:
            ValueError: if a file is damaged.
        """
        headers, arrays = [], {}
        while (path := self._part(group, len(headers))).exists():
            header, part = read_archive(path, KIND)
            headers.append(header)
            arrays |= part
        whole = headers and all(header == headers[0] for header in headers) and headers[0]["parts"] == len(headers)
        return (headers[0], arrays) if whole else None

    def _part(self, group: str, number: int) -> Path:
        return self.folder / f"{group}-{number}.npz"

    def _check(self) -> None:
        files = [path for path in self.folder.iterdir() if path.is_file()]
        large = [path.name for path in files if path.stat().st_size > LARGEST_FILE]
        if len(files) > MOST_FILES or large:
            raise SystemExit(
                f"{self.folder} holds {len(files)} files, too large are {large}; at most {MOST_FILES} of {LARGEST_FILE:,} bytes "
                "can be taken away: give an --out of its own"
            )
