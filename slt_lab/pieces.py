"""Finished parts of a run: computed once, by whichever process comes first, under the name of what they follow from."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from slt_jax.files import reason, replace_file
from slt_jax.identity import setting
from slt_jax.sampling.archive import read_archive, write_archive
from slt_lab.errors import UserError
from slt_lab.provenance import machine

__all__ = ["Pieces", "digest", "same_file", "same_folder", "taken"]

KIND = "piece"


def digest(*parts: Any) -> str:
    """Of values whose repr says every setting: what prints the same is the same.

    Raises:
        ValueError: if a repr tells an address, a lambda or a local function instead of settings.
    """
    return hashlib.sha256(setting("identity", parts).encode()).hexdigest()[:12]


@contextlib.contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Whether this process alone holds the lock file `path` until the block ends, or the process dies, however it dies."""
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError as error:
        raise UserError(f"{path} cannot be written ({reason(error)})") from error
    try:
        yield True
    finally:
        lock.release()


class Pieces:
    """The pieces of one run folder; those of `neighbours` are taken over instead of being computed again."""

    def __init__(self, folder: Path, neighbours: Callable[[], list[Path]]) -> None:
        self.folder, self._neighbours = folder, neighbours

    def path(self, name: str) -> Path:
        """Where the piece `name` is kept; `name` may contain folders."""
        return self.folder / "pieces" / f"{name}.npz"

    def lock(self, name: str) -> Path:
        """The lock under which the piece `name` is computed."""
        return self.folder / "locks" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"

    def read(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a finished piece.

        Raises:
            UserError: if it is damaged.
        """
        path = self.path(name)
        try:
            return read_archive(path, KIND)[1]
        except (ValueError, OSError) as error:
            raise UserError(
                f"{path} cannot be read ({reason(error)}); delete it, and the same command computes it again"
            ) from error

    def provenance(self, name: str) -> dict[str, Any]:
        """What the piece was computed with."""
        return read_archive(self.path(name), KIND)[0]

    def write(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Keep a finished piece.

        Raises:
            UserError: if it cannot be written, or the run folder is gone.
        """
        if not (self.folder / "config.json").exists():
            raise UserError(
                f"the run folder {self.folder} has vanished during the run; the same command starts it anew"
            )
        kept = {key: np.asarray(value) for key, value in arrays.items()}
        try:
            write_archive(self.path(name), KIND, machine(), kept)
        except OSError as error:
            raise UserError(f"{self.path(name)} cannot be written ({reason(error)})") from error

    def has(self, name: str) -> bool:
        """Whether the piece is there, taken over from a neighbour if one has it."""
        path = self.path(name)
        if path.exists():
            return True
        for neighbour in self._neighbours():
            there = neighbour / path.relative_to(self.folder)
            if there.is_file() and _is_sound(there):
                path.parent.mkdir(parents=True, exist_ok=True)
                same_file(there, path)
                return True
        return False


def _is_sound(path: Path) -> bool:
    try:
        read_archive(path, KIND)
    except (ValueError, OSError):
        return False
    return True


def same_file(there: str | Path, here: str | Path) -> None:
    """Make the file `there` appear as `here` too: one file with two names where the file system can, else a copy."""
    try:
        os.link(there, here)
    except FileExistsError:
        pass  # another process was faster
    except OSError:
        replace_file(Path(here), Path(there).read_bytes())


def same_folder(there: Path, here: Path) -> None:
    """Make the folder `there` appear as `here` too, all at once; locks stay where they are."""
    partial = here.with_name(f".{here.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(there, partial, copy_function=same_file, ignore=shutil.ignore_patterns("*.lock"))
    partial.rename(here)
