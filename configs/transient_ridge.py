"""Configs of `transient-ridge`: ridge regression learned, then given up for the training tasks (arXiv 2501.17745)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from slt_lab.settings import Sampling

__all__ = ["CONFIGS", "Model", "Training", "TransientRidge", "cpu", "paper", "tiny"]


@dataclass(frozen=True)
class Model:
    """Size of the transformer."""

    width: int = 64
    num_heads: int = 4
    num_layers: int = 2
    hidden: int = 64


@dataclass(frozen=True)
class Training:
    """Adam with a triangular learning rate on fresh sequences of the training tasks."""

    num_steps: int = 60_000
    peak_learning_rate: float = 3e-3
    batch_size: int = 256
    num_log_checkpoints: int = 30
    num_linear_checkpoints: int = 31


@dataclass(frozen=True)
class TransientRidge:
    """Which task sets to train on, and how to measure what is learned. Task sets are nested."""

    num_tasks: tuple[int, ...] = (16, 64, 256, 1024)
    """M, one training run each."""
    seed: int = 0
    task_dim: int = 8
    num_examples: int = 16
    noise_variance: float = 0.125
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    sampling: Sampling = field(default_factory=Sampling)
    """The LLC at the end of training, on the distribution that was trained on."""
    num_evaluation_sequences: int = 2048


def paper() -> TransientRidge:
    """D = 8, K = 16, σ² = 0.125, nested task sets from 2 to 32,768 tasks (figures 1 and 2).

    Command: python -m experiments transient-ridge --config paper
    Cost:    a GPU, some hours. The task is the paper's; width, steps and learning rate are ours.
    Expect:  the loss on fresh tasks falls towards ridge's and, for intermediate M, rises again towards dMMSE's.
    """
    return TransientRidge(
        num_tasks=tuple(2**power for power in range(1, 16)),
        model=Model(width=512, hidden=512),
        training=Training(
            num_steps=150_000, peak_learning_rate=1e-3, batch_size=1024, num_log_checkpoints=80, num_linear_checkpoints=80
        ),
        sampling=Sampling(num_examples=2**17, batch_size=1024, num_chains=8, num_draws=2000),
        num_evaluation_sequences=8192,
    )  # fmt: skip


def cpu() -> TransientRidge:
    """Five task sets with the small transformer of `lrt-stages`, on a compressed schedule.

    Command: python -m experiments transient-ridge --config cpu
    Cost:    two cores, about half an hour: 15,000 steps for each M.
    Expect:  the loss on fresh tasks passes a minimum and rises again for M = 8, 12 and 16, by a fifth; not for 64.
    """
    return TransientRidge(
        num_tasks=(8, 12, 16, 32, 64),
        training=Training(
            num_steps=15_000, peak_learning_rate=6e-3, batch_size=128, num_log_checkpoints=20, num_linear_checkpoints=31
        ),
    )


def tiny() -> TransientRidge:
    """Everything in seconds, nothing learned: for tests.

    Command: python -m experiments transient-ridge --config tiny
    Expect:  a report.
    """
    return TransientRidge(
        num_tasks=(2, 8),
        task_dim=2,
        num_examples=4,
        model=Model(width=8, num_heads=2, hidden=8),
        training=Training(num_steps=20, batch_size=8, num_log_checkpoints=3, num_linear_checkpoints=3),
        sampling=Sampling(num_examples=32, batch_size=8, num_draws=10, num_burnin=5),
        num_evaluation_sequences=32,
    )


CONFIGS: dict[str, Callable[[], TransientRidge]] = {"tiny": tiny, "cpu": cpu, "paper": paper}
