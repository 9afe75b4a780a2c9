"""`susceptibilities`: how every attention head answers to every kind of token, over training (arXiv 2504.18274)."""

from collections.abc import Mapping
from typing import Any

from configs.susceptibilities import CONFIGS, Susceptibility
from experiments.susceptibilities.page import page
from slt_lab.experiment import Experiment
from slt_lab.folder import RunFolder
from slt_lab.measure import Measure
from slt_lab.measures.knowledge import Knowledge
from slt_lab.measures.susceptibilities import Susceptibilities, check_susceptibilities
from slt_lab.subjects.language_model import LanguageSubject, check_language, language_facts, language_subject

__all__ = ["EXPERIMENT"]


def subjects(config: Susceptibility, folder: RunFolder) -> dict[str, LanguageSubject]:
    """The model."""
    return {"model": language_subject(config, folder)}


def measures(config: Susceptibility) -> list[Measure]:
    """What the model knows, and the susceptibilities of its heads."""
    return [
        Knowledge(
            config.num_evaluation_sequences, config.num_probe_sequences, also_at=config.heads.checkpoint_steps
        ),
        Susceptibilities(config.heads, config.thinning, config.num_susceptibility_sequences),
    ]  # fmt: skip


def facts(config: Susceptibility, subjects: Mapping[str, LanguageSubject], folder: RunFolder) -> dict[str, Any]:
    """Simpler predictors, and the class of every token."""
    del folder
    subject = subjects["model"]
    classes = subject.task.token_classes(config.num_susceptibility_sequences)
    return {**language_facts(config, subject), "token_classes": classes.ravel().tolist()}


def check(config: Susceptibility) -> None:
    """Refuse a language, a model or a sampling that cannot be."""
    check_language(config)
    check_susceptibilities(config.heads)


EXPERIMENT = Experiment(
    name="susceptibilities",
    summary="how every attention head answers to every kind of token, over training",
    paper="arXiv 2504.18274",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    facts=facts,
    check=check,
    page=page,
)
