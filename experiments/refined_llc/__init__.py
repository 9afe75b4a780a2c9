"""`refined-llc`: LLCs of single heads, on the training data and on parts of it; heads told apart by their curves."""

from experiments.refined_llc.measure import run
from experiments.refined_llc.report import report

__all__ = ["report", "run"]
