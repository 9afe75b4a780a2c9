"""The No-U-Turn sampler of blackjax on a local posterior: full gradients, a Metropolis test, hence no bias from the step."""

from collections.abc import Callable, Mapping
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
from slt_jax.sampling.metrics import Metric
from slt_jax.typing import Array, Params, PRNGKey

__all__ = ["FEWEST_DRAWS", "FEWEST_WARMUP", "NutsChain", "NutsEstimate", "nuts_chain", "nuts_llc"]

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
    found = nuts_chain(
        key, posterior, center, unravel, num_warmup=num_warmup, num_draws=num_draws, target_acceptance=target_acceptance
    )
    return found.excess, found.acceptance, found.divergent, found.leapfrogs


class NutsChain(NamedTuple):
    """One chain after its adaptation, `(draw,)` each.

    Attributes:
        excess: nβ(L_n - L_n(w*)).
        acceptance: mean acceptance of a transition's proposals.
        divergent: whether the energy error was out of bounds.
        leapfrogs: gradients of the transition.
        observed: name -> what was observed of the parameters.
    """

    excess: Array
    acceptance: Array
    divergent: Array
    leapfrogs: Array
    observed: dict[str, Array]


def nuts_chain(
    key: PRNGKey,
    posterior: LocalPosterior,
    start: Array,
    unravel: Callable[[Array], Params],
    *,
    num_warmup: int,
    num_draws: int,
    target_acceptance: float = 0.8,
    metric: Metric | None = None,
    observables: Mapping[str, Callable[[Params], Array]] | None = None,
) -> NutsChain:
    """One chain of the No-U-Turn sampler, from `start`; pure, for `jit`.

    Args:
        key: typed PRNG key.
        posterior: not restricted.
        start: ravelled parameters the adaptation begins at.
        unravel: from ravelled parameters to the tree.
        num_warmup, num_draws, target_acceptance: of blackjax's window adaptation, and transitions after it.
        metric: G; the chain moves in v with w = w* + G^{1/2}v, where its adaptation finds what is left of the scales.
        observables: name -> function of the parameters, recorded after every transition.
    """
    center = ravel_pytree(posterior.center)[0]

    def place(moved: Array) -> Array:
        return moved if metric is None else center + metric.sqrt(moved)

    def mean_loss(flat: Array) -> Array:
        return jnp.mean(posterior.losses(unravel(flat), posterior.data))

    def log_density(moved: Array) -> Array:
        flat = place(moved)
        offset = flat - center
        return -posterior.nbeta * mean_loss(flat) - posterior.localization / 2 * jnp.vdot(offset, offset)

    warmup_key, draw_key = jax.random.split(key)
    warmup = blackjax.window_adaptation(
        blackjax.nuts, log_density, target_acceptance_rate=target_acceptance,
        adaptation_info_fn=blackjax.adaptation.base.get_filter_adapt_info_fn(),
    )  # fmt: skip
    begin = start if metric is None else metric.inverse().sqrt(start - center)
    (state, parameters), _ = warmup.run(warmup_key, begin, num_steps=num_warmup)
    step = blackjax.nuts(log_density, **parameters).step
    center_loss = mean_loss(center)

    def draw(state: blackjax.mcmc.hmc.HMCState, key: PRNGKey) -> tuple:
        state, info = step(key, state)
        flat = place(state.position)
        observed = {name: observable(unravel(flat)) for name, observable in (observables or {}).items()}
        excess = posterior.nbeta * (mean_loss(flat) - center_loss)
        return state, NutsChain(excess, info.acceptance_rate, info.is_divergent, info.num_integration_steps, observed)

    return jax.lax.scan(draw, state, jax.random.split(draw_key, num_draws))[1]
