"""What other people bring as parameters and as data: refused in one sentence where sampling it would fail, or mean nothing.

Only types, shapes and placement are looked at, so the checks cost the same for every size of data; `check_tokens` alone
reads the numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.arguments import check_array, comes_from, describe, is_traced
from slt_jax.trees import is_iterator, leading_axis, leaf_name, leaves_with_path, num_parameters, path_string
from slt_jax.typing import Batch, Params

__all__ = ["check_data", "check_one_place", "check_params", "check_tokens"]

STATISTICS = ("batch_stats", "cache", "intermediates", "losses", "perturbations")
"""Collections that flax linen keeps beside `params`, none of which is trained."""


def check_params(params: Params, name: str = "center") -> None:
    """Refuse parameters that are not floating-point arrays, or that hold what a model does not train.

    Raises:
        TypeError: if a leaf is not an array: a function, text, a module.
        ValueError: if there is no parameter, a leaf is not floating-point or is deleted, or the tree holds running statistics.
    """
    _check_statistics(params, name)
    for path, leaf in leaves_with_path(params):
        where = leaf_name(name, path)
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex):
            raise TypeError(f"{where} is {describe(leaf)}; {_remedy(params, leaf)}")
        check_array(where, leaf)
        _check_floating(where, leaf)
    if num_parameters(params) == 0:
        raise ValueError(f"{name} has no parameters; give a pytree with at least one floating-point array")


def _check_floating(where: str, leaf: Any) -> None:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError(f"{where} is a PRNG key; keep keys out of the parameters (nnx.split(model, nnx.Param, ...))")
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        raise ValueError(
            f"{where} has dtype {dtype}, too coarse for the short steps of a sampler; give float32 parameters (a forward pass "
            "in half precision inside loss_fn is fine)"
        )
    if jnp.issubdtype(dtype, jnp.floating):
        return
    if jnp.issubdtype(dtype, jnp.complexfloating):
        advice = "give real and imaginary part as two leaves and join them in loss_fn"
    else:
        advice = "keep counters, indices and tables out of it: close over them in loss_fn"
    raise ValueError(f"{where} has dtype {dtype}; parameters must be floating-point, so {advice}")


def _check_statistics(params: Params, name: str) -> None:
    """A running statistic is a float array like any other; sampled as a parameter it gives a number that means nothing."""
    if found := _linen_collection(params):
        raise ValueError(
            f"{name} holds flax's collection '{found}', which is not trained; give variables['params'] alone, and fix "
            f"the rest in loss_fn with the model in evaluation mode (use_running_average=True)"
        )
    for node in _nodes(params):
        if comes_from(node, "flax.nnx", "Variable") and not comes_from(node, "flax.nnx", "Param", "LoRAParam"):
            raise ValueError(
                f"{name} holds an nnx {type(node).__name__}, which is not trained; take graph, params, rest = "
                "nnx.split(model, nnx.Param, ...) after model.eval(), give params, and nnx.merge(graph, params, rest) in "
                "loss_fn"
            )
        if comes_from(node, "equinox.nn", "State", "StateIndex") and jax.tree.leaves(node):
            raise ValueError(
                f"{name} holds equinox state (running statistics), which is not trained; make it with "
                "eqx.nn.make_with_state, give the model's arrays alone, and fix the state in loss_fn (inference mode)"
            )


def _linen_collection(params: Params) -> str | None:
    """The name of a collection of flax linen in `params` that is not trained; a module of such a name is none."""
    if isinstance(params, Mapping) and "params" in params:
        return next((key for key in STATISTICS if key in params), None)
    parts = (
        path_string(path).split("/") for path, _ in leaves_with_path(params)
    )  # a restricted center has paths as keys
    return "batch_stats" if any("batch_stats" in names for names in parts) else None


def _nodes(tree: Any) -> list[Any]:
    """Every node of `tree`, itself and its leaves included."""
    seen: list[Any] = []

    def visit(node: Any) -> bool:
        seen.append(node)
        return is_iterator(node)

    jax.tree.leaves(tree, is_leaf=visit)
    return seen


def _remedy(params: Params, leaf: Any) -> str:
    if any(comes_from(node, "equinox") for node in _nodes(params)):
        return (
            "take arrays, static = eqx.partition(model, eqx.is_inexact_array), give arrays, and call "
            "eqx.combine(arrays, static) in loss_fn"
        )
    if comes_from(leaf, "flax.linen", "Module"):
        return "give the parameters, model.init(key, inputs)['params'], and call model.apply in loss_fn"
    if comes_from(leaf, "jax", "ShapeDtypeStruct"):
        return "a shape has no values; make the parameters with the real init, not with eval_shape"
    if callable(getattr(leaf, "numpy", None)):
        return "give an array, its .numpy()"
    return "parameters must be floating-point arrays; keep everything else out of the tree, in loss_fn"


def check_data(data: Batch) -> int:
    """The number of examples n, if `data` is a pytree of arrays with one leading axis.

    Raises:
        TypeError: if a leaf is not an array of numbers.
        ValueError: if the leading axes disagree or are empty, a leaf is deleted, or `data` is a list of examples.
    """
    advice = "give one pytree of stacked arrays, jax.tree.map(lambda *leaves: np.stack(leaves), *examples)"
    if isinstance(data, list) and len(data) > 1 and _alike(data):
        raise ValueError(f"data is a list of {len(data)} examples; {advice}")
    n = leading_axis(data)
    # [x, y] is data; a list longer than its arrays can only be a list of examples, whose features would be counted.
    if isinstance(data, list) and len(data) > max(n, 8):
        raise ValueError(
            f"data is a list of {len(data)} arrays of length {n}, which reads as n = {n} examples; {advice}"
        )
    return n


def _alike(items: Sequence[Any]) -> bool:
    """Whether `items` are numbers, or containers of one structure."""
    if isinstance(items[0], bool | int | float | str):
        return True
    structures = {jax.tree.structure(item) for item in items}
    return len(structures) == 1 and not jax.tree_util.treedef_is_leaf(structures.pop())


def check_one_place(*trees: tuple[str, Any]) -> None:
    """Refuse arrays that were put on different devices: a program runs in one place.

    Args:
        trees: how messages call a tree, and the tree. Arrays that were not put anywhere go where the others are.

    Raises:
        ValueError: if two arrays lie on different devices, naming both.
    """
    places: dict[frozenset, str] = {}
    for name, tree in trees:
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if isinstance(leaf, jax.Array) and not is_traced(leaf) and leaf.committed:
                places.setdefault(frozenset(leaf.sharding.device_set), leaf_name(name, path))
    if len(places) > 1:
        (here, one), (there, other) = list(places.items())[:2]
        raise ValueError(
            f"{one} lies on {_listed(here)} and {other} on {_listed(there)}; put all of them in one place with "
            "jax.device_put"
        )


def _listed(devices: frozenset) -> str:
    names = sorted(str(device) for device in devices)
    return names[0] if len(names) == 1 else f"{len(names)} devices ({names[0]}, ...)"


def check_tokens(tokens: Any, vocab_size: int, *, padding: bool = False) -> None:
    """Refuse tokens that are not in the vocabulary, where their numbers are known (outside `jit`).

    Args:
        tokens: integers of any shape, the last axis the position.
        vocab_size: tokens are 0 to `vocab_size - 1`.
        padding: whether negative numbers after the last token of a sequence stand for nothing.

    Raises:
        TypeError: if they are not integers.
        ValueError: if one is outside the vocabulary, or padding comes before a token; the message says which, and where.
    """
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens have dtype {tokens.dtype}; they must be integers from 0 to {vocab_size - 1}")
    if is_traced(tokens) or not tokens.size:
        return
    known = np.asarray(tokens)
    lowest = int(known.min())
    if int(known.max()) >= vocab_size or (lowest < 0 and not padding):
        place = tuple(np.argwhere((known >= vocab_size) | ((known < 0) & (not padding)))[0].tolist())
        allowed = " (negative ones are padding)" if padding else ""
        raise ValueError(
            f"tokens holds {known[place]} at {list(place)}; the vocabulary has {vocab_size} tokens, 0 to {vocab_size - 1}{allowed}"
        )
    if lowest < 0 and (early := (known[..., :-1] < 0) & (known[..., 1:] >= 0)).any():
        raise ValueError(
            f"tokens holds padding (a negative number) before a token, at {np.argwhere(early)[0].tolist()}; put padding after "
            "the last token of a sequence"
        )
