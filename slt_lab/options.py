"""The command line's own options, taken out before the rest, the fields of a config, goes to `tyro`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slt_lab.errors import UserError

__all__ = ["Options", "take_options"]

VALUES = ("config", "folder")
SWITCHES = ("tolerate-divergence", "worker")


@dataclass(frozen=True)
class Options:
    """How to run, beside what."""

    config: str | None = None
    folder: Path | None = None
    tolerate_divergence: bool = False
    worker: bool = False
    rest: tuple[str, ...] = ()


def take_options(arguments: list[str]) -> Options:
    """The options among `arguments`; what is left are fields of the config.

    Raises:
        UserError: on an option without a value, with an empty one, or given twice; on a field given twice.
    """
    found: dict[str, Any] = {}
    rest: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in (*VALUES, *SWITCHES):
            rest.append(argument)
            continue
        if name in found:
            raise UserError(f"--{name} is given twice")
        if name in SWITCHES:
            if equals:
                raise UserError(f"--{name} takes no value")
            found[name] = True
            continue
        if not equals and not left:
            raise UserError(f"--{name} needs a value")
        value = value if equals else left.pop(0)
        if not value.strip():
            raise UserError(f"--{name} is empty; give a value or leave it out")
        found[name] = value
    _check_once(rest)
    folder = Path(found["folder"]) if "folder" in found else None
    return Options(
        found.get("config"), folder, found.get("tolerate-divergence", False), found.get("worker", False), tuple(rest)
    )


def _check_once(rest: list[str]) -> None:
    names = [argument.split("=", 1)[0].replace("_", "-") for argument in rest if argument.startswith("--")]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is given twice")
