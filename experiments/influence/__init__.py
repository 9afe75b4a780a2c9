"""`influence`: what one training example does to a prediction, by retraining and by two predictions of it (arXiv 2509.26544)."""

from configs.influence import CONFIGS, Influence
from experiments.influence.measures import measures
from experiments.influence.page import page
from slt_lab.errors import UserError
from slt_lab.experiment import Experiment
from slt_lab.folder import RunFolder
from slt_lab.subjects.digits import DigitsSubject, digits_subject

__all__ = ["EXPERIMENT"]


def subjects(config: Influence, folder: RunFolder) -> dict[str, DigitsSubject]:
    """The network."""
    del folder
    return {"digits": digits_subject(config.network, config.seed)}


def check(config: Influence) -> None:
    """Refuse more examples left out than there are, and parts that are the whole.

    Raises:
        UserError: naming the flag.
    """
    settings, n = config.retraining, config.network.num_examples
    if settings.num_left_out > n:
        raise UserError(f"retraining.num_left_out = {settings.num_left_out}; there are {n} training examples")
    if not 0 < round(settings.subset_share * n) < n:
        raise UserError(f"retraining.subset_share = {settings.subset_share}; a part must be smaller than all the data")


EXPERIMENT = Experiment(
    name="influence",
    summary="what one training example does to a prediction: Bayesian and classical influence beside retraining",
    paper="arXiv 2509.26544",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    check=check,
    page=page,
)
