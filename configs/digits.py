"""Configs of `digits`: a network trained on handwritten digits, sampled by everything there is."""

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["CONFIGS", "Digits", "Network", "Nuts", "Sampling", "cpu", "demo", "tiny"]


@dataclass(frozen=True)
class Network:
    """A perceptron with one tanh layer on 8x8 images, and how it is trained."""

    hidden_units: int = 8
    num_examples: int = 600
    """Training images, n; the rest of the 1,797 are for testing."""
    num_steps: int = 4000
    learning_rate: float = 0.01
    """Of Adam on the full data, falling to zero as a cosine."""


@dataclass(frozen=True)
class Sampling:
    """The same for every sampler."""

    localization: float = 1.0
    nbeta: float | None = None
    """nβ; by default n / log n."""
    num_chains: int = 4
    num_burnin: int = 4000
    num_draws: int = 400
    thinning: int = 20
    batch_size: int = 100
    """Of the samplers that are run with minibatches too."""
    samplers: tuple[str, ...] = ()
    """Names as in the report; empty for all."""
    pilot_steps: int = 1000


@dataclass(frozen=True)
class Nuts:
    """blackjax's No-U-Turn sampler, full gradients."""

    num_chains: int = 4
    num_warmup: int = 300
    num_draws: int = 300


@dataclass(frozen=True)
class Digits:
    """Which network, and how long it is sampled."""

    network: Network = field(default_factory=Network)
    sampling: Sampling = field(default_factory=Sampling)
    nuts: Nuts = field(default_factory=Nuts)
    seed: int = 0


def cpu() -> Digits:
    """610 parameters, 600 images.

    Command: python -m experiments digits --config cpu
    Cost:    two cores, under 10 minutes.
    Expect:  every sampler with full gradients within its error bars of NUTS.
    """
    return Digits()


def demo() -> Digits:
    """A smaller network and shorter chains.

    Command: python -m experiments digits --config demo
    Cost:    two cores, about a minute.
    """
    return Digits(
        network=Network(hidden_units=4, num_examples=300, num_steps=1500),
        sampling=Sampling(num_burnin=1000, num_draws=200, thinning=10, pilot_steps=300),
        nuts=Nuts(num_warmup=150, num_draws=100),
    )


def tiny() -> Digits:
    """For the tests of the experiment itself, no accuracy.

    Command: python -m experiments digits --config tiny
    Cost:    seconds.
    """
    return Digits(
        network=Network(hidden_units=2, num_examples=50, num_steps=50),
        sampling=Sampling(
            num_chains=2,
            num_burnin=20,
            num_draws=20,
            thinning=2,
            batch_size=10,
            pilot_steps=20,
            samplers=("SGLD, Euler", "SGNHT, batch 10"),
        ),
        nuts=Nuts(num_chains=2, num_warmup=20, num_draws=20),
    )


CONFIGS: dict[str, Callable[[], Digits]] = {"demo": demo, "cpu": cpu, "tiny": tiny}
