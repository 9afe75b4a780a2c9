"""`lrt-stages`: train a linear-regression transformer, measure its LLC over training, tell its stages."""

from configs.lrt_stages import CONFIGS
from experiments.lrt_stages.check import check
from experiments.lrt_stages.page import page
from experiments.lrt_stages.subject import measures, subjects
from slt_lab.experiment import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="lrt-stages",
    summary="linear-regression transformers develop in stages LR1-LR5",
    paper="arXiv 2402.02364, figures 1 and 2",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    axis="seed",
    page=page,
    check=check,
)
