"""The No-U-Turn sampler of blackjax on a local posterior: full gradients, a Metropolis test, hence no bias from the step."""

from functools import partial
from typing import NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.diagnostics import effective_sample_size, monte_carlo_std_error, rhat
from slt_jax.sampling.layout import Layout, Rows, chain_mesh, map_chains
from slt_jax.typing import Array, PRNGKey

__all__ = ["FEWEST_DRAWS", "FEWEST_WARMUP", "NutsEstimate", "nuts_llc"]

FEWEST_WARMUP = 5
"""With fewer steps of adaptation the chains do not leave w*."""
FEWEST_DRAWS = 4
"""Fewer have no standard error."""


class NutsEstimate(NamedTuple):
    """λ̂ by NUTS.

    Attributes:
        mean, std_error, rhat, ess: as of `LLCEstimate`.
        acceptance: mean acceptance of the proposals.
        divergences: share of transitions whose energy error was out of bounds.
        gradients: evaluations of the full gradient, all chains, adaptation not counted.
        trace: nβ(L - L*), `(chain, draw)`.
    """

    mean: float
    std_error: float
    rhat: float
    ess: float
    acceptance: float
    divergences: float
    gradients: int
    trace: np.ndarray


def nuts_llc(
    key: PRNGKey,
    posterior: LocalPosterior,
    *,
    num_chains: int,
    num_warmup: int,
    num_draws: int,
    target_acceptance: float = 0.8,
    layout: Layout = "map",
) -> NutsEstimate:
    """nβ(E[L_n] - L_n(w*)) from `num_chains` chains, each with its own adapted step and diagonal mass matrix, from w*."""
    chain = partial(_chain, num_warmup=num_warmup, num_draws=num_draws, target_acceptance=target_acceptance)
    rows = Rows(chain_mesh(num_chains), num_chains)
    run = jax.jit(map_chains(chain, rows.mesh, layout))
    drawn = run(rows.spread(jax.random.split(key, num_chains)), posterior)
    excess, acceptance, divergent, leapfrogs = rows.gather(drawn)
    values = np.asarray(excess, np.float64)
    return NutsEstimate(
        mean=float(values.mean()),
        std_error=monte_carlo_std_error(values),
        rhat=rhat(values),
        ess=effective_sample_size(values),
        acceptance=float(acceptance.mean()),
        divergences=float(divergent.mean()),
        gradients=int(leapfrogs.sum()),
        trace=values.astype(np.float32),
    )


def _chain(
    key: PRNGKey, posterior: LocalPosterior, *, num_warmup: int, num_draws: int, target_acceptance: float
) -> tuple[Array, Array, Array, Array]:
    center, unravel = ravel_pytree(posterior.center)

    def mean_loss(flat: Array) -> Array:
        return jnp.mean(posterior.losses(unravel(flat), posterior.data))

    def log_density(flat: Array) -> Array:
        offset = flat - center
        return -posterior.nbeta * mean_loss(flat) - posterior.localization / 2 * jnp.vdot(offset, offset)

    warmup_key, draw_key = jax.random.split(key)
    warmup = blackjax.window_adaptation(
        blackjax.nuts, log_density, target_acceptance_rate=target_acceptance,
        adaptation_info_fn=blackjax.adaptation.base.get_filter_adapt_info_fn(),
    )  # fmt: skip
    (state, parameters), _ = warmup.run(warmup_key, center, num_steps=num_warmup)
    step = blackjax.nuts(log_density, **parameters).step
    center_loss = mean_loss(center)

    def draw(state: blackjax.mcmc.hmc.HMCState, key: PRNGKey) -> tuple:
        state, info = step(key, state)
        excess = posterior.nbeta * (mean_loss(state.position) - center_loss)
        return state, (excess, info.acceptance_rate, info.is_divergent, info.num_integration_steps)

    return jax.lax.scan(draw, state, jax.random.split(draw_key, num_draws))[1]
