"""Configs of `influence`: three answers to what a training example does to a prediction (arXiv 2509.26544)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from slt_lab.subjects.digits_settings import Network

__all__ = ["CONFIGS", "Chains", "Influence", "Retraining", "cpu", "demo", "tiny"]


@dataclass(frozen=True)
class Retraining:
    """The truth: train again without an example, or on a part of the data."""

    num_left_out: int = 32
    """Examples that are left out one at a time: half of them those of the highest loss, half at random."""
    num_retrainings: int = 8
    """From other initial weights, each with and without the example."""
    num_subsets: int = 32
    """Random parts of the data, for the linear datamodelling score."""
    num_subset_retrainings: int = 4
    subset_share: float = 0.5


@dataclass(frozen=True)
class Chains:
    """The local posterior, sampled by underdamped dynamics with all the data in every gradient."""

    nbeta: float | None = None
    """nβ; by default n, for which the posterior's response to a weight is closest to that of its minimum."""
    localization: float = 1.0
    num_chains: int = 4
    num_burnin: int = 2000
    num_draws: int = 8000
    thinning: int = 10


@dataclass(frozen=True)
class Influence:
    """Which network, what is left out, and how long the posterior is sampled."""

    network: Network = field(default_factory=Network)
    retraining: Retraining = field(default_factory=Retraining)
    chains: Chains = field(default_factory=Chains)
    damping: tuple[float, ...] = (1e-4, 1e-2, 1e-1)
    """Added to the Hessian of the classical influence function, beside γ/nβ, which is what the posterior adds."""
    num_queries: int = 32
    """Test images whose loss is asked about."""
    seed: int = 0


def cpu() -> Influence:
    """600 images, twice the retrainings and longer chains.

    Command: python -m experiments influence --config cpu
    Cost:    two cores, not measured: about eight times `demo`.
    """
    return Influence(
        network=Network(num_examples=600, num_steps=4000),
        retraining=Retraining(num_left_out=40, num_retrainings=16, num_subsets=48, num_subset_retrainings=8),
        chains=Chains(num_burnin=4000, num_draws=16_000),
    )


def demo() -> Influence:
    """610 parameters, 300 images, 32 of them left out.

    Command: python -m experiments influence --config demo
    Cost:    three to four minutes of CPU time: 393 trainings of 2,000 steps, four chains of 82,000.
    Expect:  the Bayesian and the classical influence (damping γ/nβ) score 0.60 and 0.59 on random parts of the data.
    """
    return Influence()


def tiny() -> Influence:
    """Everything in seconds, for tests.

    Command: python -m experiments influence --config tiny
    Expect:  a report.
    """
    return Influence(
        network=Network(hidden_units=2, num_examples=30, num_steps=40),
        retraining=Retraining(num_left_out=4, num_retrainings=2, num_subsets=4, num_subset_retrainings=2),
        chains=Chains(num_chains=2, num_burnin=10, num_draws=16, thinning=2),
        damping=(1e-1,),
        num_queries=4,
    )


CONFIGS: dict[str, Callable[[], Influence]] = {"tiny": tiny, "demo": demo, "cpu": cpu}
