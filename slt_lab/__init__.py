"""The workshop: an experiment says what is trained and what is asked of it; everything else is here.

Knows no experiment and no paper. `docs/experiments.md` shows how to write one; `python -m slt_lab FILE` runs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slt_lab.errors import UserError
    from slt_lab.experiment import Experiment
    from slt_lab.measure import Measure, Variable
    from slt_lab.opening import Run, open_run
    from slt_lab.page import Page, Picture, Section, Table
    from slt_lab.settings import Sampling
    from slt_lab.subject import Subject

__all__ = [
    "Experiment", "Measure", "Page", "Picture", "Run", "Sampling", "Section", "Subject", "Table", "UserError", "Variable",
    "open_run",
]  # fmt: skip

HOMES = {
    "Experiment": "experiment", "Measure": "measure", "Page": "page", "Picture": "page", "Run": "opening",
    "Sampling": "settings", "Section": "page", "Subject": "subject", "Table": "page", "UserError": "errors",
    "Variable": "measure", "open_run": "opening",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'slt_lab' has no attribute '{name}'")
    return getattr(import_module(f"slt_lab.{HOMES[name]}"), name)
