"""Every sampler on every model whose learning coefficient is known: estimates, error bars, coverage."""

from experiments.known_models.measure import run
from experiments.known_models.report import report

__all__ = ["report", "run"]
