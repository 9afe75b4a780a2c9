"""`digits`: one trained network, its LLC by every sampler and by NUTS on the same posterior."""

from experiments.digits.measure import run
from experiments.digits.report import report

__all__ = ["report", "run"]
