"""`lm-stages`: train a small language model, measure what it knows and its LLCs over training, tell its stages."""

from experiments.lm_stages.measure import run
from experiments.lm_stages.report import report

__all__ = ["report", "run"]
