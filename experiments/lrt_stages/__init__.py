"""`lrt-stages`: train a linear-regression transformer, measure its LLC over training, tell its stages."""

from experiments.lrt_stages.measure import check, run
from experiments.lrt_stages.report import report

__all__ = ["check", "report", "run"]
