"""`transient-ridge`: transformers that learn ridge regression in context, then give it up for the tasks they trained on."""

from experiments.transient_ridge.measure import run
from experiments.transient_ridge.report import report

__all__ = ["report", "run"]
