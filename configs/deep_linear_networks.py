"""Configs of `deep-linear-networks`: LLC estimates against the exact local learning coefficient (arXiv 2402.03698)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "BEST",
    "CONFIGS",
    "DeepLinearNetworks",
    "Setting",
    "SizeClass",
    "cpu",
    "demo",
    "dependence",
    "gpu",
    "local",
    "size_class",
    "tiny",
]


@dataclass(frozen=True)
class SizeClass:
    """A class of the published study. Ranges are inclusive."""

    name: str
    num_layers: tuple[int, int]
    widths: tuple[int, int]
    study_step_size: float
    study_steps: int
    num_examples: int
    num_networks: int
    """Networks with seeds 0, 1, ... of this class, unless `seeds` says which."""
    together: int = 10
    """Networks of similar size that are one compiled program."""


@dataclass(frozen=True)
class Setting:
    """One way to estimate; the same for every network, no number of it is chosen by hand per network."""

    name: str
    kernel: Literal["sgld", "leimkuhler_matthews", "rmsprop", "adam", "sgnht", "underdamped"] = "sgld"
    batch_size: int = 500
    num_steps: int | None = None
    """None: those of the study."""
    kept_share: float = 0.5
    """The last part of the trace that is averaged."""
    step: Literal["study", "calibrated"] = "calibrated"
    """The study's ε, or the share `step_fraction` of what the curvature at w* allows."""
    step_fraction: float = 0.3
    """With curvature a: ε·a for SGLD, h²·a for dynamics with momentum; a is 1 in the units of the curvature metric."""
    metric: bool = False
    friction: float = 0.05
    """Of SGNHT."""
    nbeta_factor: float = 1.0
    """Multiplies nβ = n / log n."""
    second_nbeta_factor: float | None = None
    """A second chain of as many steps at this multiple; the larger of the two estimates counts. Needs the metric."""
    localization: float = 1.0
    num_networks: int | None = None
    """Only the first so many of each class; None: all."""
    classes: tuple[str, ...] = ()
    """Only these classes; empty: all."""


@dataclass(frozen=True)
class DeepLinearNetworks:
    """Which networks, and which settings."""

    classes: tuple[SizeClass, ...]
    settings: tuple[Setting, ...]
    seeds: str = ""
    """`first:last` (last excluded) or `3,17,40` for every class; empty: 0 to the class's number of networks."""


def size_class(name: str, num_networks: int, together: int = 10) -> SizeClass:
    """The class `name` of the study."""
    table = {
        "1K": ((2, 5), (5, 50), 5e-7, 10_000, 100_000),
        "10K": ((2, 10), (5, 100), 5e-7, 10_000, 100_000),
        "100K": ((2, 10), (50, 500), 1e-7, 50_000, 1_000_000),
        "1M": ((2, 20), (100, 1000), 5e-8, 50_000, 1_000_000),
        "10M": ((2, 20), (500, 2000), 2e-8, 50_000, 1_000_000),
    }
    return SizeClass(name, *table[name], num_networks=num_networks, together=together)


STUDY = Setting("study", step="study", kept_share=0.1)
SGLD = Setting("sgld")
OTHERS = (
    Setting("leimkuhler_matthews", kernel="leimkuhler_matthews", step_fraction=1.0),
    Setting("sgnht", kernel="sgnht", step_fraction=0.025),
    Setting("rmsprop", kernel="rmsprop"),
    Setting("adam", kernel="adam"),
    Setting("metric", metric=True, kernel="leimkuhler_matthews", num_steps=9000, step_fraction=0.5),
)
BEST = Setting(
    "best", kernel="underdamped", batch_size=500, num_steps=4500, step_fraction=0.25, metric=True, nbeta_factor=10.0,
    second_nbeta_factor=100.0,
)  # fmt: skip
ONE_CHAIN = replace(BEST, batch_size=1000, second_nbeta_factor=None)
# What `best` owes to its sampler, to its larger nβ, and to the choice between two of them: each without the others.
APART = (
    replace(ONE_CHAIN, name="best-nbeta-x1", nbeta_factor=1.0, num_networks=20, classes=("1K",)),
    replace(ONE_CHAIN, name="best-nbeta-x10", nbeta_factor=10.0, num_networks=20, classes=("1K",)),
    replace(ONE_CHAIN, name="best-nbeta-x100", nbeta_factor=100.0, classes=("1K",)),
    replace(SGLD, name="sgld-nbeta-x100", nbeta_factor=100.0, num_networks=20, classes=("1K",)),
)
LOCAL_SEEDS = (0, 5, 9, 10, 17, 24, 29, 42, 45, 46, 48, 52, 63, 76, 80, 81, 89, 93)
"""Networks of class 1K, of the first hundred, whose Aoyagi value is at least 10% below the local one (`networks.csv`)."""
BEST_TENFOLD = replace(BEST, name="best10x", num_steps=7500, batch_size=3000, num_networks=20, classes=("1K",))


