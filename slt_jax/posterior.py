"""The tempered posterior localised at a trained parameter, and its restriction to a part of the weights.

    p(w) ∝ exp( -nβ L_n(w) - γ/2 |w - w*|² )        (Lau et al. 2023, arXiv 2308.12108, eq. 8)

A posterior is data: two checkpoints of one model are two pytrees of one structure, and whatever was compiled for the
first runs on the second.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from slt_jax.linalg import mean_over_examples
from slt_jax.trees import leading_axis, matching_paths, path_string, take_examples
from slt_jax.typing import Array, Batch, LossFn, Params, PRNGKey, Scalar

__all__ = [
    "LocalPosterior",
    "Restriction",
    "by_layer_and_slice",
    "by_path",
    "by_slice",
    "check_posterior",
    "default_nbeta",
    "draw_indices",
    "example_losses",
    "minibatch_loss",
    "minibatch_loss_and_gradient",
    "restrict",
]


def default_nbeta(n: int) -> float:
    """The inverse temperature nβ = n / log n of WBIC (Watanabe 2013), for `n` ≥ 2 examples.

    Raises:
        ValueError: if `n` is below 2, where log n is not positive.
    """
    if n < 2:
        raise ValueError(f"n = {n} examples; the default nbeta = n / log n needs n >= 2")
    return n / math.log(n)


class Restriction(NamedTuple):
    """Which part of the weights is sampled: a pair of pure functions.

    Both are `jax.tree_util.Partial`s, hence pytrees: what they hold (a head's index) is traced, so a stack of
    restrictions is a `vmap` axis. Any function of the right type is accepted by `restrict`.

    Attributes:
        take: `tree -> part`.
        put: `(tree, part) -> tree`, with `put(tree, take(tree)) == tree`.
    """

    take: Callable[[Params], Params]
    put: Callable[[Params, Params], Params]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["data", "center", "nbeta", "localization", "restriction", "whole", "center_losses"],
    meta_fields=["loss_fn", "microbatch"],
)
@dataclass(frozen=True)
class LocalPosterior:
    """p(w) ∝ exp( -nβ L_n(w) - γ/2 |w - w*|² ).

    Attributes:
        loss_fn: `(params, batch) -> losses`, one loss per example, shape `(batch,)`. Static.
        data: pytree of arrays with a shared leading axis of length n.
        center: w*, a pytree of floating-point arrays; under a restriction, the part that is sampled.
        nbeta: the product nβ.
        localization: γ, multiplying ½|w - w*|² (not multiplied by nβ).
        restriction: set by `restrict`.
        whole: the full parameter at w* when a restriction is set.
        center_losses: the n losses at w*, shape `(n,)`, if they have been computed; a paired baseline then gathers
            instead of making a second forward pass.
        microbatch: examples per pass when a gradient is taken, its parts then added up; `None`: all at once. On a CPU a
            pass whose activations stay in cache is faster: 1.5 times at batch 1,024 of the regression transformer
            (docs/speed.md). Also what bounds memory at large batches. Static.
    """

    loss_fn: LossFn
    data: Batch
    center: Params
    nbeta: Scalar
    localization: Scalar
    restriction: Restriction | None = None
    whole: Params | None = None
    center_losses: Array | None = None
    microbatch: int | None = None

    @property
    def n(self) -> int:
        """Number of examples the empirical loss averages over."""
        return leading_axis(self.data)

    def full_params(self, params: Params) -> Params:
        """The whole parameter tree in which the sampled part is `params`."""
        return params if self.restriction is None else self.restriction.put(self.whole, params)

    def losses(self, params: Params, batch: Batch) -> Array:
        """Losses of the examples in `batch`, shape `(batch,)`."""
        return self.loss_fn(self.full_params(params), batch)


def draw_indices(key: PRNGKey, n: int, batch_size: int | None) -> Array | None:
    """Indices of a minibatch, uniform with replacement, shape `(batch_size,)`; `None` stands for all the data."""
    return None if batch_size is None else jax.random.randint(key, (batch_size,), 0, n)


def minibatch_loss(posterior: LocalPosterior, params: Params, indices: Array | None) -> Array:
    """Mean loss over the examples at `indices` (over all of them for `None`), a scalar."""
    batch = posterior.data if indices is None else take_examples(posterior.data, indices)
    return jnp.mean(posterior.losses(params, batch))


def minibatch_loss_and_gradient(
    posterior: LocalPosterior, params: Params, indices: Array | None
) -> tuple[Array, Params]:
    """`minibatch_loss` and its gradient in `params`, one `posterior.microbatch` after another."""
    batch = posterior.data if indices is None else take_examples(posterior.data, indices)

    def on_part(part: Batch) -> tuple[Array, Params]:
        return jax.value_and_grad(lambda p: jnp.mean(posterior.losses(p, part)))(params)

    return mean_over_examples(on_part, batch, posterior.microbatch)


def minibatch_center_loss(posterior: LocalPosterior, indices: Array | None) -> Array:
    """Mean loss at w* over the same examples: gathered if `center_losses` is known, computed otherwise."""
    if posterior.center_losses is None:
        return minibatch_loss(posterior, posterior.center, indices)
    losses = posterior.center_losses if indices is None else posterior.center_losses[indices]
    return jnp.mean(losses)


def example_losses(posterior: LocalPosterior, params: Params, chunk_size: int = 4096) -> Array:
    """The n losses at `params`, shape `(n,)`, in passes of `chunk_size` examples so that memory does not grow with n.

    Trailing axes of the losses, one per token say, are kept.
    """
    n = posterior.n
    whole_chunks, rest = divmod(n, chunk_size)
    pieces = []
    if whole_chunks:
        chunked = jax.tree.map(
            lambda leaf: leaf[: whole_chunks * chunk_size].reshape(whole_chunks, chunk_size, *leaf.shape[1:]),
            posterior.data,
        )
        losses = jax.lax.map(lambda batch: posterior.losses(params, batch), chunked)
        pieces.append(losses.reshape(-1, *losses.shape[2:]))
    if rest:
        pieces.append(posterior.losses(params, jax.tree.map(lambda leaf: leaf[n - rest :], posterior.data)))
    return jnp.concatenate(pieces)


def restrict(posterior: LocalPosterior, restriction: Restriction) -> LocalPosterior:
    """The posterior over a part of the weights, the rest fixed at w* (refined LLC; Wang et al. 2024, arXiv 2410.02984).

    No noise, no state and no gradient exists for the rest.

    Raises:
        ValueError: if `posterior` is restricted already, or the restriction takes nothing.
    """
    if posterior.restriction is not None:
        raise ValueError("posterior is restricted already; restrict the unrestricted one with a single Restriction")
    take, put = (fn if isinstance(fn, Partial) else Partial(fn) for fn in restriction)
    part = take(posterior.center)
    if not jax.tree.leaves(part):
        raise ValueError("restriction takes no parameters; it must select at least one array of the center")
    return replace(posterior, center=part, restriction=Restriction(take, put), whole=posterior.center)


@dataclass(frozen=True)
class _TakeLeaves:
    """Leaves at glob patterns, or a slice of an axis of each, as `{path: leaf}`. Hashable: equal settings compile once."""

    patterns: tuple[str, ...]
    axes: tuple[int, ...] | None = None

    def axis_of(self, tree: Params) -> dict[str, int | None]:
        selected: dict[str, int | None] = {}
        for position, pattern in enumerate(self.patterns):
            found = matching_paths(tree, (pattern,))
            if not found:
                known = ", ".join(matching_paths(tree, ("*",)))
                raise ValueError(f"restriction pattern '{pattern}' matches no parameter; there are: {known}")
            selected |= dict.fromkeys(found, None if self.axes is None else self.axes[position])
        return selected

    def __call__(self, *args: Any) -> dict[str, Array]:
        *index, tree = args  # Partial puts what it holds first
        axes = self.axis_of(tree)
        leaves = {path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        return {path: _slice(leaves[path], axis, *index) for path, axis in axes.items()}


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


def _slice(leaf: Array, axis: int | None, index: Array | None = None) -> Array:
    if axis is None or index is None:
        return leaf
    # An index inside a compiled program clamps silently, so a concrete one is checked while it can be.
    if not isinstance(index, jax.core.Tracer) and jnp.ndim(index) == 0 and not 0 <= int(index) < leaf.shape[axis]:
        raise ValueError(f"restriction index {int(index)} is outside 0..{leaf.shape[axis] - 1} (axis {axis})")
    return jax.lax.dynamic_index_in_dim(leaf, index, axis, keepdims=False)


def by_path(*patterns: str) -> Restriction:
    """The leaves whose path matches a glob pattern, such as `by_path("block_0/mlp/*")`."""
    selection = _TakeLeaves(tuple(patterns))
    return Restriction(Partial(selection), Partial(_PutLeaves(selection)))


def by_slice(axes: Mapping[str, int], index: int | Array) -> Restriction:
    """One index of an axis of several leaves: an attention head is one index of the head axis of its matrices.

    Args:
        axes: glob pattern -> the axis that is sliced in the leaves it matches.
        index: position along those axes. Traced: an array of shape `(heads,)` makes a stack of restrictions for `vmap`.
    """
    selection = _TakeLeaves(tuple(axes), tuple(axes.values()))
    index = jnp.asarray(index)
    return Restriction(Partial(selection, index), Partial(_PutLeaves(selection), index))


def check_posterior(posterior: LocalPosterior) -> None:
    """Refuse what would fail obscurely later, with one sentence saying what was given.

    Raises:
        ValueError: if data leaves disagree on their leading axis, the center has leaves that are not floating-point,
            nbeta or microbatch is not positive, localization is negative, or `loss_fn` does not return one loss per example.
    """
    n = posterior.n
    for path, leaf in jax.tree_util.tree_leaves_with_path(posterior.center):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            dtype = jnp.result_type(leaf)
            raise ValueError(f"center leaf '{path_string(path)}' has dtype {dtype}; parameters must be floating-point")
    if posterior.microbatch is not None and posterior.microbatch < 1:
        raise ValueError(f"microbatch = {posterior.microbatch}; it must be at least 1, or None for one pass")
    _check_scalar("nbeta", posterior.nbeta, positive=True)
    _check_scalar("localization", posterior.localization, positive=False)
    batch = jax.tree.map(lambda leaf: leaf[: min(n, 3)], posterior.data)
    losses = jax.eval_shape(posterior.losses, posterior.center, batch)
    shape = getattr(losses, "shape", None)
    if shape != (min(n, 3),):
        given = f"shape {shape}" if shape is not None else f"a {type(losses).__name__}"
        raise ValueError(
            f"loss_fn returned {given} for a batch of {min(n, 3)} examples; it must return one loss per example, "
            f"shape ({min(n, 3)},), and leave the mean to the library"
        )


def _check_scalar(name: str, value: Scalar, *, positive: bool) -> None:
    if isinstance(value, jax.core.Tracer):
        return
    if jnp.ndim(value) != 0 or not jnp.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} = {value}; it must be a finite {'positive' if positive else 'non-negative'} number")


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
        >>> from slt_jax.posterior import by_layer_and_slice
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
