"""`known-models`: every sampler on every model whose learning coefficient is known; estimates, error bars, coverage."""

from configs.known_models import CONFIGS
from experiments.known_models.measure import check, run
from experiments.known_models.page import page
from slt_lab.experiment import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="known-models",
    summary="every sampler on singular models whose exact value is known, and the coverage of its error bars",
    paper="arXiv 2308.12108",
    configs=CONFIGS,
    check=check,
    run=run,
    page=page,
)
