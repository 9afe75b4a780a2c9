"""`lm-stages`: train a small language model, measure what it knows and its LLCs over training, tell its stages (arXiv 2402.02364)."""

from collections.abc import Mapping
from typing import Any

from configs.lm_stages import CONFIGS, LMStages
from experiments.lm_stages.authors import stages_of_authors
from experiments.lm_stages.page import page
from slt_lab.experiment import Experiment
from slt_lab.folder import RunFolder
from slt_lab.measure import Measure
from slt_lab.measures.knowledge import Knowledge
from slt_lab.measures.language_llc import HeadLLC, check_refined
from slt_lab.measures.llc import LLC
from slt_lab.measures.memory import needed_memory
from slt_lab.subjects.language_model import LanguageSubject, check_language, language_facts, language_subject

__all__ = ["EXPERIMENT"]


def subjects(config: LMStages, folder: RunFolder) -> dict[str, LanguageSubject]:
    """The model."""
    return {"model": language_subject(config, folder)}


def measures(config: LMStages) -> list[Measure]:
    """What it knows, its LLC, and the refined LLC of every head."""
    sampled = (*config.sampling.checkpoint_steps, *config.refined.checkpoint_steps)
    return [
        Knowledge(config.num_evaluation_sequences, config.num_probe_sequences, also_at=sampled),
        LLC(config.sampling),
        HeadLLC(config.refined),
    ]


def facts(config: LMStages, subjects: Mapping[str, LanguageSubject], folder: RunFolder) -> dict[str, Any]:
    """Simpler predictors, the memory it takes, and the stages found on the authors' curves."""
    subject = subjects["model"]
    memory = needed_memory(folder, subject, config.sampling, config.refined)
    return {**language_facts(config, subject), "memory": str(memory), "authors": stages_of_authors(folder)}


def check(config: LMStages) -> None:
    """Refuse a language, a model or a sampling that cannot be."""
    check_language(config)
    check_refined(config.refined)


EXPERIMENT = Experiment(
    name="lm-stages",
    summary="small language models learn bigrams, n-grams, previous-token and induction heads, LM1-LM5",
    paper="arXiv 2402.02364, figures 1 and 3",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    facts=facts,
    check=check,
    page=page,
)
