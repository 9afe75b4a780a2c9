"""What a caller handed in, said in one sentence: checks of single arguments, shared by every public function.

A wrong kind of thing is a `TypeError`, a right kind with a value that cannot be used a `ValueError`; both name the argument,
say what was given, and what to give instead. Nothing here looks at the numbers inside an array.
"""

import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.typing import PRNGKey

__all__ = [
    "array_fault",
    "check_array",
    "check_count",
    "check_key",
    "check_number",
    "comes_from",
    "describe",
    "is_traced",
]

LONGEST = 40  # characters of a value that are repeated back


def describe(value: Any) -> str:
    """`value` as a noun phrase: "the string 'map'", "a pandas DataFrame", "an array of shape (3,) and dtype int32"."""
    if value is None or isinstance(value, bool | int | float | complex):
        return _shortened(repr(value))
    if isinstance(value, str):
        return f"the string {_shortened(repr(value))}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, np.generic):
        return _shortened(repr(value))
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if callable(value) and isinstance(
        getattr(value, "__name__", None), str
    ):  # jitted and cached functions have one too
        return f"the function {_shortened(value.__name__)}"
    kind = type(value)
    package = kind.__module__.split(".")[0]
    name = kind.__name__ if package in ("builtins", "__main__", "types") else f"{package} {kind.__name__}"
    return f"{'an' if name[0] in 'aeiox' else 'a'} {_shortened(name)}"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def comes_from(value: Any, package: str, *names: str) -> bool:
    """Whether the type of `value`, or one it derives from, is defined in `package`, and has one of `names` if any are given.

    A library is recognised by name, so that none is imported for the sake of an error message.
    """
    return any(
        f"{kind.__module__}.".startswith(f"{package}.") and (not names or kind.__name__ in names)
        for kind in type(value).__mro__
    )


def is_traced(value: Any) -> bool:
    """Whether `value` is a tracer: an array inside `jit`, `vmap` or `grad`, whose numbers are not known yet."""
    return isinstance(value, jax.core.Tracer)


def check_count(name: str, value: Any, *, least: int = 1) -> int:
    """`value` as an int; numpy integers count, floats and booleans do not.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is below `least`.
    """
    try:
        count = None if isinstance(value, bool | np.bool) or is_traced(value) else operator.index(value)
    except TypeError:
        count = None
    if count is None:
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
        raise TypeError(f"{name} is {describe(value)}; give a whole number such as {int(value) if whole else 100}")
    if count < least:
        raise ValueError(f"{name} = {count}; it must be at least {least}")
    return count


def check_number(name: str, value: Any, *, least: float | None = 0.0, above: bool = False) -> None:
    """Refuse what is not one finite real number: a Python or numpy number, or an array without axes. A tracer passes.

    Args:
        name: the argument's name.
        value: what was given.
        least: the smallest value allowed; `None`: any.
        above: whether `least` itself is excluded.

    Raises:
        TypeError: if it is not a real number.
        ValueError: if it has axes, is not finite or is out of range.
    """
    if is_traced(value):
        return
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array) or isinstance(value, bool):
        raise TypeError(f"{name} is {describe(value)}; give one real number")
    if np.ndim(value) != 0:
        raise ValueError(f"{name} is {describe(value)}; give one number, not an array")
    if isinstance(value, jax.Array) and value.is_deleted():
        raise ValueError(f"{name} is a deleted array (donated to a jitted function, or freed); make it again")
    if not (
        jnp.issubdtype(np.asarray(value).dtype, np.floating) or jnp.issubdtype(np.asarray(value).dtype, np.integer)
    ):
        raise TypeError(f"{name} is {describe(value)}; give one real number")
    number = float(value)
    if np.isfinite(number) and (least is None or number > least or (number == least and not above)):
        return
    kinds = {None: "", 0.0: "positive " if above else "non-negative "}
    kind = kinds.get(least)
    allowed = (
        f"a finite {kind}number" if kind is not None else f"a finite number {'above' if above else 'from'} {least:g}"
    )
    raise ValueError(f"{name} = {value}; it must be {allowed}")


def check_key(key: Any, name: str = "key") -> PRNGKey:
    """`key`, if it is one typed PRNG key.

    Raises:
        TypeError: for a seed, or a raw key of old style.
        ValueError: for an array of keys, or a deleted key.
    """
    advice = "give one typed key, such as jax.random.key(0)"
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raw = getattr(key, "dtype", None) == np.uint32 and np.shape(key) == (2,)
        given = "a raw uint32 key of old style" if raw else describe(key)
        raise TypeError(f"{name} is {given}; {advice}")
    if not is_traced(key) and key.is_deleted():
        raise ValueError(f"{name} is a deleted array (donated to a jitted function, or freed); {advice}")
    if key.ndim != 0:
        raise ValueError(f"{name} is {key.size} keys of shape {key.shape}; {advice}")
    return key


def check_array(name: str, leaf: Any) -> None:
    """Refuse a leaf that is no numeric array of JAX or numpy, or whose memory is gone.

    Raises:
        TypeError: if it is not such an array, with the way to make one where there is a usual one.
        ValueError: if it was donated or deleted.
    """
    if fault := array_fault(leaf):
        raise TypeError(f"{name} {fault}")
    if isinstance(leaf, jax.Array) and not is_traced(leaf) and leaf.is_deleted():
        raise ValueError(
            f"{name} is a deleted array: it was donated to a jitted function (donate_argnums) or freed; keep a copy of it"
        )


def array_fault(leaf: Any) -> str | None:
    """What keeps `leaf` from being a numeric array, as the rest of a sentence that begins with its name; or nothing."""
    if isinstance(leaf, np.ma.MaskedArray):
        return "is a masked array, whose mask JAX would drop; fill it, or leave the masked examples out"
    if isinstance(leaf, jax.Array):
        return None
    if isinstance(leaf, np.ndarray | np.generic):
        return _dtype_fault(leaf.dtype)
    if isinstance(leaf, bool | int | float | complex):
        return None  # a scalar, which callers that need an axis refuse by its shape
    return f"is {describe(leaf)}; {_remedy(leaf)}"


def _dtype_fault(dtype: np.dtype) -> str | None:
    if jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool):
        return None
    if dtype.kind == "O":
        return (
            "has dtype object (rows of unequal length, or text); pad the rows to one length, or encode them as numbers"
        )
    if dtype.kind in "UST":
        return "holds text; encode it as integers (tokens) first"
    return f"has dtype {_shortened(str(dtype))}; give numbers, one array for each field"


def _remedy(leaf: Any) -> str:
    if isinstance(leaf, str | bytes):
        return "give arrays of numbers; encode text as integers (tokens) first"
    if isinstance(leaf, Mapping):
        return "give a dict of arrays, {name: np.asarray(given[name]) for name in given}"
    for method in ("to_numpy", "numpy"):
        if callable(getattr(leaf, method, None)):
            return f"give an array, its .{method}()"
    if hasattr(leaf, "__array__"):
        return "give an array, np.asarray of it"
    if hasattr(leaf, "__next__") or hasattr(leaf, "__iter__"):
        return (
            "give every example at once, in arrays with a leading example axis (join its batches with np.concatenate)"
        )
    return "give a numpy or JAX array"
