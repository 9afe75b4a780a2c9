"""Is the chain to be trusted? Rank-normalised R-hat and effective sample size, drift, and a Metropolis test of the step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_jax.posterior import LocalPosterior, draw_indices, minibatch_loss
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.chains import ChainState
from slt_jax.sampling.metrics import Metric
from slt_jax.trees import squared_norm
from slt_jax.typing import Array, Params, PRNGKey, Scalar

__all__ = [
    "descents",
    "drift",
    "effective_sample_size",
    "excursions",
    "mala_acceptance",
    "monte_carlo_std_error",
    "rhat",
]


FEWEST_BATCHES = 8
"""Fewer would make the standard error from batch means too noisy, more would make the batches short."""
EXCURSION_PARTS = 20
EXCURSION_FACTOR, EXCURSION_SLACK, EXCURSION_DEVIATIONS = 3.0, 20.0, 10.0
DESCENT_SLACK, DESCENT_DEVIATIONS = 1.0, 8.0
PROPOSAL_STREAM = 0xFFFFFFFF  # a step count no chain reaches


def rhat(values: np.ndarray) -> float:
    """Rank-normalised split R-hat of `(chain, draw)` values (Vehtari et al. 2021); NaN for fewer than four draws.

    Example:
        >>> import numpy as np
        >>> from slt_jax.sampling.diagnostics import rhat
        >>> draws = np.random.default_rng(0).standard_normal((4, 500))
        >>> rhat(draws) < 1.01, rhat(draws + np.arange(4)[:, None]) > 1.5  # chains that do not agree
        (True, True)
    """
    from arviz_stats.base import array_stats

    return float(array_stats.rhat(values, chain_axis=0, draw_axis=1)) if values.shape[1] >= 4 else float("nan")


def effective_sample_size(values: np.ndarray) -> float:
    """Effective number of independent draws for the mean of `(chain, draw)` values; NaN for fewer than four draws.

    Example:
        >>> import numpy as np
        >>> from slt_jax.sampling.diagnostics import effective_sample_size
        >>> draws = np.random.default_rng(0).standard_normal((4, 500))
        >>> effective_sample_size(draws) > 1000, effective_sample_size(np.repeat(draws, 10, axis=1)) < 4000
        (True, True)
    """
    from arviz_stats.base import array_stats

    if values.shape[1] < 4:
        return float("nan")
    return float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean"))


def monte_carlo_std_error(values: np.ndarray) -> float:
    """Standard error of the mean of `(chain, draw)` values; NaN for fewer than four draws.

    The larger of two estimates. Standard deviation over √ESS is the sharper, but sums autocorrelations only up to where
    they are lost in noise, and so comes out 5 to 20% too small for a chain that rarely visits a far tail
    (docs/results/known_models). The spread of the means of long batches misses nothing shorter than a batch.

    Example:
        >>> import numpy as np
        >>> from slt_jax.sampling.diagnostics import monte_carlo_std_error
        >>> draws = np.random.default_rng(0).standard_normal((4, 500))
        >>> bool(0.5 < monte_carlo_std_error(draws) * np.sqrt(2000) < 2)  # independent draws: 1/√2000
        True
    """
    if values.shape[1] < 4:
        return float("nan")
    by_autocorrelation = float(values.std(ddof=1) / np.sqrt(effective_sample_size(values)))
    return max(by_autocorrelation, _batch_std_error(values))


def _batch_std_error(values: np.ndarray) -> float:
    """Standard error of the mean from the means of at least `FEWEST_BATCHES` batches, as long as that allows.

    Source: Argon & Andradóttir 2006, "Replicated batch means for steady-state simulations".
    """
    chains, draws = values.shape
    per_chain = min(-(-FEWEST_BATCHES // chains), draws)
    length = draws // per_chain
    means = values[:, draws - per_chain * length :].reshape(chains * per_chain, length).mean(axis=1)
    return float(means.std(ddof=1) / np.sqrt(len(means)))


def drift(values: np.ndarray) -> tuple[float, float]:
    """Mean of the second half minus mean of the first half of `(chain, draw)` values, and its standard error.

    Example:
        >>> import numpy as np
        >>> from slt_jax.sampling.diagnostics import drift
        >>> draws = np.random.default_rng(0).standard_normal((4, 500)) + np.linspace(0, 2, 500)
        >>> change, error = drift(draws)
        >>> round(change), error < 0.2
        (1, True)
    """
    middle = values.shape[1] // 2
    if middle < 4:
        return float("nan"), float("nan")
    first, second = values[:, :middle], values[:, -middle:]
    error = np.hypot(monte_carlo_std_error(first), monte_carlo_std_error(second))
    return float(second.mean() - first.mean()), float(error)


def excursions(values: np.ndarray) -> np.ndarray:
    """Which chains of `(chain, draw)` values of nβ(L - L(w*)) went somewhere far above their level and came back: `(chain,)`.

    A step that is stable at w* may not be where the chain has wandered to; the loss then shoots up for a while and drags the
    mean along. Told by the means of 20 parts of a chain, of which one exceeds three times their median by 20 and by ten
    median deviations. A posterior does not do that by itself: beyond 3λ + 20 lies less than 1e-8 of a Gamma variable of
    shape λ, and the deviations leave room for the noise of minibatches.

    Example:
        >>> import numpy as np
        >>> from slt_jax.sampling.diagnostics import excursions
        >>> values = np.ones((2, 200))
        >>> values[1, 100:120] = 1000.0
        >>> excursions(values).tolist()
        [False, True]
    """
    parts, level, deviation = _parts(values)
    allowed = EXCURSION_FACTOR * np.abs(level) + EXCURSION_SLACK + EXCURSION_DEVIATIONS * deviation
    return parts.max(axis=1) > allowed


def descents(values: np.ndarray) -> np.ndarray:
    """Which chains of `(chain, draw)` values of nβ(L - L(w*)) found a lower loss than w* has: `(chain,)`.

    Told by the means of 20 parts of a chain, of which one is below zero by 1 and by eight median deviations of the parts.
    The posterior of a minimum has no mean below zero, and noise of minibatches is in the deviations.

    Example:
        >>> import numpy as np
        >>> from slt_jax.sampling.diagnostics import descents
        >>> values = np.ones((2, 200))
        >>> values[1, 150:170] = -20.0
        >>> descents(values).tolist()
        [False, True]
    """
    parts, _, deviation = _parts(values)
    return parts.min(axis=1) < -(DESCENT_SLACK + DESCENT_DEVIATIONS * deviation)


def _parts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of the parts of every chain, `(chain, part)`, their median, and their median deviation from it."""
    parts = np.stack(
        [part.mean(axis=1) for part in np.array_split(values, EXCURSION_PARTS, axis=1) if part.size], axis=1
    )
    level = np.median(parts, axis=1)
    return parts, level, np.median(np.abs(parts - level[:, None]), axis=1)


