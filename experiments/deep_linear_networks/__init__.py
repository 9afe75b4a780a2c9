"""`deep-linear-networks`: LLC estimates on random deep linear networks against their exact local learning coefficient."""

from configs.deep_linear_networks import CONFIGS
from experiments.deep_linear_networks.measure import run
from experiments.deep_linear_networks.networks import check
from experiments.deep_linear_networks.page import page
from slt_lab.experiment import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="deep-linear-networks",
    summary="estimates on random deep linear networks against their exact local learning coefficient",
    paper="arXiv 2402.03698; 2308.12108, appendix J",
    configs=CONFIGS,
    check=check,
    run=run,
    page=page,
)
