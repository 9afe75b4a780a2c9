"""Configs of `lrt-stages`: developmental stages of the linear-regression transformer (arXiv 2402.02364)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from slt_lab import settings

if TYPE_CHECKING:
    from slt_jax.sampling.sampler import Sampler

__all__ = [
    "CONFIGS",
    "Geometry",
    "LRTStages",
    "Model",
    "Refined",
    "Sampling",
    "Training",
    "compressed",
    "cpu",
    "demo",
    "paper",
]


@dataclass(frozen=True)
class Model:
    """Size of the transformer; the paper's has 51,717 parameters."""

    width: int = 64
    num_heads: int = 4
    num_layers: int = 2
    hidden: int = 64


@dataclass(frozen=True)
class Training:
    """Adam on fresh sequences with a triangular learning rate."""

    num_steps: int = 500_000
    """Steps taken; the schedule is not shortened with it."""
    schedule_steps: int = 500_000
    """Length of the triangle; the peak is at half of it."""
    peak_learning_rate: float = 3e-3
    batch_size: int = 256
    num_log_checkpoints: int = 100
    num_linear_checkpoints: int = 100
    checkpoint_steps: tuple[int, ...] = ()
    """Checkpoints given one by one; if any, the two numbers above are not used. Here and below, steps after `num_steps` are
    left out: `--training.num-steps N` alone makes a shorter run of any config."""


@dataclass(frozen=True)
class Sampling(settings.Sampling):
    """The local posterior and its sampler."""

    num_examples: int = 2**20
    """n: fixed sequences the empirical loss averages over."""
    step_size: float | None = None
    """ε of `sgld` and `metric`, the integrator's h of `underdamped`. None: the sampler's own (`OWN_STEP`)."""
    batch_size: int = 1024
    num_chains: int = 10
    num_draws: int = 4000
    method: Literal["sgld", "metric", "underdamped"] = "sgld"
    """`metric`: SGLD preconditioned by the curvature at each checkpoint. `underdamped`: kinetic Langevin dynamics in that
    metric, the one that is level soonest after the LayerNorm collapse."""
    metric_rank: int = 400
    metric_damping: float = 30.0
    metric_examples: int = 256
    """Sequences of the Hessian that the metric is made of."""
    persistence: float = 0.9
    """Of `underdamped`: the share of the momentum that survives a step in flat directions."""

    def sampler(self) -> "Sampler":
        """The sampler that `method` names."""
        from slt_jax.sampling.metrics import CurvatureMetric
        from slt_jax.sampling.sampler import Sampler
        from slt_jax.sampling.sgld import sgld
        from slt_jax.sampling.underdamped import underdamped

        rule = CurvatureMetric(self.metric_rank, self.metric_damping, num_examples=self.metric_examples)
        sampler = {
            "sgld": Sampler(sgld(self.batch_size)),
            "metric": Sampler(sgld(self.batch_size), rule),
            "underdamped": Sampler(underdamped(self.batch_size, self.persistence), rule),
        }[self.method]
        return replace(sampler, step_size=OWN_STEP[self.method] if self.step_size is None else self.step_size)


OWN_STEP = {"sgld": 3e-4, "metric": 0.02, "underdamped": 0.07}
"""The paper's ε; ε where stiff directions have curvature 1; h, to be compared with √ε (docs/results/lrt_stages, mixing)."""


@dataclass(frozen=True)
class Geometry:
    """Second-order geometry, measured at the steps whose LLC is estimated."""

    num_examples: int = 1024
    """Sequences of the Hessian and Fisher traces: the first of those of `Sampling`."""
    num_probes: int = 16
    """Hutchinson probes, at least 2; 0 leaves all of this out."""
    num_eigenvalues: int = 4
    """Leading eigenvalues of the Hessian; 0 leaves them out."""
    rank: int = 0
    """Leading eigenvalues for the effective dimension; 0 leaves it out."""
    rank_examples: int = 256
    rank_steps: tuple[int, ...] = ()
    """Checkpoints of the effective dimension; empty for those of the LLC."""


@dataclass(frozen=True)
class Refined:
    """Refined LLCs of heads, MLPs, LayerNorms and embeddings, by SGLD, with the posterior of `Sampling`."""

    checkpoint_steps: tuple[int, ...] = ()
    """Checkpoints; empty for none."""
    seeds: tuple[int, ...] = ()
    """Training seeds; empty for all."""
    step_size: float = 3e-4
    batch_size: int = 128
    num_chains: int = 1
    num_draws: int = 400
    num_burnin: int = 200


@dataclass(frozen=True)
class LRTStages:
    """What to train, and how to measure it."""

    seeds: tuple[int, ...] = (1,)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    sampling: Sampling = field(default_factory=Sampling)
    num_evaluation_sequences: int = 8192
    geometry: Geometry = field(default_factory=Geometry)
    refined: Refined = field(default_factory=Refined)


