"""The toys as subjects, and what is asked of them: the LLC by sampling, and what is known exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from configs.self_repair import Kinetic, Toys
from slt_jax.theory.self_repair import (
    LayerNormScale,
    LouderWins,
    OwnKnowledge,
    ParallelCopies,
    ResidualCorrector,
    ThresholdGate,
    Toy,
    VoteOfThree,
)
from slt_jax.typing import Array, Batch, Params
from slt_lab.errors import UserError
from slt_lab.measure import Along, Measure, Variable
from slt_lab.measures.llc import LLC
from slt_lab.streams import stream
from slt_lab.subject import Subject

__all__ = ["PANELS", "Exact", "Shown", "ToySubject", "check", "measures", "setting_name", "shown", "subjects"]

PANELS = ("falls", "flat", "rises")


@dataclass(frozen=True)
class Shown:
    """A toy and where it is shown.

    Attributes:
        toy: the toy.
        panel: one of `PANELS`.
        family: of toys that are one curve.
    """

    toy: Toy
    panel: str
    family: str


def shown(dimension: int) -> dict[str, Shown]:
    """Every toy by its name."""
    d, half = dimension, dimension // 2
    found = {f"corrector {k}/{d}": Shown(ResidualCorrector(d, k), "falls", "residual corrector") for k in range(d + 1)}
    found["division of labour"] = Shown(ResidualCorrector(d, half, left_out=half), "falls", "division of labour")
    for percent in (25, 50, 75):
        toy = OwnKnowledge(d, percent / 100)
        found[f"own knowledge {percent}%"] = Shown(toy, "flat", "backup with its own knowledge")
    found["two copies"] = Shown(ParallelCopies(d, 2), "flat", "parallel copies")
    found["threshold gate"] = Shown(ThresholdGate(d), "flat", "threshold gate")
    found["LayerNorm"] = Shown(LayerNormScale(d, 0.5), "flat", "LayerNorm scale")
    for k in range(d + 1):
        found[f"louder wins {k}/{d}"] = Shown(LouderWins(d, k), "rises", "louder wins")
    return found | {"vote of three": Shown(VoteOfThree(), "rises", "vote of three")}


@dataclass(frozen=True, kw_only=True)
class ToySubject(Subject):
    """A toy at its minimum; nothing is trained."""

    toy: Toy


@dataclass(frozen=True)
class PopulationLoss:
    """The population loss of a toy as a loss function of one example."""

    toy: Toy

    def __call__(self, params: Params, batch: Batch) -> Array:
        return self.toy.loss(params["weights"]) + 0 * batch["one"]


def _center(toy: Toy) -> dict[str, Array]:
    return {"weights": jnp.asarray(toy.center, jnp.float32)}


def _one(count: int) -> dict[str, Array]:
    return {"one": jnp.ones(count)}


def subjects(config: Toys) -> dict[str, ToySubject]:
    """Every toy by its name."""
    keys = jax.random.split(stream("self-repair/chains", config.seed), len(shown(config.dimension)))
    return {
        name: ToySubject(
            name=name.replace(" ", "_").replace("/", "_of_").replace("%", "_percent"), identity=(repr(one.toy), config.seed),
            loss_fn=PopulationLoss(one.toy), init=partial(_center, one.toy), posterior_data=_one, chains_key=key, toy=one.toy,
        )
        for (name, one), key in zip(shown(config.dimension).items(), keys, strict=True)
    }  # fmt: skip


@dataclass(frozen=True)
class Exact:
    """λ, repair, and the value that a perfect sampler reports at this nβ and γ."""

    nbeta: float
    localization: float
    name: str = "exact value"
    axis: str = "checkpoint"

    def steps(self, subject: ToySubject) -> Sequence[int]:
        return subject.sampled_steps(())

    def take(self, subject: ToySubject, params: Params) -> Mapping[str, Any]:
        del params
        toy = subject.toy
        value = toy.finite(self.nbeta, self.localization)
        exact, multiplicity = toy.coefficient
        return {
            "exact_llc": value.llc, "exact_llc_std_error": value.std_error, "exact_free_energy": value.free_energy,
            "learning_coefficient": float(exact), "multiplicity": multiplicity, "plain": float(toy.plain),
            "repair": toy.repair, "full_repair": toy.full_repair,
        }  # fmt: skip

    def variables(self, subject: ToySubject) -> Mapping[str, Variable]:
        del subject
        return {
            "exact_llc": Variable((), "nβE[L], what a perfect sampler reports"),
            "exact_llc_std_error": Variable((), "standard error of that where it is drawn, 0 where it is not"),
            "exact_free_energy": Variable((), "free energy under the localising Gaussian", "nats"),
            "learning_coefficient": Variable((), "λ"),
            "multiplicity": Variable((), "m"),
            "plain": Variable((), "λ of one part alone that computes the same"),
            "repair": Variable((), "R(0+): share of a slight damage that is made good"),
            "full_repair": Variable((), "R(1): share of a whole damage that is made good"),
        }

    def coords(self, subject: ToySubject) -> Mapping[str, Sequence]:
        del subject
        return {}


def setting_name(sampling: Kinetic) -> str:
    """How a setting is called in results."""
    return f"nβ = {sampling.nbeta:g}, γ = {sampling.localization:g}"


def measures(config: Toys) -> list[Measure | Along]:
    """The LLC and the exact value, at every setting."""
    settings = {setting_name(one): one for one in config.sampling}
    return [
        Along("setting", {name: LLC(one) for name, one in settings.items()}),
        Along("setting", {name: Exact(one.nbeta, one.localization) for name, one in settings.items()}),
    ]


def check(config: Toys) -> None:
    """Refuse an odd dimension, whose halves are no whole numbers, and settings that cannot be told apart."""
    if config.dimension % 2:
        raise UserError(f"dimension = {config.dimension}; it must be even, so that two parts can divide the labour")
    names = [setting_name(one) for one in config.sampling]
    if not names or len(set(names)) < len(names):
        raise UserError(f"sampling has the settings {names}; give at least one, and none twice")
