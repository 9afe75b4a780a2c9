"""Files that several processes may want: one writer at a time, and a file that is whole or not there."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["only_writer", "reason", "replace_file"]


@contextmanager
def only_writer(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Hold the lock file `path` until the block ends. It is the operating system's: it goes when the process does, however it dies.

    Args:
        path: the lock file; its folder is made if need be. It stays, and means nothing by itself.
        what: what is locked, "sampling state runs/a.npz" say.
        remedy: what to do if another holds it.

    Raises:
        ValueError: if another holds it, in this process or another, or no file can be made there.
    """
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        if not path.exists():  # where no file can be made the lock waits for its folder
            raise ValueError(f"{what} cannot be written (no file can be made in {path.parent}); {remedy}") from error
        raise ValueError(f"{what} is in use by another run; wait until it ends, or {remedy}") from error
    except OSError as error:
        raise ValueError(f"{what} cannot be written ({reason(error)}); {remedy}") from error
    try:
        yield
    finally:
        lock.release()


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` onto the disk under a name that nobody else uses, then in place of `path`."""
    partial = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def reason(error: Exception) -> str:
    """What went wrong, on one line and without the path that the sentence around it names."""
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror}"
    return next(iter(str(error).splitlines()), type(error).__name__)