def cpu() -> DeepLinearNetworks:
    """140 networks, every setting at the study's budget of 10,000 gradients of 500 examples, and `best` at ten times it.

    Command: python -m experiments deep-linear-networks --config cpu
             python -m experiments deep-linear-networks --config cpu --seeds 1000:1020     networks nobody has seen
    Cost:    100 core-minutes; the end says that some estimates of other settings than `best` diverged and exits with 3
             (--tolerate-divergence accepts it).
    Expect:  class 1K, `best`: median error 1.1%, 90th percentile 3.5%, order 0.993; `study`: 4.5%, 11.6%, 0.971. Class 10K,
             `best`: 1.8%, 6.4%, 0.968 (`docs/accuracy.md`).
    """
    return DeepLinearNetworks(
        classes=(size_class("1K", 100), size_class("10K", 40, together=4)),
        settings=(BEST, STUDY, SGLD, BEST_TENFOLD, *APART, *OTHERS),
    )


def gpu() -> DeepLinearNetworks:
    """The large classes of the study, as many networks of each as fit a night.

    Command: python -m experiments deep-linear-networks --config gpu
    Cost:    one GPU with 80 GB, hours; not run on one yet. Second moments take 4·(n/500)·width² bytes: 2 GB for class 100K,
             up to 32 GB for class 10M, where the metric's vectors take as much again.
    """
    classes = tuple(
        size_class(name, 50, together=together) for name, together in {"100K": 4, "1M": 1, "10M": 1}.items()
    )
    return DeepLinearNetworks(classes=classes, settings=(STUDY, BEST))


def dependence() -> DeepLinearNetworks:
    """λ̂ against localization, sampling time and nβ on six networks of class 1K, by the kernel of `best`.

    Command: python -m experiments deep-linear-networks --config dependence
    Cost:    two cores, about 10 minutes.
    """
    settings = tuple(
        replace(
            ONE_CHAIN,
            name=f"nbeta-x{factor:g}-gamma-{gamma:g}",
            nbeta_factor=factor,
            localization=gamma,
            num_steps=2000,
        )
        for factor in (1.0, 10.0, 100.0)
        for gamma in (1.0, 100.0, 10_000.0)
    )
    return DeepLinearNetworks(classes=(size_class("1K", 6),), settings=settings)


def local() -> DeepLinearNetworks:
    """Long chains close to w*, on the networks of `cpu` whose Aoyagi value is at least 10% below the local one.

    Command: python -m experiments deep-linear-networks --config local
    Cost:    two cores, about 15 minutes.
    """
    longer = replace(ONE_CHAIN, name="long", nbeta_factor=100.0, num_steps=40_000)
    return DeepLinearNetworks(
        classes=(size_class("1K", 0, together=9),),
        settings=(BEST, longer),
        seeds=",".join(map(str, LOCAL_SEEDS)),
    )


def demo() -> DeepLinearNetworks:
    """Twenty networks of class 1K: the study's setting beside ours.

    Command: python -m experiments deep-linear-networks --config demo
    Cost:    two cores, about 3 minutes.
    """
    return DeepLinearNetworks(classes=(size_class("1K", 20),), settings=(STUDY, BEST))


def tiny() -> DeepLinearNetworks:
    """Three small networks and short chains: the whole road in seconds, for the tests. Its numbers mean nothing."""
    small = replace(size_class("1K", 3), widths=(2, 6), num_layers=(2, 3), num_examples=10_000, study_steps=200)
    return DeepLinearNetworks(classes=(small,), settings=(STUDY, replace(BEST, num_steps=200)))


CONFIGS: dict[str, Callable[[], DeepLinearNetworks]] = {
    "demo": demo,
    "cpu": cpu,
    "gpu": gpu,
    "dependence": dependence,
    "local": local,
    "tiny": tiny,
}
