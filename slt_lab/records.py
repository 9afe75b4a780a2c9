"""Small JSON records on disk, sealed with a digest: a damaged one is refused, never read as something else."""

import hashlib
import json
from pathlib import Path
from typing import Any

from slt_jax.files import reason, replace_file
from slt_lab.errors import UserError

__all__ = ["read_record", "write_record", "write_text"]

SEAL = "sha256"


def write_text(path: Path, text: str) -> None:
    """Write `path` whole or not at all.

    Raises:
        UserError: if the disk is full, read-only, or otherwise unwilling.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({reason(error)})") from error


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a JSON object with the digest of what it says."""
    write_text(path, json.dumps({**record, SEAL: _digest(record)}, indent=2) + "\n")


def read_record(path: Path, remedy: str) -> dict[str, Any]:
    """The object that `write_record` wrote; one without a digest, written by hand, is taken as it is.

    Raises:
        UserError: if the file is missing, damaged, or no JSON object; `remedy` says what to do.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); {remedy}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} cannot be read (it holds no JSON object); {remedy}")
    seal = found.pop(SEAL, None)
    if seal is not None and seal != _digest(found):
        raise UserError(f"{path} cannot be read (it is not what was written); {remedy}")
    return found


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
