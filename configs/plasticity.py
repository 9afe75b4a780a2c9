"""Configs of `plasticity`: do heads whose learning coefficient has fallen resist further training?"""

from collections.abc import Callable
from dataclasses import dataclass

from slt_lab.settings import Sampling
from slt_lab.subjects.language_settings import LanguageSettings, Model, Shift, Training, Triggers

__all__ = ["CONFIGS", "Plasticity", "cpu", "tiny"]


@dataclass(frozen=True)
class Plasticity:
    """Models of one language, taken on to new ones from many checkpoints."""

    language: LanguageSettings
    """Its seed is replaced by each of `seeds`."""
    refined: Sampling
    """Of every head alone, at every checkpoint."""
    shifts: tuple[Shift, ...]
    recovery: Shift
    """How training goes on after noise on a head: its language is the old one, 0."""
    seeds: tuple[int, ...]
    checkpoint_steps: tuple[int, ...]
    """On a logarithmic grid; the last is the end of training."""
    noise: float = 0.5
    """On a head, in root mean squares of its arrays."""
    looks: tuple[int, ...] = (0, 2, 8, 32)
    """Steps after which the recovery is looked at."""
    num_sequences: int = 256


def cpu() -> Plasticity:
    """24 models of the small language, ten checkpoints each; three new languages, 100 steps, Adam and SGD.

    Command: python -m experiments plasticity --config cpu
    Cost:    not run. A step of training took 7.9 ms of one core; at that for a step of a chain too (batch 32), a model takes 24 s to train, 95 s for its
             refined LLCs per checkpoint, and 15 s for shifts and recovery: seven to eight core hours in all.
    """
    steps = (40, 80, 130, 200, 320, 500, 800, 1300, 2000, 3000)
    return Plasticity(
        language=LanguageSettings(
            data=Triggers(context=32, vocab_size=32, num_triggers=8),
            model=Model(embed_dim=32, num_heads=4, num_layers=3),
            training=Training(
                num_steps=steps[-1], learning_rate=4e-3, weight_decay=0.0, batch_size=32, checkpoint_every=steps[-1]
            ),
            num_evaluation_sequences=1024,
        ),
        refined=Sampling(8192, 300.0, 100.0, 3e-4, batch_size=32, num_chains=2, num_draws=150, num_burnin=150),
        shifts=(
            Shift(1, 100, "adam", 1e-3),
            Shift(2, 100, "adam", 1e-3),
            Shift(3, 100, "adam", 1e-3),
            Shift(1, 100, "sgd", 0.1),
            Shift(2, 100, "sgd", 0.1),
            Shift(3, 100, "sgd", 0.1),
        ),
        recovery=Shift(0, 32, "sgd", 0.1),
        seeds=tuple(range(300, 324)),
        checkpoint_steps=steps,
    )


def tiny() -> Plasticity:
    """For the tests of the experiment itself: no accuracy.

    Command: python -m experiments plasticity --config tiny
    Cost:    a minute, most of it compiling.
    """
    return Plasticity(
        language=LanguageSettings(
            data=Triggers(context=8, vocab_size=8, num_triggers=2),
            model=Model(embed_dim=8, num_heads=2, num_layers=1),
            training=Training(num_steps=8, batch_size=8, checkpoint_every=8),
            num_evaluation_sequences=16,
        ),
        refined=Sampling(32, 10.0, 10.0, 1e-4, batch_size=8, num_draws=8, num_burnin=4),
        shifts=(Shift(1, 2, "adam", 1e-3), Shift(1, 2, "sgd", 0.1)),
        recovery=Shift(0, 2, "sgd", 0.1),
        seeds=(0, 1, 2),
        checkpoint_steps=(2, 4, 6, 8),
        looks=(0, 2),
        num_sequences=8,
    )


CONFIGS: dict[str, Callable[[], Plasticity]] = {"cpu": cpu, "tiny": tiny}
