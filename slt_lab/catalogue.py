"""Which experiments a command line knows: listed ones by name, loaded when they are run, and a user's own by the path of its file."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slt_lab.errors import UserError

if TYPE_CHECKING:
    from slt_lab.experiment import Experiment

__all__ = ["Catalogue", "Listed"]


@dataclass(frozen=True)
class Listed:
    """An experiment before it is loaded, so that a list costs nothing: `module` holds `EXPERIMENT`, `configs` holds `CONFIGS`."""

    name: str
    summary: str
    paper: str
    module: str
    configs: str

    def config_names(self) -> list[str]:
        """Names of its configs."""
        return list(import_module(self.configs).CONFIGS)


@dataclass(frozen=True)
class Catalogue:
    """What `command` ("python -m experiments") can run."""

    command: str
    listed: Mapping[str, Listed]

    def find(self, name: str) -> "Experiment":
        """The experiment called `name`, or in the file `name`.

        Raises:
            UserError: if there is none; the sentence names the close ones.
        """
        if name in self.listed:
            return import_module(self.listed[name].module).EXPERIMENT
        if name.endswith(".py"):
            return _from_file(Path(name))
        from difflib import get_close_matches

        close = get_close_matches(name, self.listed, n=1)
        known = f"there are: {', '.join(self.listed)}" if self.listed else "give the path of a file with an EXPERIMENT"
        raise UserError(f"no experiment '{name}'; " + (f"did you mean '{close[0]}'?" if close else known))


def _from_file(path: Path) -> "Experiment":
    try:
        changed = path.stat().st_mtime_ns if path.is_file() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    if changed is None:
        raise UserError(f"there is no file {path}; give the path of a file with an EXPERIMENT")
    return _loaded(path.resolve(), changed)


@cache
def _loaded(path: Path, changed: int) -> "Experiment":
    """The experiment in a file as it is since `changed`: loaded once, for functions loaded twice are compiled twice."""
    del changed
    from slt_lab.experiment import Experiment

    name = path.stem
    if not name.isidentifier() or name in sys.modules:
        name = f"experiment_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))  # files beside it may be imported
    spec.loader.exec_module(module)
    found = getattr(module, "EXPERIMENT", None)
    if not isinstance(found, Experiment):
        raise UserError(f"{path} has no EXPERIMENT = slt_lab.Experiment(...)")
    return found


def config_of(experiment: "Experiment", name: str | None) -> Callable[[], Any]:
    """The config called `name`.

    Raises:
        UserError: if there is none.
    """
    if name is not None and name in experiment.configs:
        return experiment.configs[name]
    given = "--config is missing" if name is None else f"{experiment.name} has no config '{name}'"
    raise UserError(f"{given}; there are: {', '.join(experiment.configs)}")
