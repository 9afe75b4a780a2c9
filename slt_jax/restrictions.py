"""Parts of a parameter tree: which leaves, or which slice of them, are sampled while the rest stays fixed at w*."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from slt_jax.arguments import describe, is_traced
from slt_jax.trees import matching_paths, path_string
from slt_jax.typing import Array, Params

__all__ = ["Restriction", "by_layer_and_slice", "by_path", "by_slice", "check_part", "check_restriction", "check_stack"]


class Restriction(NamedTuple):
    """Which part of the weights is sampled: a pair of pure functions.

    Both are `jax.tree_util.Partial`s, hence pytrees: what they hold (a head's index) is traced, so a stack of
    restrictions is a `vmap` axis. Any function of the right type is accepted by `restrict`.

    Attributes:
        take: `tree -> part`.
        put: `(tree, part) -> tree`, with `put(tree, take(tree)) == tree`.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> first = slt_jax.Restriction(lambda tree: tree["a"], lambda tree, part: {**tree, "a": part})
        >>> tree = {"a": jnp.array([1.0]), "b": jnp.array([2.0])}
        >>> first.put(tree, first.take(tree)) == tree
        True
    """

    take: Callable[[Params], Params]
    put: Callable[[Params, Params], Params]


@dataclass(frozen=True)
class _TakeLeaves:
    """Leaves at glob patterns, or a slice of an axis of each, as `{path: leaf}`. Hashable: equal settings compile once."""

    patterns: tuple[str, ...]
    axes: tuple[int, ...] | None = None

    def axis_of(self, tree: Params) -> dict[str, int | None]:
        paths = matching_paths(tree, ("*",))
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise ValueError(f"two parameters of the center have the path '{twice}'; rename one to restrict to either")
        selected: dict[str, int | None] = {}
        for position, pattern in enumerate(self.patterns):
            found = matching_paths(tree, (pattern,))
            if not found:
                raise ValueError(f"restriction pattern '{pattern}' matches no parameter; there are: {_some(paths)}")
            axis = None if self.axes is None else self.axes[position]
            for path in found:
                if selected.setdefault(path, axis) != axis:
                    raise ValueError(
                        f"restriction pattern '{pattern}' slices axis {axis} of '{path}', and an earlier pattern axis "
                        f"{selected[path]}; a leaf can be sliced once"
                    )
        return selected

    def __call__(self, *args: Any) -> dict[str, Array]:
        *index, tree = args  # Partial puts what it holds first
        axes = self.axis_of(tree)
        leaves = {path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        return {path: _slice(path, leaves[path], axis, *index) for path, axis in axes.items()}


@dataclass(frozen=True)
class _PutLeaves:
    """The inverse of `_TakeLeaves`."""

    selection: _TakeLeaves

    def __call__(self, *args: Any) -> Params:
        *index, tree, part = args
        axes = self.selection.axis_of(tree)

        def put(path: tuple, leaf: Array) -> Array:
            name = path_string(path)
            if name not in part:
                return leaf
            if axes[name] is None:
                return part[name]
            return jax.lax.dynamic_update_index_in_dim(leaf, part[name], index[0], axes[name])

        return jax.tree_util.tree_map_with_path(put, tree)


def _some(paths: list[str]) -> str:
    return ", ".join(paths) if len(paths) <= 6 else f"{', '.join(paths[:5])} and {len(paths) - 5} more"


def _slice(path: str, leaf: Array, axis: int | None, index: Array | None = None) -> Array:
    if axis is None or index is None:
        return leaf
    if jnp.ndim(index) != 0:
        raise ValueError(
            f"restriction index has shape {jnp.shape(index)}, a stack of parts; sample it with sample_restrictions, or "
            "restrict to one index"
        )
    _check_in_range(path, leaf, axis, index)
    return jax.lax.dynamic_index_in_dim(leaf, index, axis, keepdims=False)


def _check_in_range(path: str, leaf: Array, axis: int, index: Array) -> None:
    """Check a concrete index while it can be: inside a compiled program it clamps without a word."""
    if not -jnp.ndim(leaf) <= axis < jnp.ndim(leaf):
        raise ValueError(f"restriction axis {axis} is outside the shape {jnp.shape(leaf)} of '{path}'")
    size = jnp.shape(leaf)[axis]
    if is_traced(index):
        return
    values = np.asarray(index)
    outside = values[(values < 0) | (values >= size)]
    if outside.size:
        raise ValueError(f"restriction index {outside.flat[0]} is outside 0..{size - 1} (axis {axis} of '{path}')")


def by_path(*patterns: str) -> Restriction:
    """The leaves whose path matches a glob pattern, such as `by_path("block_0/mlp/*")`.

    Raises:
        TypeError: if a pattern is not a string.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> tree = {"block_0": {"mlp": jnp.ones(2), "norm": jnp.ones(1)}}
        >>> list(slt_jax.by_path("block_0/m*").take(tree))
        ['block_0/mlp']
    """
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(
                f"a pattern of by_path is {describe(pattern)}; give strings, by_path('block_0/*', 'head/*')"
            )
    selection = _TakeLeaves(tuple(patterns))
    return Restriction(Partial(selection), Partial(_PutLeaves(selection)))


def by_slice(axes: Mapping[str, int], index: int | Array) -> Restriction:
    """One index of an axis of several leaves: an attention head is one index of the head axis of its matrices.

    Args:
        axes: glob pattern -> the axis that is sliced in the leaves it matches.
        index: position along those axes. Traced: an array of shape `(heads,)` makes a stack of restrictions for `vmap`.

    Raises:
        TypeError: if `axes` does not map strings to whole numbers, or `index` is not a whole number or an array of them.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> tree = {"attention": {"qkv": jnp.zeros((8, 3, 4, 2))}}  # embed, 3, head, size
        >>> slt_jax.by_slice({"attention/qkv": 2}, 1).take(tree)["attention/qkv"].shape
        (8, 3, 2)
    """
    if not isinstance(axes, Mapping):
        raise TypeError(f"axes of by_slice is {describe(axes)}; give a dict of pattern -> axis, {{'attention/qkv': 2}}")
    for pattern, axis in axes.items():
        if not isinstance(pattern, str) or isinstance(axis, bool) or not isinstance(axis, int | np.integer):
            raise TypeError(
                f"axes of by_slice maps {describe(pattern)} to {describe(axis)}; give pattern -> axis, "
                "{'attention/qkv': 2}"
            )
    if not isinstance(index, int | np.integer | np.ndarray | jax.Array | list | range) or isinstance(index, bool):
        raise TypeError(f"index of by_slice is {describe(index)}; give a whole number, or an integer array for a stack")
    index = jnp.asarray(index)
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise TypeError(
            f"index of by_slice has dtype {index.dtype}; give a whole number, or an integer array for a stack"
        )
    selection = _TakeLeaves(tuple(axes), tuple(int(axis) for axis in axes.values()))
    return Restriction(Partial(selection, index), Partial(_PutLeaves(selection), index))


def check_restriction(restriction: Any) -> Restriction:
    """`restriction` as a pair of `Partial`s, if it is a pair of functions.

    Raises:
        TypeError: if it is not.
    """
    pair = isinstance(restriction, tuple) and len(restriction) == 2 and all(callable(part) for part in restriction)
    if not pair:
        raise TypeError(
            f"restriction is {describe(restriction)}; give by_path('block_0/*'), by_slice(axes, index) or "
            "Restriction(take, put)"
        )
    take, put = (part if isinstance(part, Partial) else Partial(part) for part in restriction)
    return Restriction(take, put)


def check_part(restriction: Restriction, tree: Params, part: Params) -> None:
    """Refuse a restriction that takes nothing, or does not put back what it took.

    Raises:
        ValueError: if `part`, what it takes of `tree`, is empty, or `put(tree, part)` is not of the shapes of `tree`.
    """
    if not jax.tree.leaves(part):
        raise ValueError("restriction takes no parameters; it must select at least one array of the center")
    if isinstance(getattr(restriction.put, "func", None), _PutLeaves):
        return
    if _shapes(jax.eval_shape(restriction.put, tree, part)) != _shapes(tree):
        raise ValueError(
            "restriction does not put back what it took; put(tree, take(tree)) must have the shapes of tree"
        )


def _shapes(tree: Params) -> list[tuple[str, tuple[int, ...]]]:
    return [(path_string(path), jnp.shape(leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def check_stack(restrictions: Any, center: Params) -> int:
    """How many parts a stack of restrictions of `center` holds.

    Raises:
        TypeError: if it is not a restriction.
        ValueError: if it is a single one, or an index is out of range, which a compiled program would not notice.
    """
    pair = check_restriction(restrictions)
    leaves = jax.tree.leaves(pair)
    if not leaves or any(jnp.ndim(leaf) != 1 for leaf in leaves):
        raise ValueError(
            "restrictions is not a stack; give by_slice(axes, jnp.arange(heads)), or sample one part with "
            "sample(key, restrict(posterior, by_path(...)), ...)"
        )
    counts = {len(leaf) for leaf in leaves}
    if counts == {0} or len(counts) > 1:
        raise ValueError(f"restrictions hold stacks of lengths {sorted(counts)}; give one length, at least 1")
    take: Any = pair.take
    if isinstance(take.func, _TakeLeaves):
        arrays = {path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(center)}
        for path, axis in take.func.axis_of(center).items():
            if axis is not None:
                _check_in_range(path, arrays[path], axis, take.args[0])
    return counts.pop()


@dataclass(frozen=True)
class _TakeLayerSlice:
    """A slice of leaves of one of several layers, `(layer, index, tree) -> part`, both traced.

    The part has the paths of layer 0 whichever layer it is of, for one program serves all. Hashable.
    """

    layers: tuple[_TakeLeaves, ...]

    def paths(self, tree: Params) -> list[list[str]]:
        """The paths taken in every layer, in the order of those in layer 0."""
        paths = [list(layer.axis_of(tree)) for layer in self.layers]
        if len({len(found) for found in paths}) != 1:
            raise ValueError(
                f"restriction patterns match {[len(found) for found in paths]} leaves; layers must be alike"
            )
        return paths

    def __call__(self, layer: Array, index: Array, tree: Params) -> dict[str, Array]:
        _check_index("layer", layer, len(self.layers))
        paths = self.paths(tree)

        def take(number: int) -> Callable[[Params], dict[str, Array]]:
            def from_layer(tree: Params) -> dict[str, Array]:
                part = self.layers[number](index, tree)
                return {name: part[path] for name, path in zip(paths[0], paths[number], strict=True)}

            return from_layer

        return jax.lax.switch(layer, [take(number) for number in range(len(self.layers))], tree)


@dataclass(frozen=True)
class _PutLayerSlice:
    """The inverse of `_TakeLayerSlice`.

    Every layer's leaf is given a slice: the part, or what it had. A switch between whole trees would copy them at each step,
    once for every layer where chains are batched.
    """

    selection: _TakeLayerSlice

    def __call__(self, layer: Array, index: Array, tree: Params, part: dict[str, Array]) -> Params:
        paths = self.selection.paths(tree)
        homes: dict[str, tuple[int, str, Any]] = {}  # of every leaf that is sliced: layer, name in the part, axis
        for number, own in enumerate(paths):
            axes = self.selection.layers[number].axis_of(tree)
            homes |= {path: (number, name, axes[path]) for name, path in zip(paths[0], own, strict=True)}

        def put(path: tuple, leaf: Array) -> Array:
            if path_string(path) not in homes:
                return leaf
            number, name, axis = homes[path_string(path)]
            kept = jax.lax.dynamic_index_in_dim(leaf, index, axis, keepdims=False)
            return jax.lax.dynamic_update_index_in_dim(leaf, jnp.where(layer == number, part[name], kept), index, axis)

        return jax.tree_util.tree_map_with_path(put, tree)


def _check_index(name: str, index: Array, count: int) -> None:
    # An index inside a compiled program clamps silently, so a concrete one is checked while it can be.
    if not isinstance(index, jax.core.Tracer) and jnp.ndim(index) == 0 and not 0 <= int(index) < count:
        raise ValueError(f"restriction {name} {int(index)} is outside 0..{count - 1}")


def by_layer_and_slice(axes: Mapping[str, int], num_layers: int, layer: int | Array, index: int | Array) -> Restriction:
    """`by_slice` in one of several equal layers: all heads of all layers are one stack, and one compiled program.

    Args:
        axes: glob pattern -> the axis that is sliced; `{layer}` in a pattern stands for the layer's number.
        num_layers: how many layers there are, numbered from 0.
        layer, index: which layer, and the position along the axes. Traced: two arrays of shape `(heads,)` make a stack.

    Raises:
        ValueError: if `num_layers` is below 1 or no pattern names a layer; when it is applied, if a pattern matches nothing,
            layers differ, or a concrete layer or index is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.restrictions import by_layer_and_slice
        >>> tree = {f"block_{layer}": {"qkv": jnp.full((2, 3), layer)} for layer in range(4)}
        >>> restriction = by_layer_and_slice({"block_{layer}/qkv": 0}, 4, layer=3, index=1)
        >>> restriction.take(tree)["block_0/qkv"].tolist()
        [3, 3, 3]
    """
    if num_layers < 1:
        raise ValueError(f"num_layers = {num_layers}; it must be at least 1")
    if not any("{layer}" in pattern for pattern in axes):
        raise ValueError(f"patterns {list(axes)} name no layer; write {{layer}} where its number stands")

    def of_layer(number: int) -> _TakeLeaves:
        return _TakeLeaves(tuple(pattern.replace("{layer}", str(number)) for pattern in axes), tuple(axes.values()))

    selection = _TakeLayerSlice(tuple(of_layer(number) for number in range(num_layers)))
    layer, index = jnp.asarray(layer), jnp.asarray(index)
    return Restriction(Partial(selection, layer, index), Partial(_PutLayerSlice(selection), layer, index))