def paper() -> LRTStages:
    """The paper's setting (figures 1 and 2, table 1).

    Command: python -m experiments lrt-stages --config paper
    Cost:    a GPU; the authors' own sampling took about 70 hours a seed.
    Expect:  LLC 21 (1.5k), 119 (5k), 156 (10k), 167.5 (20k), ~170 (30-60k), 157 (126k), 126 (298k), 128 (500k).
    """
    steps = (
        1000, 2500, 5000, 10_000, 20_000, 40_000, 81_000, 126_000, 160_000, 200_000, 253_000, 320_000, 400_000, 500_000,
    )  # fmt: skip
    return LRTStages(
        seeds=(0, 1, 2, 3, 4),
        refined=Refined(checkpoint_steps=steps, batch_size=1024, num_chains=4, num_draws=1500, num_burnin=500),
    )


def cpu() -> LRTStages:
    """The paper's training, with the LLC at 26 checkpoints where things happen, geometry at each, refined LLCs at ten.

    Command: python -m experiments lrt-stages --config cpu
    Cost:    one core, about 3 hours a seed, 1.8 of them training, where a training step takes 13 ms (`benchmarks/lrt_stages.py`).
    Expect:  as `paper`; error bars about three times wider (2 chains x 1,000 draws, batch 256).
    """
    training = (
        0, 100, 200, 300, 500, 700, 1000, 1200, 1500, 1700, 2000, 2500, 3000, 4000, 5000, 6000, 7200, 8500, 10_000, 12_500,
        15_000, 20_000, 25_000, 30_000, 35_000, 40_000, 45_000, 50_000, 60_000, 70_000, 81_000, 90_000, 101_000, 110_000,
        120_000, 126_000, 130_000, 140_000, 150_000, 160_000, 175_000, 190_000, 200_000, 215_000, 230_000, 240_000, 253_000,
        265_000, 280_000, 290_000, 300_000, 310_000, 320_000, 335_000, 350_000, 375_000, 400_000, 425_000, 450_000, 475_000,
        500_000,
    )  # fmt: skip
    sampling = (
        500, 1000, 1500, 2500, 5000, 7200, 10_000, 15_000, 20_000, 40_000, 60_000, 81_000, 101_000, 126_000, 160_000, 200_000,
        230_000, 253_000, 280_000, 300_000, 320_000, 350_000, 375_000, 400_000, 450_000, 500_000,
    )  # fmt: skip
    return LRTStages(
        training=Training(checkpoint_steps=training),
        sampling=Sampling(num_examples=2**17, batch_size=256, num_chains=2, num_draws=1000, checkpoint_steps=sampling),
        geometry=Geometry(num_examples=256, num_probes=8, num_eigenvalues=1),
        refined=Refined(
            checkpoint_steps=(2500, 5000, 10_000, 40_000, 81_000, 126_000, 200_000, 253_000, 320_000, 500_000)
        ),
    )


def compressed() -> LRTStages:
    """The same arc within an hour on two cores: the triangle to 8e-3 over 40k steps, batch 128, five seeds.

    Command: python -m experiments lrt-stages --config compressed
    Cost:    an hour where a training step takes 6 ms (`benchmarks/lrt_stages.py`): LLC and geometry at 11 of 99 checkpoints,
             behaviour and structure at all.
    Expect:  LLC up to about 160 while the loss falls, then down while the loss hardly moves.
    """
    return LRTStages(
        seeds=(0, 1, 2, 3, 4),
        training=Training(
            num_steps=40_000, schedule_steps=40_000, peak_learning_rate=8e-3, batch_size=128,
            num_log_checkpoints=60, num_linear_checkpoints=41,
        ),
        sampling=Sampling(
            num_examples=2**14, method="underdamped", metric_rank=64, metric_examples=128, batch_size=128, num_chains=2,
            num_draws=500, num_burnin=600,
            checkpoint_steps=(400, 600, 900, 1400, 3000, 6000, 9000, 12_000, 20_000, 28_000, 40_000),
        ),
        num_evaluation_sequences=1024,
        geometry=Geometry(num_examples=256, num_probes=8, num_eigenvalues=1),
    )  # fmt: skip


def demo() -> LRTStages:
    """The first half of `compressed`, one seed: the whole arc in minutes.

    Command: make demo
    Cost:    two cores, under 8 minutes.
    Expect:  predicts zero by 300 steps; LLC rises to about 160 as the loss falls to about 2.05 (6k steps); then the LLC
             falls to about 148 by 20k steps while the loss moves by 0.1. Plain SGLD of the same length would report a
             fall by a third: after the LayerNorm collapse it takes 3,500 steps to be level.
    """
    steps = (100, 180, 280, 400, 550, 800, 1200, 2000, 3500, 6000, 9000, 12_000, 15_000, 17_500, 20_000)
    return LRTStages(
        training=Training(
            num_steps=20_000, schedule_steps=40_000, peak_learning_rate=8e-3, batch_size=128,
            num_log_checkpoints=40, num_linear_checkpoints=21,
        ),
        sampling=Sampling(
            num_examples=2**14, method="underdamped", metric_rank=64, metric_examples=128, batch_size=128, num_chains=2,
            num_draws=500, num_burnin=600, checkpoint_steps=steps,
        ),
        num_evaluation_sequences=4096,
        geometry=Geometry(num_probes=0),
    )  # fmt: skip


CONFIGS: dict[str, Callable[[], LRTStages]] = {
    "demo": demo,
    "compressed": compressed,
    "cpu": cpu,
    "paper": paper,
}
