"""`superposition`: six features in two dimensions; phases, their LLCs, and which of them is preferred (arXiv 2310.06301)."""

from configs.superposition import CONFIGS
from experiments.superposition.measure import check, run
from experiments.superposition.page import page
from slt_lab.experiment import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="superposition",
    summary="a toy model of superposition: phases, their LLCs, and which of them SGD and the posterior find",
    paper="arXiv 2310.06301",
    configs=CONFIGS,
    check=check,
    run=run,
    page=page,
)
