"""`refined-llc`: LLCs of single heads, on the training data and on parts of it; heads told apart by their curves (arXiv 2410.02984)."""

from collections.abc import Mapping
from typing import Any

from configs.refined_llc import CONFIGS, RefinedLLC
from experiments.refined_llc.page import page
from slt_lab.errors import UserError
from slt_lab.experiment import Experiment
from slt_lab.folder import RunFolder
from slt_lab.measure import Along, Measure
from slt_lab.measures.knowledge import Knowledge
from slt_lab.measures.language_llc import HeadLLC, SourceLLC, check_refined
from slt_lab.measures.memory import needed_memory
from slt_lab.subjects.language_model import LanguageSubject, check_language, language_facts, language_subject
from slt_lab.subjects.language_tasks import source_names

__all__ = ["EXPERIMENT"]


def subjects(config: RefinedLLC, folder: RunFolder) -> dict[str, LanguageSubject]:
    """The model."""
    return {"model": language_subject(config, folder)}


def measures(config: RefinedLLC) -> list[Measure | Along]:
    """The scores of heads, and on every source the refined LLC of each and the LLC of the whole model."""
    known = source_names(config.data)
    named = dict.fromkeys((known[0], *(config.sources or known)))
    sources = {name: "" if name == known[0] else name for name in named}  # the first is the training distribution
    counts = config.num_evaluation_sequences, config.num_probe_sequences
    return [
        Knowledge(*counts, also_at=config.refined.checkpoint_steps),
        Along("source", {name: HeadLLC(config.refined, source) for name, source in sources.items()}),
        Along("source", {name: SourceLLC(config.refined, source) for name, source in sources.items()}),
    ]


def facts(config: RefinedLLC, subjects: Mapping[str, LanguageSubject], folder: RunFolder) -> dict[str, Any]:
    """Simpler predictors, and the memory it takes."""
    subject = subjects["model"]
    memory = needed_memory(folder, subject, config.refined, config.refined)
    return {**language_facts(config, subject), "memory": str(memory)}


def check(config: RefinedLLC) -> None:
    """Refuse a language or a model that cannot be, and a source that there is not."""
    check_language(config)
    check_refined(config.refined)
    known = source_names(config.data)
    unknown = [source for source in config.sources if source not in known]
    if unknown:
        raise UserError(f"there is no source '{unknown[0]}'; there are: {', '.join(known)}")


EXPERIMENT = Experiment(
    name="refined-llc",
    summary="attention heads told apart by their LLCs, refined by weights and by data",
    paper="arXiv 2410.02984, figures 2-5",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    facts=facts,
    check=check,
    page=page,
)
