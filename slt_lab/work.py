"""The piece at hand: where a measure that takes long may keep its state, and whether it has been asked to stop.

Outside a bench there is no piece at hand; a measure then keeps nothing and is never stopped.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from slt_lab.signals import asked_to_stop

__all__ = ["at_hand", "sampling_options"]

_place: ContextVar[Path | None] = ContextVar("place", default=None)


@contextlib.contextmanager
def at_hand(place: Path) -> Iterator[None]:
    """Within the block, the piece at hand keeps its state in files whose names begin as `place`; they go when it is finished."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)
    for file in place.parent.glob(place.name + ".*"):
        file.unlink(missing_ok=True)


def sampling_options(name: str = "chains") -> dict[str, Any]:
    """Options for `slt_jax.sample`: the state of the chains called `name` survives a kill, and SIGTERM stops them."""
    place = _place.get()
    path = None if place is None else place.with_name(f"{place.name}.{name}.npz")
    return {"state_path": path, "should_stop": asked_to_stop}
