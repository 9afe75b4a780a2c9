"""Configs of `superposition`: the phases of a toy model, their LLCs, and which of them the posterior prefers (arXiv 2310.06301)."""

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["CONFIGS", "Chains", "Check", "Selection", "Superposition", "Training", "demo", "tiny"]


@dataclass(frozen=True)
class Chains:
    """LLCs at the polygons: underdamped dynamics with the exact gradient of the population loss."""

    nbetas: tuple[float, ...] = (1e3, 1e5)
    ratios: tuple[float, ...] = (0.1, 0.01, 0.001)
    """γ/nβ, at each nβ."""
    num_chains: int = 4
    num_burnin: int = 2000
    num_draws: int = 1500
    thinning: int = 20


@dataclass(frozen=True)
class Training:
    """SGD on fresh examples from small random weights."""

    num_runs: int = 16
    num_steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_scale: float = 0.1
    """Standard deviation of the weights at the start."""
    num_records: int = 300


@dataclass(frozen=True)
class Selection:
    """Tempered sequential Monte Carlo from the prior N(0, I) to the largest number of examples."""

    examples: tuple[int, ...] = (30, 60, 100, 150, 200, 250, 300, 400, 600)
    """n at which the shares of the phases are reported, ascending."""
    stages: int = 5
    """Temperatures from one reported n to the next."""
    num_particles: int = 512
    num_repeats: int = 8
    """Independent populations, from whose spread the error bars come."""
    num_moves: int = 5
    """Hamiltonian moves of each particle at each temperature."""
    num_leapfrog: int = 12


@dataclass(frozen=True)
class Check:
    """The free energies again, by other roads: `experiments/superposition/check.py`."""

    examples: tuple[int, ...] = (150, 250, 400)
    """n at which the 5-gons and the 6-gon are integrated each by itself; among `selection.examples`."""
    stages: int = 10
    """From the Gaussian at the polygon to the posterior."""
    num_particles: int = 512
    num_repeats: int = 4
    num_moves: int = 5
    num_leapfrog: int = 12
    num_prior_draws: int = 1_048_576
    """Draws of the prior, whose plain mean of exp(-nL) is compared at every n at which it is worth 100 draws."""


@dataclass(frozen=True)
class Superposition:
    """Six features in two dimensions."""

    features: int = 6
    chains: Chains = field(default_factory=Chains)
    training: Training = field(default_factory=Training)
    selection: Selection = field(default_factory=Selection)
    check: Check = field(default_factory=Check)
    seed: int = 0


def demo() -> Superposition:
    """Everything, once.

    Command: python -m experiments superposition --config demo
    Cost:    two CPU minutes.
    Expect:  from the 4-gon to the 5-gon the LLC rises at γ/nβ = 0.1, to 4.96, and falls at 0.001 and nβ = 100,000, to 6.96; the
             6-gon overtakes the 5-gon near n = 240, and the 5-gon with 5+ near the predicted 261.
    """
    return Superposition()


def tiny() -> Superposition:
    """For the tests of the experiment itself: no accuracy.

    Command: python -m experiments superposition --config tiny
    Cost:    seconds, most of them compiling.
    """
    return Superposition(
        chains=Chains(num_chains=2, num_burnin=50, num_draws=20, thinning=2),
        training=Training(num_runs=2, num_steps=40, batch_size=8, num_records=8),
        selection=Selection(examples=(10, 20), stages=2, num_particles=16, num_repeats=2, num_moves=1, num_leapfrog=2),
        check=Check(
            examples=(20,), stages=2, num_particles=16, num_repeats=2, num_moves=1, num_leapfrog=2, num_prior_draws=4096
        ),
    )


CONFIGS: dict[str, Callable[[], Superposition]] = {"demo": demo, "tiny": tiny}
