"""`self-repair`: does a network that repairs itself have a lower learning coefficient? Exact toys, and trained language models."""

from collections.abc import Mapping, Sequence

import xarray

from configs.self_repair import CONFIGS, Toys, Trained
from experiments.self_repair import page as toys_page
from experiments.self_repair import toys, trained, trained_page
from slt_lab.experiment import Experiment
from slt_lab.folder import RunFolder
from slt_lab.measure import Along, Measure
from slt_lab.page import Page
from slt_lab.subject import Subject

__all__ = ["EXPERIMENT"]


def subjects(config: Toys | Trained, folder: RunFolder) -> Mapping[str, Subject]:
    """Every toy, or every model."""
    return toys.subjects(config) if isinstance(config, Toys) else trained.subjects(config, folder)


def measures(config: Toys | Trained) -> Sequence[Measure | Along]:
    """What is asked of each."""
    return toys.measures(config) if isinstance(config, Toys) else trained.measures(config)


def check(config: Toys | Trained) -> None:
    """Refuse what cannot be."""
    toys.check(config) if isinstance(config, Toys) else trained.check(config)


def page(results: xarray.Dataset, config: Toys | Trained) -> Page:
    """The page of a run."""
    return toys_page.page(results, config) if isinstance(config, Toys) else trained_page.page(results, config)


EXPERIMENT = Experiment(
    name="self-repair",
    summary="does a network that repairs itself have a lower learning coefficient? Exact toys, and trained models",
    paper="a conjecture; docs/self-repair.md",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    axis="model",
    check=check,
    page=page,
)
