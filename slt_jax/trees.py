"""Pytree algebra that the rest of the library shares: sizes, paths and leading axes."""

from collections.abc import Iterator, ValuesView
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from slt_jax.arguments import check_array
from slt_jax.typing import Array, Batch, Params

__all__ = [
    "is_iterator",
    "leading_axis",
    "leaf_name",
    "leaves_with_path",
    "matching_paths",
    "num_parameters",
    "path_string",
    "squared_norm",
    "take_examples",
]


def num_parameters(tree: Params) -> int:
    """Number of scalars in `tree`."""
    return sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(tree))


def squared_norm(tree: Params) -> Array:
    """Sum of squares over every leaf, a scalar."""
    return sum((jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(()))


def path_string(path: tuple) -> str:
    """A leaf's key path as `"block_0/attention/qkv"`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_name(tree: str, path: tuple) -> str:
    """How messages call the leaf at `path` of the argument named `tree`: "data leaf 'x'", or "data" if it is all of it."""
    return f"{tree} leaf '{path_string(path)}'" if path else tree


def leaves_with_path(tree: Any) -> list[tuple[tuple, Any]]:
    """The leaves of a tree that somebody brings; an iterator is one too, which JAX itself will soon refuse in its own words."""
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_iterator)


def is_iterator(node: Any) -> bool:
    """Whether `node` gives its items one after another, and has no others."""
    return isinstance(node, Iterator | ValuesView)


def matching_paths(tree: Params, patterns: tuple[str, ...]) -> list[str]:
    """Paths of the leaves that match any of the glob `patterns`, in tree order; `*` also crosses `/`."""
    paths = [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)]


def leading_axis(batch: Batch) -> int:
    """The length n of the axis that all leaves of `batch` share.

    Raises:
        TypeError: if a leaf is not an array of numbers: an iterator, a data frame, text.
        ValueError: if there is no leaf, a leaf is deleted or a scalar, leaves disagree, or n is 0.
    """
    leaves = leaves_with_path(batch)
    if not leaves:
        raise ValueError("data has no arrays; give a pytree whose leaves share their leading axis")
    first: dict[int, str] = {}  # length -> the first leaf that has it
    for path, leaf in leaves:
        name = leaf_name("data", path)
        check_array(name, leaf)
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"{name} is a scalar; every leaf needs a leading example axis")
        first.setdefault(jnp.shape(leaf)[0], name)
    if len(first) != 1:
        (n, one), (other_n, other) = list(first.items())[:2]
        raise ValueError(
            f"data leaves have unequal leading axes: {one} has length {n}, {other} {other_n}; they must share one "
            "example axis"
        )
    (n,) = first
    if n == 0:
        raise ValueError("data has n = 0 examples; the empirical loss needs at least one")
    return n


def take_examples(batch: Batch, indices: Array) -> Batch:
    """The examples at `indices` of every leaf."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[indices], batch)  # numpy cannot be indexed by traced indices
