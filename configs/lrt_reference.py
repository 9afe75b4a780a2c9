"""Configs of `lrt-reference`: is the fall of the LLC in the posterior, or do the chains not mix? (arXiv 2402.02364, LR4)"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from configs import lrt_stages
from configs.lrt_stages import Model, Sampling, Training

__all__ = ["CONFIGS", "Adjusted", "LRTReference", "cpu", "demo", "tiny"]


@dataclass(frozen=True)
class Adjusted:
    """Metropolis-adjusted chains (the No-U-Turn sampler in the curvature metric) with full gradients on part of the data."""

    num_examples: int = 2048
    """The first of the sequences of the empirical loss, all of them in every gradient."""
    num_other_examples: int = 4096
    """The next ones: how much nearer or farther their loss would put the draws."""
    num_chains: int = 2
    """From the checkpoint, and as many from where SGLD ends."""
    num_warmup: int = 150
    num_draws: int = 150
    metric_rank: int = 64
    metric_examples: int = 128
    sgld_steps: int = 5000
    """Steps of SGLD, at the settings of `sampling`, whose end is the other starting point."""


@dataclass(frozen=True)
class LRTReference:
    """Which checkpoints of which training, and what is asked there. A run folder beside this one with the same training spares
    it here."""

    seeds: tuple[int, ...] = (1, 2)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    sampling: Sampling = field(default_factory=Sampling)
    """The posterior; and SGLD without burn-in, whose trace is the LLC after so many steps."""
    level: Sampling = field(default_factory=lambda: Sampling(method="underdamped"))
    """Underdamped chains of the same posterior."""
    adjusted: Adjusted = field(default_factory=Adjusted)


def cpu() -> LRTReference:
    """Seven checkpoints of two seeds of the paper's training, the last four after the LayerNorm collapse.

    Command: python -m experiments lrt-reference --config cpu
    """
    stages = lrt_stages.cpu()
    steps = (126_000, 200_000, 253_000, 280_000, 320_000, 350_000, 500_000)
    sampling = Sampling(
        num_examples=2**17, batch_size=256, checkpoint_steps=steps, num_chains=2, num_burnin=0, num_draws=5000
    )
    return LRTReference(training=stages.training, sampling=sampling, level=_level(sampling))


def demo() -> LRTReference:
    """The training of `lrt-stages --config demo`: before the fall of the LLC, and after it.

    Command: python -m experiments lrt-reference --config demo
    """
    stages = lrt_stages.demo()
    sampling = Sampling(
        num_examples=2**14, batch_size=128, checkpoint_steps=(6000, 20_000), num_chains=2, num_burnin=0, num_draws=5000
    )
    return LRTReference(
        seeds=stages.seeds,
        training=stages.training,
        sampling=sampling,
        level=_level(sampling),
        adjusted=Adjusted(num_examples=512, num_other_examples=4096),
    )


def _level(sampling: Sampling) -> Sampling:
    """Underdamped chains of the same posterior, as in `lrt-stages --config compressed`."""
    return replace(sampling, method="underdamped", metric_rank=64, metric_examples=128, num_burnin=600, num_draws=500)


def tiny() -> LRTReference:
    """Everything in seconds, nothing learned: for tests.

    Command: python -m experiments lrt-reference --config tiny
    Expect:  a report.
    """
    small = Sampling(num_examples=64, batch_size=8, num_chains=2, num_burnin=0, num_draws=20, checkpoint_steps=(10, 20))
    return LRTReference(
        seeds=(0, 1),
        model=Model(width=8, num_heads=2, num_layers=1, hidden=8),
        training=Training(num_steps=20, schedule_steps=40, batch_size=8, checkpoint_steps=(10, 20)),
        sampling=small,
        level=replace(small, method="underdamped", metric_rank=2, metric_examples=16, num_burnin=4),
        adjusted=Adjusted(
            num_examples=16, num_other_examples=16, num_chains=1, num_warmup=6, num_draws=8, metric_rank=2,
            metric_examples=16, sgld_steps=10,
        ),
    )  # fmt: skip


CONFIGS: dict[str, Callable[[], LRTReference]] = {"demo": demo, "cpu": cpu, "tiny": tiny}
