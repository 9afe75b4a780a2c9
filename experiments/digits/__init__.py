"""`digits`: one trained network, its LLC by every sampler and by NUTS on the same posterior."""

from configs.digits import CONFIGS
from experiments.digits.measure import check, run
from experiments.digits.page import page
from slt_lab.experiment import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="digits",
    summary="a network trained on handwritten digits: every sampler beside the No-U-Turn sampler",
    paper="arXiv 2507.21449",
    configs=CONFIGS,
    check=check,
    run=run,
    page=page,
)