def mala_acceptance(
    chain: ChainState,
    posterior: LocalPosterior,
    kernel: Kernel,
    step_size: Scalar,
    metric: Metric | None = None,
    num_proposals: int = 4,
) -> Array:
    """Mean acceptance probability of a Metropolis-adjusted Langevin step from the chain's current state, a scalar.

    One minibatch serves the potential at both ends of a proposal, so its noise cancels. Near 1 the discretisation is
    harmless, below about 0.8 the step is too long. NaN for kernels that do not move by a Langevin proposal.

    Source: Roberts & Tweedie 1996, with a constant metric.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> from slt_jax.sampling.diagnostics import mala_acceptance
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> chain = slt_jax.init_chain(jax.random.key(0), posterior, slt_jax.sgld(None))
        >>> bool(mala_acceptance(chain, posterior, slt_jax.sgld(None), 0.001) > 0.9)
        True
    """
    if not kernel.langevin_proposal:
        return jnp.full((), jnp.nan)
    keys = jax.random.split(jax.random.fold_in(chain.key, PROPOSAL_STREAM), num_proposals)
    params = chain.kernel_state.params
    accept = partial(_accept, params=params, posterior=posterior, kernel=kernel, step_size=step_size, metric=metric)
    return jnp.mean(jax.lax.map(accept, keys))


def _accept(
    key: PRNGKey,
    params: Params,
    posterior: LocalPosterior,
    kernel: Kernel,
    step_size: Scalar,
    metric: Metric | None,
) -> Array:
    batch_key, noise_key = jax.random.split(key)
    indices = draw_indices(batch_key, posterior.n, kernel.batch_size)

    def potential(position: Params) -> Array:
        offset = jax.tree.map(jnp.subtract, position, posterior.center)
        return posterior.nbeta * minibatch_loss(posterior, position, indices) + (
            posterior.localization / 2 * squared_norm(offset)
        )

    half = step_size / 2
    start, unravel = ravel_pytree(params)
    energy, force = jax.value_and_grad(lambda flat: potential(unravel(flat)))(start)
    noise = jnp.sqrt(2 * half) * jax.random.normal(noise_key, start.shape, start.dtype)
    end = start + (metric.step(-half * force, noise) if metric is not None else noise - half * force)
    new_energy, new_force = jax.value_and_grad(lambda flat: potential(unravel(flat)))(end)
    # log q(end -> start) - log q(start -> end), in coordinates in which the proposal noise is isotropic
    forward = jnp.vdot(noise, noise)
    move = start - end
    if metric is None:
        backward = squared_norm(move + half * new_force)
    else:
        backward = squared_norm(metric.inverse().sqrt(move) + half * metric.sqrt(new_force))
    log_ratio = energy - new_energy + (forward - backward) / (4 * half)
    return jnp.where(jnp.isfinite(log_ratio), jnp.exp(jnp.minimum(log_ratio, 0.0)), 0.0)
