"""Trained language models under several regimes, and what is asked of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp

from configs.self_repair import Trained
from slt_jax.analysis.language_metrics import losses_by_position
from slt_jax.trees import squared_norm
from slt_jax.typing import Params
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.measure import Along, Measure, Variable
from slt_lab.measures.ablation import Ablation
from slt_lab.measures.geometry import Geometry
from slt_lab.measures.language_llc import HeadLLC, check_refined
from slt_lab.measures.llc import LLC
from slt_lab.subjects.language_model import LanguageSubject, check_language
from slt_lab.subjects.language_settings import Triggers
from slt_lab.subjects.regimes import regime_subject

__all__ = ["LossAndNorm", "check", "measures", "setting_name", "subjects"]


@dataclass(frozen=True)
class LossAndNorm:
    """The confounders: loss on evaluation sequences and the length of the parameter vector."""

    num_sequences: int
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)
    name: str = "loss and norm"
    axis: str = "checkpoint"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        tokens = subject.task.evaluation(self.num_sequences)
        return {
            "evaluation_loss": losses_by_position(subject.model, params, tokens).mean(),
            "weight_norm": jnp.sqrt(squared_norm(params)),
        }

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        return {
            "evaluation_loss": Variable((), "loss on evaluation sequences", "nats per token"),
            "weight_norm": Variable((), "length of the parameter vector"),
        }

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {}


def subjects(config: Trained, folder: RunFolder) -> dict[str, LanguageSubject]:
    """Every regime from every seed: all models of a seed begin alike and see the same batches."""
    return {
        f"{regime.name} {seed}": regime_subject(replace(config.language, seed=seed), regime, folder)
        for regime in config.regimes
        for seed in config.seeds
    }


def setting_name(nbeta: float, localization: float) -> str:
    """How a setting is called in results."""
    return f"nβ = {nbeta:g}, γ = {localization:g}"


def measures(config: Trained) -> list[Measure | Along]:
    """Loss and norm, repair and the LLC of the first setting at every checkpoint; the rest at the last."""
    every, last = config.checkpoint_steps, config.checkpoint_steps[-1:]
    first, *others = config.sampling
    settings = {setting_name(first.nbeta, first.localization): replace(first, checkpoint_steps=every)}
    settings |= {setting_name(one.nbeta, one.localization): replace(one, checkpoint_steps=last) for one in others}
    return [
        LossAndNorm(config.language.num_evaluation_sequences, every),
        Ablation(config.ablation_sequences, checkpoint_steps=every),
        Along("setting", {name: LLC(one) for name, one in settings.items()}),
        Geometry(first.num_examples, config.trace_examples, config.trace_probes, 0, "language/geometry", every),
        HeadLLC(replace(config.refined, checkpoint_steps=last)),
    ]


def check(config: Trained) -> None:
    """Refuse a language, regimes or checkpoints that cannot be."""
    check_language(config.language)
    check_refined(config.refined)
    if not isinstance(config.language.data, Triggers):
        raise UserError("self-repair is asked of models of a synthetic language; give language.data:triggers")
    names = [regime.name for regime in config.regimes]
    if not names or len(set(names)) < len(names):
        raise UserError(f"regimes has the names {names}; give at least one, and none twice")
    for regime in config.regimes:
        if not (0 <= regime.head_dropout < 1 and 0 <= regime.head_resampling < 1):
            raise UserError(f"regime {regime.name} has a probability outside [0, 1)")
    steps = config.checkpoint_steps
    if not steps or list(steps) != sorted(set(steps)) or steps[-1] != config.language.training.num_steps:
        raise UserError(
            f"checkpoint_steps = {steps}; give steps in ascending order, the last of them the end of training, {config.language.training.num_steps}"
        )
    settings = [setting_name(one.nbeta, one.localization) for one in config.sampling]
    if not settings or len(set(settings)) < len(settings):
        raise UserError(f"sampling has the settings {settings}; give at least one, and none twice")
