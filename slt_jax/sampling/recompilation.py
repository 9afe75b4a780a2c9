"""Seeing that one loss is compiled again and again, because each checkpoint brings a function of its own; or that it is not
compiled again, though it computes something else by now."""

import warnings
import weakref
from collections.abc import Callable
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import jax
import jax.numpy as jnp

from slt_jax.identity import program
from slt_jax.typing import LossFn

__all__ = ["RecompilationWarning", "check_unchanged", "watch_compilations"]

MANY = 3
"""Functions of one definition: two may be a comparison, three are a habit."""

_seen: dict[Any, list[weakref.ref]] = {}
"""(definition, whatever else makes a program another one) -> the first functions met, up to `MANY`."""


_programs: "weakref.WeakKeyDictionary[Any, dict[Any, str]]" = weakref.WeakKeyDictionary()
"""Function, or the object of a method -> name and shapes -> digest of the program that was compiled for them."""


class RecompilationWarning(UserWarning):
    """One definition of a loss arrives as ever new functions, each of which is compiled anew.

    Example:
        >>> from slt_jax.sampling.recompilation import RecompilationWarning
        >>> issubclass(RecompilationWarning, UserWarning)  # so that warnings.filterwarnings can make it an error
        True
    """


def watch_compilations(loss_fn: LossFn, arguments: Any, *program: Any) -> None:
    """Warn once for a definition that comes as `MANY` different functions for arguments and settings that are the same: what is compiled again without need.

    Args:
        loss_fn: what is compiled; functions, methods and `functools.partial`s of them are told from each other by
            `==`, as `jax.jit` does. Other callables are not watched.
        arguments: pytree of the arrays that it is called with; their shapes and types count.
        program: what else is static in the compiled program, hashable.
    """
    code, settings = _definition(loss_fn)
    if code is None:
        return
    shapes = tuple((jnp.shape(leaf), str(getattr(leaf, "dtype", ""))) for leaf in jax.tree.leaves(arguments))
    found = _seen.setdefault((code, settings, jax.tree.structure(arguments), shapes, program), [])
    if len(found) >= MANY or any(reference() == loss_fn for reference in found):
        return
    found.append(weakref.WeakMethod(loss_fn) if isinstance(loss_fn, MethodType) else weakref.ref(loss_fn))
    if len(found) == MANY:
        warnings.warn(
            f"loss_fn '{code.co_qualname}' ({code.co_filename}, line {code.co_firstlineno}) came as {MANY} different functions "
            "of that one definition, and each is compiled anew, which takes seconds and memory; define it once, outside the "
            "loop over checkpoints, and give what changes as params or data",
            RecompilationWarning,
            stacklevel=5,  # past the precision that `sample_chains` sets, to who called `sample`
        )


def check_unchanged(loss_fn: LossFn, params: Any, data: Any) -> None:
    """Refuse a function that computes something else of the same shapes than when it was compiled.

    JAX compiles a function once: a value that it closes over, a global or an attribute, is a constant of that program, and goes
    on being used after it has changed.

    Raises:
        ValueError: if tracing it again gives another program.
    """
    owner = loss_fn.__self__ if isinstance(loss_fn, MethodType) else loss_fn
    shapes = tuple((jnp.shape(leaf), str(getattr(leaf, "dtype", ""))) for leaf in jax.tree.leaves((params, data)))
    precision = jax.config.values["jax_default_matmul_precision"]  # part of what is compiled, as JAX knows
    name = (getattr(loss_fn, "__name__", ""), jax.tree.structure((params, data)), shapes, precision)
    try:
        compiled = _programs.setdefault(owner, {})
        traced = program(
            lambda *arguments: loss_fn(*arguments), params, data
        )  # a new function: JAX keeps traces of old ones
    except (TypeError, ValueError):  # not hashable, or a callback that cannot be told from another
        return
    if compiled.setdefault(name, traced) != traced:
        raise ValueError(
            f"loss_fn '{getattr(loss_fn, '__qualname__', loss_fn)}' computes something else than when it was compiled: a value "
            "that it closes over has changed, which a compiled function does not see; give that value as params or data, or "
            "define the function anew"
        )


def _definition(function: Callable | Any) -> tuple[CodeType | None, tuple]:
    """The code under methods, `functools.partial`s and wrappers that say what they wrap; and the settings it is bound to.

    A function bound to another number, string or tuple of them is another model and has to be compiled. Arrays are not
    settings: they could have come as arguments.
    """
    bound: list[Any] = []
    while True:
        if isinstance(function, partial):
            bound += [*function.args, *sorted(function.keywords.items())]
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    if isinstance(function, FunctionType):
        bound += map(_held, function.__code__.co_freevars, function.__closure__ or ())
    return getattr(function, "__code__", None), tuple(filter(_is_plain, bound))


def _held(name: str, cell: CellType) -> tuple[str, Any]:
    try:
        return name, cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return name, None


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | float | str | bytes)
