"""Stopping on request: a scheduler's signal is noted at once and obeyed at the next safe place, with the state on disk."""

import contextlib
import signal
from collections.abc import Iterator

__all__ = ["asked_to_stop", "listening"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
_received: list[int] = []


def asked_to_stop() -> bool:
    """Whether one of the signals has come since `listening` began."""
    return bool(_received)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Note SIGTERM, SIGUSR1 and SIGUSR2 until the block ends, instead of dying of them."""
    _received.clear()
    before = {number: signal.signal(number, lambda number, frame: _received.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
