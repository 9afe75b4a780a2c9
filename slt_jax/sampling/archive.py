"""Results on disk: one `.npz` file that numpy opens, sealed with a digest of every byte.

A file is written whole or not at all. A truncated or altered one is refused before anything in it is read, so no reader meets
damage and no number comes back changed.
"""

import hashlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from slt_jax.files import replace_file

__all__ = ["read_archive", "write_archive"]

VERSION = 1
SEAL = b"sha256:"
SEAL_LENGTH = len(SEAL) + 64
"""The digest is the comment of the zip archive: the last bytes of the file, which zip readers pass over."""


def write_archive(path: Path | str, kind: str, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write `header` (plain JSON types) and `arrays` to `path`, which is replaced at once or left as it was.

    Args:
        path: the file; its folder is made if need be.
        kind: the name of the class that is stored, asked for again by `read_archive`.
        header: everything that is not an array.
        arrays: name -> array of numbers or truth values, of any name and of any number type that jax has.

    Raises:
        ValueError: if `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of a file in it, such as {path / 'result.npz'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [[name, array.dtype.name if _is_foreign(array.dtype) else None] for name, array in arrays.items()]
    text = json.dumps({"kind": kind, "version": VERSION, "arrays": names, "header": header}, allow_nan=False)
    members = {f"array_{index}": _plain(array) for index, array in enumerate(arrays.values())}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, contents=np.frombuffer(text.encode(), np.uint8), **members)
    # A zip file ends with the length of its comment, zero so far.
    body = buffer.getvalue()[:-2] + struct.pack("<H", SEAL_LENGTH)
    replace_file(path, body + SEAL + hashlib.sha256(body).hexdigest().encode())


def read_archive(path: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays that `write_archive` stored under `kind`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, was not written by `write_archive`, or holds something else.
    """
    content = Path(path).read_bytes()
    body, seal = content[:-SEAL_LENGTH], content[-SEAL_LENGTH:]
    if seal != SEAL + hashlib.sha256(body).hexdigest().encode():
        raise ValueError(f"{path} is damaged, or holds no {kind}; copy it again, or delete it and have it written anew")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        contents = json.loads(stored["contents"].tobytes())
        if contents["kind"] != kind:
            raise ValueError(f"{path} holds {contents['kind']}, not {kind}; {_reader(contents['kind'])}")
        if contents["version"] != VERSION:
            raise ValueError(f"{path} was written by another version of slt_jax; load it with that version")
        arrays = {
            name: _typed(stored[f"array_{index}"], dtype) for index, (name, dtype) in enumerate(contents["arrays"])
        }
    return contents["header"], arrays


def _is_foreign(dtype: np.dtype) -> bool:
    """Whether numpy knows this type (bfloat16 and its like) from another package alone, and cannot write it."""
    return dtype.isbuiltin == 2


def _plain(array: np.ndarray) -> np.ndarray:
    """`array` in a type that numpy can write, foreign types as integers of the same bits."""
    if not _is_foreign(array.dtype):
        return array
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def _typed(array: np.ndarray, dtype: str | None) -> np.ndarray:
    return array if dtype is None else array.view(jnp.dtype(dtype)).reshape(array.shape)


def _reader(kind: str) -> str:
    """How what is stored under `kind` is read: a class has a method for it."""
    return f"load it with {kind}.load" if kind.isidentifier() else f"give the path of a {kind} where one is asked for"
