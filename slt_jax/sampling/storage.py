"""Sampling state on disk: written whole or not at all, refused if it belongs to another run."""

import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ["fingerprint", "load_state", "save_state"]


def fingerprint(*parts: Any) -> str:
    """A hash of pytrees and settings: two runs with the same one would draw the same chains."""
    digest = hashlib.sha256()
    for part in parts:
        leaves, structure = jax.tree.flatten(part)
        digest.update(str(structure).encode())
        for leaf in leaves:
            array = _to_numpy(leaf) if isinstance(leaf, jax.Array | np.ndarray) else np.asarray(repr(leaf))
            digest.update(str((array.dtype, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def save_state(path: Path, tree: Any, fingerprint: str) -> None:
    """Write the leaves of `tree` to `path` (npz), atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    leaves = {f"leaf_{i}": _to_numpy(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, fingerprint=np.asarray(fingerprint), **leaves)
    os.replace(partial, path)


def load_state(path: Path, like: Any, fingerprint: str) -> Any:
    """Read what `save_state` wrote, in the structure of `like` (a pytree of arrays or shapes).

    Raises:
        ValueError: if the file belongs to a run with other settings, or cannot be read.
    """
    leaves, structure = jax.tree.flatten(like)
    try:
        with np.load(path) as stored:
            found = str(stored["fingerprint"])
            arrays = [stored[f"leaf_{i}"] for i in range(len(stored.files) - 1)]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"sampling state {path} cannot be read ({error}); delete it to start again") from error
    if found != fingerprint or len(arrays) != len(leaves):
        raise ValueError(f"sampling state {path} belongs to a run with other settings; give another path or delete it")
    restored = [
        jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array
        for leaf, array in zip(leaves, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, restored)
