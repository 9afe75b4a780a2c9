"""`plasticity`: do heads whose learning coefficient has fallen resist further training?"""

from dataclasses import replace

from configs.plasticity import CONFIGS, Plasticity
from experiments.plasticity.measures import HeadSize
from experiments.plasticity.page import page
from slt_lab.errors import UserError
from slt_lab.experiment import Experiment
from slt_lab.folder import RunFolder
from slt_lab.measure import Along, Measure
from slt_lab.measures.language_llc import HeadLLC, check_refined
from slt_lab.measures.shifts import Forgetting, HeadMovement, HeadRecovery
from slt_lab.subjects.language_model import LanguageSubject, check_language, language_subject
from slt_lab.subjects.language_settings import Shift, Triggers

__all__ = ["EXPERIMENT"]


def subjects(config: Plasticity, folder: RunFolder) -> dict[int, LanguageSubject]:
    """A model for each seed."""
    each = {seed: language_subject(replace(config.language, seed=seed), folder) for seed in config.seeds}
    return {seed: replace(one, name=f"model_{seed}") for seed, one in each.items()}


def shift_name(shift: Shift) -> str:
    """How a shift is called in results."""
    return f"{shift.optimizer}, language {shift.language}"


def measures(config: Plasticity) -> list[Measure | Along]:
    """Refined LLCs, sizes, movement, forgetting and recovery at every checkpoint."""
    steps, count = config.checkpoint_steps, config.num_sequences
    shifts = {shift_name(shift): shift for shift in config.shifts}
    languages = sorted({shift.language for shift in config.shifts})
    return [
        HeadLLC(replace(config.refined, checkpoint_steps=steps)),
        Along("language", {language: HeadSize(language, count, steps) for language in languages}),
        Along("shift", {name: HeadMovement(shift, count, steps) for name, shift in shifts.items()}),
        Along("shift", {name: Forgetting(shift, count, steps) for name, shift in shifts.items()}),
        HeadRecovery(config.recovery, config.noise, count, config.looks, steps),
    ]


def check(config: Plasticity) -> None:
    """Refuse a language, shifts, looks or checkpoints that cannot be."""
    check_language(config.language)
    check_refined(config.refined)
    if not isinstance(config.language.data, Triggers):
        raise UserError("plasticity is asked of models of a synthetic language; give language.data:triggers")
    names = [shift_name(shift) for shift in config.shifts]
    if not names or len(set(names)) < len(names):
        raise UserError(f"shifts has {names}; give at least one, and none twice")
    steps, end = config.checkpoint_steps, config.language.training.num_steps
    if len(steps) < 3 or list(steps) != sorted(set(steps)) or steps[-1] != end:
        raise UserError(
            f"checkpoint_steps = {steps}; give at least 3 in ascending order, the last of them the end of training, {end}"
        )
    if not config.seeds:
        raise UserError("seeds is empty; give at least one")
    if len(config.looks) < 2 or config.looks[0] != 0 or list(config.looks) != sorted(set(config.looks)):
        raise UserError(f"looks = {config.looks}; give at least 2 steps in ascending order, the first of them 0")


EXPERIMENT = Experiment(
    name="plasticity",
    summary="do attention heads whose learning coefficient has fallen resist further training?",
    paper="a conjecture; docs/results/plasticity/predictions.md",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    axis="model",
    check=check,
    page=page,
)
