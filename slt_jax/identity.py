"""What a number follows from, as digests that are the same in every process: values by their bytes, programs by their jaxpr.

Two functions are the same program if tracing them on the same shapes gives the same operations on the same constants.
Where a function was defined, what it is called and at which address it lies do not matter; what it closes over does.
"""

import hashlib
import inspect
import re
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

__all__ = ["check_same", "close", "content", "program", "record", "setting", "unordered"]

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
NAMELESS = ("<lambda>", "<locals>", " object at 0x")
"""In a repr: what does not say of which settings it was made."""

PROGRAM = "program:"
"""Begins the digest of a program: one version of jax writes another program than the next for the same function."""

# Where a program runs, what it is called and what it reports; none of it moves a number.
SILENT_PARAMETERS = {
    "name", "in_shardings", "out_shardings", "in_layouts", "out_layouts", "donated_invars", "ctx_mesh", "keep_unused",
    "inline", "compiler_options_kvs", "sharding", "out_sharding", "out_trees",
}  # fmt: skip
SILENT_PRIMITIVES = {"debug_callback", "debug_print"}


def content(tree: Any) -> str:
    """A digest of the arrays in `tree` (typed keys included) with their paths, shapes and types."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(jax.tree_util.keystr(path).encode())
        _add_array(digest, leaf)
    return digest.hexdigest()


def unordered(tree: Any) -> str:
    """A digest of the arrays in `tree`, wherever they are in it: the same for a dict and a NamedTuple of the same arrays."""
    return hashlib.sha256("".join(sorted(map(_array_digest, jax.tree.leaves(tree)))).encode()).hexdigest()


def program(function: Callable, *arguments: Any) -> str:
    """A digest of what `function` computes of arguments like these (pytrees of arrays or `jax.ShapeDtypeStruct`).

    A host callback (`jax.pure_callback`) is told from another by its code and what it closes over.
    """
    return PROGRAM + _of_lines(_program_lines(jax.make_jaxpr(function)(*jax.tree.map(_abstract, arguments))))


def setting(name: str, value: Any) -> str:
    """The repr of a setting, which must say all of it.

    Raises:
        ValueError: if the repr tells an address, a lambda or a local function instead of settings.
    """
    text = repr(value)
    if any(mark in text for mark in NAMELESS):
        raise ValueError(
            f"{name} = {text} does not say its settings, so a stored state cannot be told to be its own; make it a "
            "frozen dataclass whose fields are its settings, or give no state_path"
        )
    return ADDRESS.sub("", text)


def _abstract(leaf: Any) -> Any:
    """Shape and type alone: neither a device nor whether the type is a weak one makes another program."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf


def record(identity: Mapping[str, str]) -> dict[str, Any]:
    """`identity` as it is stored, with the version of jax that its programs were traced by."""
    return {"identity": dict(identity), "jax": jax.__version__}


def check_same(
    what: str, stored: Mapping[str, Any], identity: Mapping[str, str], *, same_numbers: Callable[[], bool], remedy: str
) -> None:
    """Refuse what is stored with another identity; another version of jax alone is a warning.

    Args:
        what: what is stored, "sampling state runs/a.npz" say.
        stored: from `record`.
        identity: name -> digest, of the run that asks.
        same_numbers: asked under another version of jax, where programs cannot be compared by their text: whether the
            stored numbers come out again.
        remedy: what to do about another one.

    Raises:
        ValueError: naming what differs.
    """
    before, version, now = stored["identity"], stored["jax"], jax.__version__
    other = [name for name in dict.fromkeys((*identity, *before)) if before.get(name) != identity.get(name)]
    programs = all(identity.get(name, "").startswith(PROGRAM) and name in before for name in other)
    if other and not (version != now and programs):
        raise ValueError(f"{what} belongs to a run with other settings: {', '.join(other)}; {remedy}")
    if other and not same_numbers():
        raise ValueError(
            f"{what} was written under jax {version}, and under jax {now} its first numbers come out as others, or "
            f"{', '.join(other)} is another; go on under jax {version}, or {remedy}"
        )
    if version != now:
        warnings.warn(
            f"{what} was written under jax {version} and goes on under {now}; the numbers may differ in their last digits "
            "from those of one version",
            stacklevel=2,
        )


def close(stored: Any, again: Any) -> bool:
    """Whether two pytrees of arrays are the same but for rounding: to 1e-3 of the largest number of each leaf."""
    pairs = zip(jax.tree.leaves(stored), jax.tree.leaves(again), strict=True)
    return all(np.allclose(a, b, rtol=0, atol=1e-3 * np.abs(a).max(initial=0), equal_nan=True) for a, b in pairs)


