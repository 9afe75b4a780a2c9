"""Configs of `self-repair`: does a network that repairs itself have a lower learning coefficient? Exact toys, and trained models."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slt_lab import settings
from slt_lab.settings import Sampling
from slt_lab.subjects.language_settings import LanguageSettings, Model, Regime, Training, Triggers

if TYPE_CHECKING:
    from slt_jax.sampling.sampler import Sampler

__all__ = [
    "CONFIGS",
    "REGIMES",
    "Kinetic",
    "Metric",
    "Toys",
    "Trained",
    "cpu",
    "interpolate",
    "tiny",
    "tiny_trained",
    "toys",
]


@dataclass(frozen=True)
class Kinetic(settings.Sampling):
    """Kinetic Langevin dynamics with the exact gradient of the population loss, its step from the curvature that pilot chains meet."""

    num_examples: int = 1
    """The population loss counts as one example."""
    step_size: float | None = None
    batch_size: int = 1
    num_chains: int = 8
    num_draws: int = 20_000
    num_burnin: int = 4000
    persistence: float = 0.9
    step_fraction: float = 0.1
    """h² times the stiffest curvature."""

    def sampler(self) -> "Sampler":
        """The sampler these settings describe."""
        from slt_jax.sampling.sampler import Sampler
        from slt_jax.sampling.underdamped import underdamped

        kernel = underdamped(None, self.persistence)
        return Sampler(kernel, step_size=self.step_size, step_fraction=self.step_fraction)


@dataclass(frozen=True)
class Toys:
    """Every toy at every setting."""

    sampling: tuple[Kinetic, ...] = field(
        default_factory=lambda: (Kinetic(nbeta=1e4, localization=100.0), Kinetic(nbeta=1e6, localization=1000.0))
    )
    """nβ/γ² is 1 at both: beyond, the finite-temperature values of the corrector cannot be drawn (`product_value`)."""
    dimension: int = 4
    """d, even: of all toys but the vote, which is drawn in the plane."""
    seed: int = 0


REGIMES = (
    Regime("plain"),
    Regime("dropout 0.1", head_dropout=0.1),
    Regime("dropout 0.3", head_dropout=0.3),
    Regime("resampling 0.1", head_resampling=0.1),
    Regime("weight noise", weight_noise=0.02),
    Regime("uphill", ascent=0.05),
)
"""Plain, three in which heads fail, and two flatteners in which none does."""


@dataclass(frozen=True)
class Metric(Sampling):
    """Kinetic Langevin dynamics in the curvature metric of each model."""

    num_examples: int = 8192
    step_size: float | None = 0.07
    batch_size: int = 64
    num_chains: int = 4
    num_draws: int = 300
    num_burnin: int = 600
    persistence: float = 0.9
    metric_rank: int = 64
    metric_damping: float = 100.0
    metric_examples: int = 512

    def sampler(self) -> "Sampler":
        """The sampler these settings describe."""
        from slt_jax.sampling.metrics import CurvatureMetric
        from slt_jax.sampling.sampler import Sampler
        from slt_jax.sampling.underdamped import underdamped

        rule = CurvatureMetric(self.metric_rank, self.metric_damping, num_examples=self.metric_examples)
        return Sampler(underdamped(self.batch_size, self.persistence), rule, step_size=self.step_size)


@dataclass(frozen=True)
class Trained:
    """Every regime from every seed."""

    language: LanguageSettings
    """Its seed is replaced by each of `seeds`."""
    sampling: tuple[Metric, ...]
    """The first at every checkpoint, the others at the last."""
    refined: Sampling
    """Of every head alone, at the last checkpoint."""
    seeds: tuple[int, ...] = tuple(range(100, 116))
    """0 to 99 and 900 to 999 were used by pilots."""
    regimes: tuple[Regime, ...] = REGIMES
    checkpoint_steps: tuple[int, ...] = (1500, 2000, 3000)
    """The last is the end of training; matched losses are found between them."""
    ablation_sequences: int = 256
    trace_examples: int = 1024
    trace_probes: int = 16


LANGUAGE = LanguageSettings(
    data=Triggers(context=32, vocab_size=32, num_triggers=8),
    model=Model(embed_dim=32, num_heads=4, num_layers=3),
    training=Training(num_steps=3000, learning_rate=4e-3, weight_decay=0.0, batch_size=32, checkpoint_every=3000),
    num_evaluation_sequences=1024,
)
"""Three layers of four heads on the synthetic language with triggers."""


def toys() -> Toys:
    """Self-repair in three kinds: where the learning coefficient falls, stays and rises.

    Command: python -m experiments self-repair --config toys
    Cost:    five to ten minutes of one core, most of them compiling.
    Expect:  every sampled LLC within three standard errors of the exact value: 7.91, 6.28, 5.15, 4.33 and 3.66 for the corrector at nβ = 10,000.
    """
    return Toys()


def tiny() -> Toys:
    """For the tests of the experiment itself: no accuracy.

    Command: python -m experiments self-repair --config tiny
    Cost:    seconds, most of them compiling.
    """
    return Toys(
        sampling=(Kinetic(nbeta=100.0, localization=100.0, num_chains=2, num_draws=40, num_burnin=10),), dimension=2
    )


def cpu() -> Trained:
    """Four regimes and two flatteners x 16 seeds: 96 models, which a partial correlation of 0.4 asks 65 of for power 0.9.

    Command: python -m experiments self-repair --config cpu
    Cost:    not run. A step of training took 7.9 ms of one core, a model so 24 s. At twice that for a step of a chain (batch 64) its five LLCs
             and refined LLCs take five minutes: eight to nine core hours in all.
    """
    return Trained(
        language=LANGUAGE,
        sampling=(
            Metric(nbeta=300.0, localization=100.0),
            Metric(nbeta=1000.0, localization=100.0),
            Metric(nbeta=1000.0, localization=1000.0),
        ),
        refined=Sampling(8192, 300.0, 100.0, 3e-4, batch_size=64, num_chains=1, num_draws=200, num_burnin=200),
    )


def interpolate() -> Trained:
    """Plain models taken on for 500 steps: with failing heads, without, with weight noise; then 100 plain steps.

    Command: python -m experiments self-repair --config interpolate
    Cost:    not run; by the same reckoning an hour and a half of one core.
    """
    begins, ends, last = 3000, 3500, 3600
    training = Training(num_steps=last, learning_rate=4e-3, weight_decay=0.0, batch_size=32, checkpoint_every=last)
    base = cpu()
    return Trained(
        language=LanguageSettings(
            data=LANGUAGE.data, model=LANGUAGE.model, training=training, num_evaluation_sequences=4096
        ),
        sampling=base.sampling[:1],
        refined=base.refined,
        seeds=tuple(range(200, 208)),
        regimes=(
            Regime("then plain", begins=begins, ends=ends),
            Regime("then dropout 0.3", head_dropout=0.3, begins=begins, ends=ends),
            Regime("then weight noise", weight_noise=0.02, begins=begins, ends=ends),
        ),
        checkpoint_steps=(begins, last),
    )


def tiny_trained() -> Trained:
    """Trained models for the tests of the experiment itself: no accuracy.

    Command: python -m experiments self-repair --config tiny-trained
    Cost:    a minute, most of it compiling.
    """
    return Trained(
        language=LanguageSettings(
            data=Triggers(context=8, vocab_size=8, num_triggers=2),
            model=Model(embed_dim=8, num_heads=2, num_layers=2),
            training=Training(num_steps=8, batch_size=8, checkpoint_every=8),
            num_evaluation_sequences=16,
        ),
        sampling=(
            Metric(
                32, 10.0, 10.0, batch_size=8, num_chains=2, num_draws=8, num_burnin=4, metric_rank=2, metric_examples=8
            ),
        ),
        refined=Sampling(32, 10.0, 10.0, 1e-4, batch_size=8, num_draws=8, num_burnin=4),
        seeds=(0, 1),
        regimes=(Regime("plain"), Regime("dropout 0.3", head_dropout=0.3)),
        checkpoint_steps=(4, 8),
        ablation_sequences=8,
        trace_examples=16,
        trace_probes=2,
    )


CONFIGS: dict[str, Callable[[], Toys | Trained]] = {
    "toys": toys, "cpu": cpu, "interpolate": interpolate, "tiny": tiny, "tiny-trained": tiny_trained,
}  # fmt: skip
