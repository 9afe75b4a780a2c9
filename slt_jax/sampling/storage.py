"""Sampling state on disk: written whole or not at all, refused if it is damaged or belongs to another run, one writer."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slt_jax.files import only_writer, reason
from slt_jax.identity import check_same, record
from slt_jax.sampling.archive import read_archive, write_archive

__all__ = ["load_state", "lock_state", "save_state"]

KIND = "sampling state"


def lock_state(path: Path) -> AbstractContextManager[None]:
    """Hold `path` for this call alone, until the block ends or the process dies.

    Raises:
        ValueError: if another call, in this process or in another, holds it, or no file can be made there.
    """
    return only_writer(path.with_name(path.name + ".lock"), f"sampling state {path}", "give another state_path")


def save_state(path: Path, tree: Any, done: Mapping[str, int], identity: Mapping[str, str]) -> None:
    """Write the leaves of `tree` to `path`, atomically.

    Args:
        path: the file.
        tree: pytree of arrays, typed keys included.
        done: draws made in each stage; also says which traces `tree` has.
        identity: name -> digest of what the run follows from.
    """
    arrays = {f"leaf_{index}": _to_numpy(leaf) for index, leaf in enumerate(jax.tree.leaves(tree))}
    write_archive(path, KIND, {**record(identity), "done": dict(done)}, arrays)


def load_state(
    path: Path,
    like: Callable[[Mapping[str, int]], Any],
    identity: Mapping[str, str],
    same_numbers: Callable[[Mapping[str, int], Any], bool],
) -> tuple[dict[str, int], Any]:
    """Read what `save_state` wrote: `done`, and the tree.

    Args:
        path: the file.
        like: `done -> tree` of arrays or shapes, the structure to read into.
        identity: name -> digest, of the run that asks.
        same_numbers: `(done, tree) -> bool`, asked if the file was written under another version of jax.

    Raises:
        ValueError: if the file belongs to a run with other settings, or cannot be read.
    """
    try:
        header, arrays = read_archive(path, KIND)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"sampling state {path} cannot be read ({reason(error)}); give another path, or delete it to start again"
        ) from error
    check = partial(check_same, f"sampling state {path}", header, identity, remedy="give another path or delete it")
    done = header["done"]
    leaves, structure = jax.tree.flatten(like(done))
    if [array.shape for array in arrays.values()] != [_to_shape(leaf) for leaf in leaves]:
        check(same_numbers=lambda: False)
        raise ValueError(f"sampling state {path} was written by another version of slt_jax; delete it to start again")
    restored = [
        jax.random.wrap_key_data(jax.numpy.asarray(array), impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array
        for leaf, array in zip(leaves, arrays.values(), strict=True)
    ]
    tree = jax.tree.unflatten(structure, restored)
    check(same_numbers=lambda: same_numbers(done, tree))
    return done, tree


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _to_shape(leaf: Any) -> tuple[int, ...]:
    return jax.eval_shape(jax.random.key_data, leaf).shape if _is_key(leaf) else leaf.shape
