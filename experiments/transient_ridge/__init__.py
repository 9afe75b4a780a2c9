"""`transient-ridge`: ridge regression learned in context, then given up for the training tasks (arXiv 2501.17745)."""

from configs.transient_ridge import CONFIGS
from experiments.transient_ridge.page import page
from experiments.transient_ridge.subject import measures, subjects
from slt_lab.experiment import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="transient-ridge",
    summary="transformers learn ridge regression in context, then give it up for the tasks they trained on",
    paper="arXiv 2501.17745, figures 1 and 2",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    axis="num_tasks",
    page=page,
)
