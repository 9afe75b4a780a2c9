"""`results.zarr` on disk: every array in chunks that carry a checksum, and a digest over all of it."""

import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slt_jax.files import reason
from slt_lab.errors import UserError
from slt_lab.records import read_record, write_record

if TYPE_CHECKING:
    import xarray

__all__ = ["read_results", "write_results"]

NAME, SEALED = "results.zarr", "results.json"


def write_results(folder: Path, dataset: "xarray.Dataset") -> None:
    """Store `dataset` in `folder`, replacing an earlier one whole.

    Raises:
        UserError: if it cannot be written.
    """
    dataset = _with_settled_text(dataset)
    final = folder / NAME
    partial = folder / f".{NAME}.{os.uname().nodename}.{os.getpid()}.{secrets.token_hex(4)}.partial"
    try:
        dataset.to_zarr(partial, mode="w", zarr_format=3, consolidated=False, encoding=_checked(dataset))
        _to_disk(partial)
        seal = _digest(partial)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
    except OSError as error:
        raise UserError(f"{final} cannot be written ({reason(error)})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    write_record(folder / SEALED, {"digest": seal})


def read_results(folder: Path) -> "xarray.Dataset":
    """The stored dataset, in memory.

    Raises:
        UserError: if it is not there or damaged.
    """
    import xarray

    path, remedy = folder / NAME, "delete it and run the same command again; it is put together from the pieces"
    if not path.exists():
        raise UserError(f"{folder} has no {NAME} yet; run the experiment first")
    if (folder / SEALED).exists() and read_record(folder / SEALED, remedy).get("digest") != _digest(path):
        raise UserError(f"{path} cannot be read (it is not what was written); {remedy}")
    try:
        return xarray.open_zarr(path, consolidated=False).load()
    except Exception as error:  # zarr, its codecs and xarray have no common base for what damage makes them raise
        raise UserError(f"{path} cannot be read ({reason(error)}); {remedy}") from error


def _with_settled_text(dataset: "xarray.Dataset") -> "xarray.Dataset":
    """Text as zarr has a settled form for; it has none for numpy's strings of one length."""
    texts = {name: one.astype(object) for name, one in dataset.variables.items() if one.dtype.kind == "U"}
    labels = {name: one for name, one in texts.items() if name in dataset.coords}
    return dataset.assign_coords(labels).assign({name: one for name, one in texts.items() if name not in labels})


def _checked(dataset: "xarray.Dataset") -> dict[str, dict]:
    """Chunks are compressed, then given a checksum: zarr has none of its own."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    numbers = [
        name
        for name, variable in dataset.variables.items()
        if np.issubdtype(variable.dtype, np.number) or variable.dtype == bool
    ]
    return {str(name): {"compressors": (ZstdCodec(level=3), Crc32cCodec())} for name in numbers}


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def _to_disk(path: Path) -> None:
    for file in _files(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _digest(path: Path) -> str:
    """Of the names and contents of all files under `path`."""
    whole = hashlib.sha256()
    for file in _files(path):
        whole.update(f"{file.relative_to(path)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return whole.hexdigest()
