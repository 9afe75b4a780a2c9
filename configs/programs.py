"""Configs of `programs`: exact learning coefficients of noisy Turing machines, and samplers beside them."""

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["CONFIGS", "Atlas", "Leaving", "Nuts", "Programs", "Sgld", "Tempering", "cpu", "demo", "tiny"]


@dataclass(frozen=True)
class Atlas:
    """Every machine with two symbols and two states that solves a problem: exact λ and m."""

    problems: tuple[str, ...] = ("and", "or", "nor", "xor", "zero-then-one", "one-then-zero", "bit")
    semantics: tuple[str, ...] = ("naive", "gps", "markov")
    steps: int = 5
    """Of the problems with two bits."""
    bit_steps: int = 3


@dataclass(frozen=True)
class Tempering:
    """Sequential Monte Carlo, which gives the value at finite nβ and γ."""

    particles: int = 300
    repeats: int = 8
    ratio: float = 1.4
    """Of one nβ of the ladder to the next."""
    moves: int = 2
    """Hamiltonian moves per rung."""
    leapfrogs: int = 6
    step_size: float = 0.4
    """In units of the prior's standard deviations."""


@dataclass(frozen=True)
class Sgld:
    """Langevin dynamics on amplitudes: full gradients, the integrator of Leimkuhler and Matthews."""

    pilot_steps: int = 500
    """Of each round of the pilot that finds the step size."""
    num_chains: int = 32
    num_burnin: int = 4000
    num_draws: int = 200
    thinning: int = 40


@dataclass(frozen=True)
class Nuts:
    """blackjax's No-U-Turn sampler on amplitudes."""

    num_chains: int = 16
    num_warmup: int = 300
    num_draws: int = 300


@dataclass(frozen=True)
class Leaving:
    """Chains that start at a program of large λ, under a weak localisation and under a strong one."""

    case: str = "bit, largest λ"
    nbeta: float = 100.0
    localizations: tuple[float, float] = (1.0, 30.0)
    num_chains: int = 6
    num_draws: int = 2000
    thinning: int = 50


@dataclass(frozen=True)
class Programs:
    """What is computed exactly and what is sampled."""

    atlas: Atlas = field(default_factory=Atlas)
    max_steps: int = 7
    """λ is followed up to so many steps."""
    max_states: int = 5
    """Of padded machines; two are their own, the others idle."""
    cases: tuple[str, ...] = (
        "detect-A, one step", "detect-A, two steps", "bit, least λ", "bit, λ = 28/3", "bit, largest λ",
        "AND, three tuples", "AND, four tuples, t4", "AND, four tuples",
    )  # fmt: skip
    """Sampled machines, named as in `experiments/programs/machines.py`."""
    nbetas: tuple[float, ...] = (300.0, 3000.0)
    localization: float = 30.0
    rivals: str = "AND"
    """Two programs for one function, whose free energies are compared."""
    largest_nbeta: float = 1e6
    """How far free energies are followed."""
    tempering: Tempering = field(default_factory=Tempering)
    sgld: Sgld = field(default_factory=Sgld)
    nuts: Nuts = field(default_factory=Nuts)
    leaving: Leaving = field(default_factory=Leaving)
    seed: int = 0


def cpu() -> Programs:
    """Everything: seven problems in three semantics, eight sampled machines.

    Command: python -m experiments programs --config cpu
    """
    return Programs()


def demo() -> Programs:
    """A part of the atlas, two sampled machines.

    Command: python -m experiments programs --config demo
    """
    return Programs(
        atlas=Atlas(problems=("and", "xor"), semantics=("naive", "gps", "markov")),
        max_steps=5,
        cases=("detect-A, one step", "bit, least λ"),
        nbetas=(300.0,),
        largest_nbeta=1e4,
        tempering=Tempering(particles=200, repeats=4),
        sgld=Sgld(num_burnin=2000, num_draws=100),
        nuts=Nuts(num_chains=4, num_warmup=200, num_draws=200),
        leaving=Leaving(num_chains=4, num_draws=500),
    )


def tiny() -> Programs:
    """For the tests of the experiment itself: no accuracy.

    Command: python -m experiments programs --config tiny
    """
    return Programs(
        atlas=Atlas(problems=("and",), semantics=("gps",), steps=3),
        max_steps=3,
        max_states=2,
        cases=("bit, least λ",),
        nbetas=(20.0,),
        rivals="bit",
        largest_nbeta=40.0,
        tempering=Tempering(particles=20, repeats=2, ratio=4.0, moves=1, leapfrogs=2),
        sgld=Sgld(pilot_steps=20, num_chains=2, num_burnin=20, num_draws=20, thinning=2),
        nuts=Nuts(num_chains=2, num_warmup=20, num_draws=20),
        leaving=Leaving(num_chains=2, num_draws=20, thinning=2),
    )


CONFIGS: dict[str, Callable[[], Programs]] = {"demo": demo, "cpu": cpu, "tiny": tiny}
