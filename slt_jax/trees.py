"""Pytree algebra that the rest of the library shares: sizes, paths and leading axes."""

from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp

from slt_jax.typing import Array, Batch, Params

__all__ = ["leading_axis", "matching_paths", "num_parameters", "path_string", "squared_norm", "take_examples"]


def num_parameters(tree: Params) -> int:
    """Number of scalars in `tree`."""
    return sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(tree))


def squared_norm(tree: Params) -> Array:
    """Sum of squares over every leaf, a scalar."""
    return sum((jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(()))


def path_string(path: tuple) -> str:
    """A leaf's key path as `"block_0/attention/qkv"`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def matching_paths(tree: Params, patterns: tuple[str, ...]) -> list[str]:
    """Paths of the leaves that match any of the glob `patterns`, in tree order; `*` also crosses `/`."""
    paths = [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)]


def leading_axis(batch: Batch) -> int:
    """The length n of the axis that all leaves of `batch` share.

    Raises:
        ValueError: if there is no leaf, a leaf is a scalar, leaves disagree, or n is 0.
    """
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    if not leaves:
        raise ValueError("data has no arrays; give a pytree whose leaves share their leading axis")
    lengths = {}
    for path, leaf in leaves:
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"data leaf '{path_string(path)}' is a scalar; every leaf needs a leading example axis")
        lengths[path_string(path)] = jnp.shape(leaf)[0]
    if len(set(lengths.values())) != 1:
        raise ValueError(f"data leaves have unequal leading axes {lengths}; they must share one example axis")
    (n,) = set(lengths.values())
    if n == 0:
        raise ValueError("data has n = 0 examples; the empirical loss needs at least one")
    return n


def take_examples(batch: Batch, indices: Array) -> Batch:
    """The examples at `indices` of every leaf."""
    return jax.tree.map(lambda leaf: leaf[indices], batch)
