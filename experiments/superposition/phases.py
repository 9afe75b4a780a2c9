"""The polygons as minima: converged by descent, checked by their Hessians, and the LLC of each at every setting of (γ, nβ)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.superposition import Chains
from experiments.superposition.landscape import curvatures, descend, loss_of, to_point
from slt_jax.estimators.llc import llc
from slt_jax.models.superposition import population_losses, to_params
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.driver import sample_chains
from slt_jax.sampling.samples import ChainSettings, select_chains
from slt_jax.sampling.underdamped import underdamped
from slt_jax.theory.superposition import Polygon
from slt_jax.typing import PRNGKey

__all__ = ["converged", "gaussian_llc", "measured_llcs"]

STIFFEST = 3.0
"""Above every curvature of L at and near the polygons; the largest is 2, of a positive dead bias."""
DISPLACEMENT = 0.03


def converged(key: PRNGKey, phase: Polygon) -> dict[str, np.ndarray]:
    """What descent finds from a displaced polygon, and the curvatures at the polygon itself, ascending."""
    point = to_point(phase)
    displaced = point + DISPLACEMENT * jax.random.normal(key, point.shape)
    found = descend(displaced[None], phase.features)[0]
    return {
        "loss": np.asarray(loss_of(phase.features, point)),
        "converged_loss": np.asarray(loss_of(phase.features, found)),
        "curvature": np.asarray(curvatures(point, phase.features)),
    }


def measured_llcs(key: PRNGKey, phase: Polygon, settings: Chains) -> dict[str, np.ndarray]:
    """LLCs `(nbeta, ratio)` with their diagnostics, all chains in one program.

    The data are the features, one example each, whose losses are exact integrals: no noise of sampling examples, and none of
    minibatches.
    """
    posterior = LocalPosterior(population_losses, jnp.arange(phase.features), to_params(phase), 1.0, 1.0)
    nbeta, ratio = np.meshgrid(settings.nbetas, settings.ratios, indexing="ij")
    per_chain = partial(np.repeat, repeats=settings.num_chains)
    kernel = underdamped(None)
    steps = [kernel.step_for(n * (STIFFEST + r)) for n, r in zip(nbeta.ravel(), ratio.ravel(), strict=True)]
    step_size, at_nbeta, localization = (
        jnp.asarray(per_chain(values), jnp.float32) for values in (steps, nbeta.ravel(), (nbeta * ratio).ravel())
    )
    chains = ChainSettings(step_size, at_nbeta, localization)
    samples = sample_chains(
        key, posterior, kernel, chains, num_draws=settings.num_draws, num_burnin=settings.num_burnin,
        thinning=settings.thinning, baseline="full", inspection=False, layout="vmap",
    )  # fmt: skip
    count = settings.num_chains
    found = [llc(select_chains(samples, slice(i * count, (i + 1) * count))) for i in range(nbeta.size)]

    def field(name: str) -> np.ndarray:
        return np.array([getattr(one, name) for one in found]).reshape(nbeta.shape)

    # A draw of lower loss is outside: w* is a minimum. What float32 loses of a loss is 1e-3 at nβ = 1e5.
    lowest = (samples.excess * samples.nbeta[:, None]).min(axis=1).reshape(-1, count).min(axis=1)
    named: dict[str, Any] = {
        "llc": field("mean"), "llc_std_error": field("std_error"), "llc_rhat": field("rhat"), "llc_ess": field("ess"),
        "llc_drift": field("drift"), "llc_drift_std_error": field("drift_std_error"),
        "llc_num_diverged": np.array([one.diverged.sum() for one in found]).reshape(nbeta.shape),
        "llc_lowest": lowest.reshape(nbeta.shape),
    }  # fmt: skip
    return named


def gaussian_llc(curvature: np.ndarray, ratio: float) -> float:
    """½ Σ h/(h + γ/nβ): the LLC where L is quadratic as far as the posterior reaches."""
    positive = np.maximum(curvature, 0.0)
    return float(0.5 * np.sum(positive / (positive + ratio)))
