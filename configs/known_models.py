"""Configs of `known-models`: every sampler on every model whose learning coefficient is known."""

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["CONFIGS", "Budget", "KnownModels", "Nuts", "cpu", "demo", "tiny"]


@dataclass(frozen=True)
class Budget:
    """Repeated estimates, all in one program; full gradients, the same number for every sampler and model."""

    repeats: int = 200
    num_chains: int = 4
    """Of one estimate."""
    num_burnin: int = 8000
    num_draws: int = 300
    thinning: int = 40


@dataclass(frozen=True)
class Nuts:
    """blackjax's No-U-Turn sampler, full gradients."""

    models: tuple[str, ...] = ("crossing-1-1", "reduced-rank-3-2-2", "tanh-2")
    """Linear networks are always included: NUTS gives their reference value."""
    num_chains: int = 16
    num_warmup: int = 500
    num_draws: int = 1000


@dataclass(frozen=True)
class KnownModels:
    """What is sampled and for how long."""

    models: tuple[str, ...] = (
        "quadratic", "crossing-1-1", "crossing-2-2", "crossing-1-1-1", "reduced-rank-3-2-2", "tanh-2", "relu-1",
        "linear-network-2",
    )  # fmt: skip
    """Names as in `experiments/known_models/models.py`; linear-network-SEED is a random one of 2-3 layers."""
    samplers: tuple[str, ...] = ()
    """Names as in the report; empty for all."""
    nbeta: float = 1000.0
    localization: float = 4.0
    budget: Budget = field(default_factory=Budget)
    nuts: Nuts = field(default_factory=Nuts)
    seed: int = 0


def cpu() -> KnownModels:
    """Eight models, every sampler, against exact finite-nβ values.

    Command: python -m experiments known-models --config cpu
    Cost:    two cores, under 10 minutes.
    Expect:  95% intervals that cover the exact value in 90-99% of the repeats for Leimkuhler-Matthews SGLD and SGNHT.
    """
    return KnownModels()


def demo() -> KnownModels:
    """Three models, fewer repeats.

    Command: python -m experiments known-models --config demo
    Cost:    two cores, about a minute.
    """
    return KnownModels(
        models=("quadratic", "crossing-1-1", "tanh-1"),
        budget=Budget(repeats=50, num_burnin=4000, num_draws=200),
        nuts=Nuts(models=("crossing-1-1",), num_chains=4, num_draws=500),
    )


def tiny() -> KnownModels:
    """For the tests of the experiment itself: one model, one sampler, no accuracy.

    Command: python -m experiments known-models --config tiny
    Cost:    seconds.
    """
    return KnownModels(
        models=("quadratic",),
        samplers=("SGLD, Euler",),
        budget=Budget(repeats=5, num_chains=2, num_burnin=20, num_draws=20, thinning=2),
        nuts=Nuts(models=("quadratic",), num_chains=2, num_warmup=20, num_draws=20),
    )


CONFIGS: dict[str, Callable[[], KnownModels]] = {"demo": demo, "cpu": cpu, "tiny": tiny}