def _of_lines(lines: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _add_array(digest: Any, leaf: Any) -> None:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        digest.update(str(jax.random.key_impl(leaf)).encode())
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    digest.update(f"{array.dtype}{array.shape}".encode())
    if array.dtype.hasobject:
        digest.update(repr(array.tolist()).encode())
    else:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _array_digest(array: Any) -> str:
    digest = hashlib.sha256()
    _add_array(digest, array)
    return digest.hexdigest()


def _program_lines(closed: ClosedJaxpr) -> Iterator[str]:
    yield from (f"constant {_describe(value)}" for value in closed.consts)
    yield from _jaxpr_lines(closed.jaxpr)


def _jaxpr_lines(jaxpr: Jaxpr) -> Iterator[str]:
    """One line an equation; variables are numbered in the order in which they appear."""
    numbers: dict[Any, int] = {}

    def name(atom: Any) -> str:
        if isinstance(atom, Literal):
            return f"{_type(atom.aval)}={_describe(np.asarray(atom.val))}"
        return f"{numbers.setdefault(atom, len(numbers))}:{_type(atom.aval)}"

    yield "takes " + " ".join(map(name, (*jaxpr.constvars, *jaxpr.invars)))
    for equation in jaxpr.eqns:
        kind = equation.primitive.name
        if kind in SILENT_PRIMITIVES:
            continue
        yield f"{kind} " + " ".join(map(name, equation.invars)) + " -> " + " ".join(map(name, equation.outvars))
        for key, value in sorted(equation.params.items()):
            if key not in SILENT_PARAMETERS:
                yield f"  {key} = {_describe_callback(value) if key == 'callback' else _describe(value)}"
    yield "returns " + " ".join(map(name, jaxpr.outvars))


def _type(aval: Any) -> str:
    """Type and shape; not where it lies."""
    if hasattr(aval, "shape") and hasattr(aval, "dtype"):
        return f"{aval.dtype}{tuple(aval.shape)}"
    return ADDRESS.sub("", str(aval))


def _describe(value: Any) -> str:
    """A parameter of an equation. Functions among them (rules of derivatives not taken here) count by name alone."""
    if isinstance(value, ClosedJaxpr):
        return _of_lines(_program_lines(value))
    if isinstance(value, Jaxpr):
        return _of_lines(_jaxpr_lines(value))
    if isinstance(value, jax.Array | np.ndarray):
        return _array_digest(value)
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return f"({', '.join(map(_describe, value))})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_describe(item)}' for key, item in value.items())}}}"
    if callable(value) and not isinstance(value, type):
        return getattr(value, "__qualname__", type(value).__qualname__)
    if hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic):
        return _type(value)
    return ADDRESS.sub("", repr(value))


def _describe_callback(value: Any, seen: frozenset[int] = frozenset()) -> str:
    """A host function: its code, and the values that its code reaches by closure, default or global name."""
    if id(value) in seen:
        return "itself"
    inner = partial(_describe_callback, seen=seen | {id(value)})
    if isinstance(value, partial):
        return f"partial({inner(value.func)}, {inner(value.args)}, {inner(value.keywords)})"
    if isinstance(value, types.MethodType):
        return f"method({inner(value.__func__)}, {inner(value.__self__)})"
    if isinstance(value, types.FunctionType):
        reached = inspect.getclosurevars(value)
        code = _describe_code(value.__code__)
        return f"function({code}, {inner(value.__defaults__)}, {inner(value.__kwdefaults__)}, {inner(reached.nonlocals)}, {inner(reached.globals)})"
    if isinstance(value, types.ModuleType | type | types.BuiltinFunctionType):
        return value.__name__
    if isinstance(value, tuple | list | set | frozenset):
        parts = list(map(inner, value))
        return f"{type(value).__name__}({', '.join(sorted(parts) if isinstance(value, set | frozenset) else parts)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {inner(item)}' for key, item in sorted(value.items(), key=lambda kv: repr(kv[0])))}}}"
    if is_dataclass(value):
        held = {field.name: getattr(value, field.name) for field in fields(value)}
        return f"{type(value).__qualname__}{inner(held)}"
    if ADDRESS.search(repr(value)) and hasattr(value, "__dict__"):
        return f"{type(value).__qualname__}{inner(vars(value))}"
    return _describe(value)


def _describe_code(code: types.CodeType) -> str:
    constants = [_describe_code(item) if isinstance(item, types.CodeType) else repr(item) for item in code.co_consts]
    return hashlib.sha256(repr((code.co_code, code.co_names, constants)).encode()).hexdigest()
