"""Progress on stderr: a bar with a rate and a remaining time; and work that is stopped on request."""

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["Stopped", "never", "progress_bar"]


class Stopped(Exception):
    """Raised by `train` and `sample` when they are asked to stop: what was done is on disk, if it is kept anywhere.

    Example:
        >>> from slt_jax.progress import Stopped
        >>> issubclass(Stopped, Exception)
        True
    """


def never() -> bool:
    """The `should_stop` of work that goes on to its end."""
    return False


@contextlib.contextmanager
def progress_bar(title: str, total: int | None, *, show: bool = True) -> Iterator[Callable[..., None]]:
    """Yield `update(completed, note="")`; the bar shows what is done, steps per second, remaining time and the note.

    A `total` of `None` is one that is not known before the end. Nothing is shown, and rich is not even imported, unless `show`.
    """
    if not show:
        yield lambda completed, note="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        def render(self, task: Task) -> str:
            return f"{task.speed:,.1f}/s" if task.speed else ""

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), Rate(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, note="")

        def update(completed: int, note: str = "") -> None:
            bar.update(task, completed=completed, note=note)

        yield update
