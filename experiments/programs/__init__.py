"""Programs as singularities: λ of noisy Turing machines exactly, samplers beside it, and whether short is simple."""

from experiments.programs.measure import check, run
from experiments.programs.report import report

__all__ = ["check", "report", "run"]
