"""Configs of `susceptibilities`: how every attention head answers to every kind of token (arXiv 2504.18274)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from configs import language_models
from configs.language_models import HEADS
from slt_lab.settings import Sampling
from slt_lab.subjects.language_settings import LanguageSettings, Model, Training, Triggers

__all__ = ["CONFIGS", "Susceptibility", "cpu", "demo", "tiny"]


@dataclass(frozen=True)
class Susceptibility(LanguageSettings):
    """Which model, and how its heads are sampled. A run folder beside this one with the same training spares it here."""

    heads: Sampling = HEADS
    """For every head, the rest fixed."""
    thinning: int = 5
    """Steps per draw."""
    num_susceptibility_sequences: int = 64
    """Evaluation sequences whose tokens the susceptibilities are to."""


def demo() -> Susceptibility:
    """The synthetic language of `lm-stages --config demo`: eight heads, four kinds of token, over training.

    Command: python -m experiments susceptibilities --config demo
    Cost:    half an hour of CPU time, from the first 40 draws of a checkpoint: six checkpoints, 8,800 steps each; the training is
             that of `lm-stages --config demo`, and is taken over.
    """
    return Susceptibility(
        **vars(language_models.demo()),
        heads=replace(
            HEADS, num_examples=4096, num_chains=2, num_draws=100, num_burnin=50,
            checkpoint_steps=(100, 500, 900, 1300, 2000, 3000),
        ),
    )  # fmt: skip


def cpu() -> Susceptibility:
    """The English model of `lm-stages --config english`; the kinds of token are what the context says of each.

    Command: python -m experiments susceptibilities --config cpu
    Cost:    two cores, not measured: the training alone is an hour, and is taken over from `lm-stages --config english`.
    """
    return Susceptibility(
        **vars(language_models.english()),
        heads=replace(
            HEADS, num_examples=4096, num_chains=2, num_draws=100, num_burnin=50,
            checkpoint_steps=(200, 400, 800, 1600, 3200, 6000, 12_000),
        ),
    )  # fmt: skip


def tiny() -> Susceptibility:
    """Everything in seconds, nothing learned: for tests.

    Command: python -m experiments susceptibilities --config tiny
    Expect:  a report.
    """
    return Susceptibility(
        data=Triggers(context=12, vocab_size=8, num_triggers=3),
        model=Model(embed_dim=8, num_heads=2),
        training=Training(num_steps=20, learning_rate=1e-2, batch_size=8, checkpoint_every=10),
        num_evaluation_sequences=16,
        num_probe_sequences=16,
        heads=replace(
            HEADS, num_examples=64, batch_size=8, num_chains=2, num_draws=16, num_burnin=4, checkpoint_steps=(10, 20)
        ),
        thinning=2,
        num_susceptibility_sequences=8,
    )  # fmt: skip


CONFIGS: dict[str, Callable[[], Susceptibility]] = {"tiny": tiny, "demo": demo, "cpu": cpu}
