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
    """Number of scalars in `tree`.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.trees import num_parameters
        >>> num_parameters({"a": jnp.zeros((2, 3)), "b": jnp.zeros(())})
        7
    """
    return sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(tree))


def squared_norm(tree: Params) -> Array:
    """Sum of squares over every leaf, a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.trees import squared_norm
        >>> float(squared_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])}))
        25.0
    """
    return sum((jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(()))


def path_string(path: tuple) -> str:
    """A leaf's key path as `"block_0/attention/qkv"`.

    Example:
        >>> import jax
        >>> from slt_jax.trees import path_string
        >>> [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path({"block_0": {"mlp": 1.0}})]
        ['block_0/mlp']
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_name(tree: str, path: tuple) -> str:
    """How messages call the leaf at `path` of the argument named `tree`: "data leaf 'x'", or "data" if it is all of it.

    Example:
        >>> import jax
        >>> from slt_jax.trees import leaf_name
        >>> [leaf_name("data", path) for path, _ in jax.tree_util.tree_leaves_with_path({"x": 1.0})]
        ["data leaf 'x'"]
    """
    return f"{tree} leaf '{path_string(path)}'" if path else tree


def leaves_with_path(tree: Any) -> list[tuple[tuple, Any]]:
    """The leaves of a tree that somebody brings; an iterator is one too, which JAX itself will soon refuse in its own words.

    Example:
        >>> from slt_jax.trees import leaves_with_path
        >>> len(leaves_with_path({"x": 1.0, "y": iter([1.0, 2.0])}))
        2
    """
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_iterator)


def is_iterator(node: Any) -> bool:
    """Whether `node` gives its items one after another, and has no others.

    Example:
        >>> from slt_jax.trees import is_iterator
        >>> is_iterator(iter([1.0])), is_iterator([1.0])
        (True, False)
    """
    return isinstance(node, Iterator | ValuesView)


def matching_paths(tree: Params, patterns: tuple[str, ...]) -> list[str]:
    """Paths of the leaves that match any of the glob `patterns`, in tree order; `*` also crosses `/`.

    Example:
        >>> from slt_jax.trees import matching_paths
        >>> matching_paths({"block_0": {"mlp": 1.0, "norm": 1.0}}, ("*/mlp",))
        ['block_0/mlp']
    """
    paths = [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)]


def leading_axis(batch: Batch) -> int:
    """The length n of the axis that all leaves of `batch` share.

    Raises:
        TypeError: if a leaf is not an array of numbers: an iterator, a data frame, text.
        ValueError: if there is no leaf, a leaf is deleted or a scalar, leaves disagree, or n is 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.trees import leading_axis
        >>> leading_axis({"x": jnp.zeros((5, 2)), "y": jnp.zeros(5)})
        5
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
    """The examples at `indices` of every leaf.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.trees import take_examples
        >>> take_examples({"x": jnp.array([10.0, 20.0, 30.0])}, jnp.array([2, 0]))["x"].tolist()
        [30.0, 10.0]
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[indices], batch)  # numpy cannot be indexed by traced indices
