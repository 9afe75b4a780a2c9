"""The samplers that are compared. Each gets its step on every model by one rule: a share of the stiffest curvature where
the posterior lives, which pilot chains look up (`slt_jax.sampling.pilot`), for at w* = 0 of a singular model the curvature
vanishes."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.metrics import CurvatureMetric
from slt_jax.sampling.pilot import Neighbourhood, find_neighbourhood
from slt_jax.sampling.preconditioners import adam, rmsprop
from slt_jax.sampling.sampler import Sampler
from slt_jax.sampling.sgld import sgld
from slt_jax.sampling.sgnht import sgnht
from slt_jax.typing import PRNGKey
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder

__all__ = ["Compared", "named", "samplers", "slug", "stored_neighbourhood"]

STEP_FRACTION, THERMOSTAT_FRACTION = 0.3, 0.1
MOMENTUM = 0.9


class Compared(NamedTuple):
    """A sampler in a comparison.

    Attributes:
        name: as shown in tables.
        sampler: the sampler.
        patience: how many times as many steps as the others it is given, where its own are that much shorter.
    """

    name: str
    sampler: Sampler
    patience: int = 1


def samplers(batch_size: int | None) -> list[Compared]:
    """Every sampler of the library, with gradients of `batch_size` examples.

    Adam's averaged gradient lags 1/(1 - b₁) steps behind; its step is shorter by that factor, which keeps it as stable as
    SGLD wherever it goes. SGNHT's one thermostat cannot absorb noise that differs between directions: on minibatches its
    friction is stronger and its step half as long, against heating.
    """
    average = partial(sgld, batch_size, integrator="leimkuhler_matthews")
    thermostat, its_fraction = sgnht(batch_size), THERMOSTAT_FRACTION
    if batch_size is not None:
        thermostat, its_fraction = sgnht(batch_size, friction=0.05), THERMOSTAT_FRACTION / 4
    chosen = {
        "SGLD, Euler": Sampler(sgld(batch_size), step_fraction=STEP_FRACTION),
        "SGLD, Leimkuhler-Matthews": Sampler(average(), step_fraction=STEP_FRACTION),
        "RMSProp-SGLD": Sampler(sgld(batch_size, rmsprop()), step_fraction=STEP_FRACTION),
        "Adam-SGLD": Sampler(sgld(batch_size, adam(MOMENTUM)), step_fraction=STEP_FRACTION * (1 - MOMENTUM)),
        "SGNHT": Sampler(thermostat, step_fraction=its_fraction),
        "metric SGLD": Sampler(average(), CurvatureMetric(), step_fraction=STEP_FRACTION),
    }
    return [Compared(name, sampler) for name, sampler in chosen.items()]


def named(every: Sequence[Compared], names: Sequence[str]) -> list[Compared]:
    """Those of `every` that are called `names`; all if there are none.

    Raises:
        UserError: if one is not there.
    """
    known = {sampler.name: sampler for sampler in every}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"there is no sampler '{unknown[0]}'; there are: {', '.join(known)}")
    return [known[name] for name in names or known]


def slug(compared: Compared) -> str:
    """The sampler's name as a file name."""
    return compared.name.lower().replace(",", "").replace(" ", "-")


def stored_neighbourhood(
    folder: RunFolder, name: str, key: PRNGKey, posterior: LocalPosterior, **options: Any
) -> Neighbourhood:
    """`find_neighbourhood`, or what it found earlier in this run."""
    unravel = ravel_pytree(posterior.center)[1]

    def compute() -> dict[str, Any]:
        found = find_neighbourhood(key, posterior, **options)
        places = jax.vmap(lambda params: ravel_pytree(params)[0])(found.places)
        return {"places": places, "stiffest": found.stiffest}

    stored = folder.piece(name, compute)
    return Neighbourhood(jax.vmap(unravel)(jnp.asarray(stored["places"])), float(stored["stiffest"]))
