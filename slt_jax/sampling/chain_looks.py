"""A look for every chain: chains of a sweep, of several restrictions or of several checkpoints have posteriors of their own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.posterior import LocalPosterior, at_center, restrict
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.chains import ChainState
from slt_jax.sampling.inspection import Inspection
from slt_jax.sampling.look import Look, judge, measure
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.samples import ChainSettings
from slt_jax.typing import PRNGKey

__all__ = ["Seen", "inspections", "look_for_chains"]


class Seen(NamedTuple):
    """What was seen for the chains at these places of the chain axis, which share posterior and step size."""

    places: list[int]
    look: Look
    step_size: float


def look_for_chains(key: PRNGKey, posterior: LocalPosterior, settings: ChainSettings, kernel: Kernel) -> list[Seen]:
    """One `measure` for every restriction and center, one `judge` for every nβ and γ.

    Raises:
        ValueError: as `inspect`.
    """
    host = jax.device_get(settings._replace(center=None))
    numbers = None if settings.center is None else np.asarray(settings.center.number)
    parts: dict[bytes, list[int]] = {}
    for chain in range(len(host.step_size)):
        leaves = jax.tree.leaves((host.restriction, numbers))
        parts.setdefault(b"".join(leaf[chain].tobytes() for leaf in leaves), []).append(chain)
    seen = []
    for places in parts.values():
        local = posterior
        if settings.center is not None:
            own = jax.tree.map(lambda leaf, one=places[0]: leaf[one], settings.center)
            local = at_center(posterior, own.params, own.losses)
        if host.restriction is not None:
            part = jax.tree.map(lambda leaf, one=places[0]: jnp.asarray(leaf[one]), host.restriction)
            local = restrict(local, part)
        measured = measure(key, local, kernel.batch_size)
        same: dict[tuple[float, float, float], list[int]] = {}
        for chain in places:
            settled = float(host.step_size[chain]), float(host.nbeta[chain]), float(host.localization[chain])
            same.setdefault(settled, []).append(chain)
        for (step_size, nbeta, localization), chains in same.items():
            seen.append(Seen(chains, judge(measured, nbeta, localization), step_size))
    return seen


def inspections(seen: list[Seen], chains: ChainState, kernel: Kernel, metric: Metric | None) -> list[Inspection]:
    """One for every chain, with the heating of the matrix that the chains of its settings ended with."""
    scales = jax.vmap(kernel.diagonal)(chains.kernel_state)
    found: dict[int, Inspection] = {}
    for places, look, step_size in seen:
        mean = jax.tree.map(lambda leaf, places=places: jnp.mean(leaf[np.asarray(places)], axis=0), scales)
        found |= dict.fromkeys(places, look.heated(kernel, step_size, metric=metric, scale=mean))
    return [found[chain] for chain in range(len(found))]
