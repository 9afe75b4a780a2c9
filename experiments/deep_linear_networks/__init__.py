"""`deep-linear-networks`: LLC estimates on random deep linear networks, against the exact local learning coefficient."""

from experiments.deep_linear_networks.measure import run
from experiments.deep_linear_networks.report import report

__all__ = ["report", "run"]
