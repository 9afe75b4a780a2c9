"""Covariances under the local posterior, with error bars: influence functions, susceptibilities, the loss kernel.

Perturbing the loss by h·D moves an expectation by d⟨φ⟩/dh = -nβ Cov(φ, D). Hence, for the loss l_i of example i,

    BIF(i, φ) = -Cov(φ, l_i)               Bayesian influence function (Kreer et al. 2025, arXiv 2509.26544)
    χ_i       = -Cov(φ, l_i - L)           susceptibility (Baker et al. 2025, arXiv 2504.18274)
    K_ij      =  Cov(l_i, l_j)             loss kernel (Adam et al. 2025, arXiv 2509.26537)

The moments are streamed (`cross_moments`); what is here turns blocks of them into estimates.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from slt_jax.estimators.block_estimates import CovarianceEstimate, estimate_moments, pooled_covariance, select_moments
from slt_jax.estimators.jackknife import Jackknife, blocks_of, jackknife, moments_of_traces, pool
from slt_jax.estimators.llc import llc
from slt_jax.sampling.samples import Samples
from slt_jax.sampling.statistics import BlockMoments

__all__ = [
    "CovarianceEstimate",
    "LossKernel",
    "Susceptibilities",
    "covariance",
    "diverged_chains",
    "influence",
    "loss_kernel",
    "moments",
    "susceptibilities",
    "trace_covariance",
]


class Susceptibilities(NamedTuple):
    """Susceptibilities of a part C of the weights; they differ by E_C[φ]·(E_full[l_i - L] - E_C[l_i - L]).

    Attributes:
        restricted: -Cov_C(φ, l_i - L), both under the posterior of C alone: the response of E_C[φ].
        mixed: -(E_C[φ(l_i - L)] - E_C[φ]·E_full[l_i - L]), φ less its value at w*, as published: it takes the second
            mean under the posterior of all weights. None without samples of that.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w["a"] + w["b"] - x) ** 2
        >>> x, w = jnp.array([-1.0, 0.0, 1.0]), {"a": jnp.zeros(()), "b": jnp.zeros(())}
        >>> whole = slt_jax.LocalPosterior(loss_fn, x, w, 10.0, 1.0)
        >>> moments = slt_jax.cross_moments(None, jax.tree_util.Partial(lambda x, w: loss_fn(w, x), x))
        >>> samples = slt_jax.sample(jax.random.key(0), slt_jax.restrict(whole, slt_jax.by_path("a")), slt_jax.sgld(None),
        ...                          step_size=0.03, num_draws=400, thinning=10, statistics={"losses": moments})
        >>> found = slt_jax.susceptibilities(samples, "losses")
        >>> found.restricted.value.shape, found.mixed
        ((3,), None)
    """

    restricted: CovarianceEstimate
    mixed: CovarianceEstimate | None


def moments(samples: Samples, name: str) -> BlockMoments:
    """The streamed moments called `name`.

    Raises:
        ValueError: if there are none, in a sentence that lists what there is.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> from slt_jax.estimators.covariances import moments
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 10.0, 1.0)
        >>> kept = slt_jax.example_moments(loss_fn, x, posterior.center, num_blocks=5)
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.03, num_draws=50,
        ...                          statistics={"examples": kept})
        >>> moments(samples, "examples").mean_y.shape  # chains, blocks, examples
        (4, 5, 3)
    """
    found = samples.statistics.get(name)
    if not isinstance(found, BlockMoments):
        known = ", ".join(samples.statistics) or "none"
        raise ValueError(f"samples have no moments '{name}' (there are: {known}); give statistics to sample")
    if not np.all(found.count.sum(axis=1) == found.drawn) or found.drawn.min() < 2:
        raise ValueError(f"moments '{name}' hold {found.drawn.tolist()} draws; a covariance needs at least 2 per chain")
    return found


def diverged_chains(samples: Samples) -> np.ndarray:
    """`(chain,)`, true where `llc` would call the chain diverged.

    Raises:
        ValueError: if the chains have different nβ.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.estimators.covariances import diverged_chains
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.003, num_draws=50)
        >>> diverged_chains(samples).tolist()
        [False, False, False, False]
    """
    return llc(samples).diverged


def covariance(samples: Samples, name: str, *, tolerate_diverged: bool = False) -> CovarianceEstimate:
    """Cov(x, y) of the statistic `cross_moments(x, y)` called `name`, shape `(*x, *y)`.

    A diverged chain makes every value NaN; it is left out only if `tolerate_diverged` asks for that.

    Raises:
        ValueError: if there is no such statistic, it keeps no products, or chains have different nβ.

    Example: see `slt_jax.sampling.statistics.cross_moments`.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 10.0, 1.0)
        >>> moments = slt_jax.cross_moments(lambda w: w, jax.tree_util.Partial(lambda x, w: loss_fn(w, x), x))
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.03, num_draws=400,
        ...                          num_burnin=50, thinning=10, statistics={"losses": moments})
        >>> slt_jax.covariance(samples, "losses").value.round(1).tolist()  # exactly -x_i/(nβ + γ) = 0.09, 0, -0.09
        [0.1, -0.0, -0.1]
    """
    return estimate_moments(
        _with_products(samples, name), diverged_chains(samples), pooled_covariance, tolerate_diverged
    )


def trace_covariance(x: np.ndarray, y: np.ndarray) -> CovarianceEstimate:
    """Cov(x, y) of recorded traces `(chain, draw, *x)` and `(chain, draw, *y)`, shape `(*x, *y)`.

    A chain with a value that is not finite counts as diverged.

    Example:
        >>> import numpy as np
        >>> from slt_jax.estimators.covariances import trace_covariance
        >>> x = np.random.default_rng(0).standard_normal((4, 500))
        >>> round(float(trace_covariance(x, x).value), 1)  # Var(x) = 1
        1.0
    """
    finite = [np.isfinite(values).reshape(len(values), -1).all(axis=1) for values in (x, y)]
    return estimate_moments(moments_of_traces(x, y), ~(finite[0] & finite[1]), pooled_covariance, False)


def influence(
    samples: Samples,
    name: str,
    kind: str = "covariance",
    *,
    n: int | None = None,
    tolerate_diverged: bool = False,
) -> CovarianceEstimate:
    """Bayesian influence of every example on every observable, from `cross_moments(observables, losses)`.

    Args:
        samples, name: as in `covariance`.
        kind: "covariance" is BIF(i, φ) = -Cov(φ, l_i); "response" is d⟨φ⟩/dweight_i = -(nβ/n) Cov(φ, l_i), what one more
            unit of weight on example i does; "correlation" is -Corr(φ, l_i), with Fisher's z for its error.
        n: number of examples that the posterior's loss averages over; "response" needs it.
        tolerate_diverged: as in `covariance`.

    Raises:
        ValueError: as `covariance`, if `kind` is none of these, or n is missing.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 10.0, 1.0)
        >>> moments = slt_jax.cross_moments(lambda w: w, jax.tree_util.Partial(lambda x, w: loss_fn(w, x), x))
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.03, num_draws=400,
        ...                          num_burnin=50, thinning=10, statistics={"losses": moments})
        >>> bool(slt_jax.influence(samples, "losses").value[2] > 0)  # the example at x = 1 pulls w up
        True
    """
    given = _with_products(samples, name)
    diverged = diverged_chains(samples)
    if kind == "correlation":
        return _correlation(estimate_moments(given, diverged, _minus_fisher_z, tolerate_diverged))
    if kind == "covariance":
        scale = 1.0
    elif kind == "response":
        if n is None or n < 1:
            raise ValueError(
                f"n = {n}; a response is nbeta/n times a covariance: give the posterior's number of examples"
            )
        scale = float(samples.nbeta[0]) / n
    else:
        raise ValueError(f"kind = '{kind}'; it must be 'covariance', 'response' or 'correlation'")
    return estimate_moments(
        given, diverged, lambda pooled, columns: -scale * pooled_covariance(pooled, columns), tolerate_diverged
    )


def susceptibilities(
    samples: Samples, name: str, full: Samples | None = None, *, tolerate_diverged: bool = False
) -> Susceptibilities:
    """Susceptibilities of the sampled part of the weights to every example, from `cross_moments(φ, losses)`.

    Negative is expression, positive suppression. `cross_moments(None, losses)` takes φ = L.

    Args:
        samples: of a restricted posterior.
        name: the statistic; its y must be the losses of all the data, since L is their mean.
        full: samples of the posterior of all weights at the same w* with a statistic of that name, for the mixed form.
        tolerate_diverged: as in `covariance`.

    Raises:
        ValueError: as `covariance`; or if the losses at w* of `full` are not those of `samples`.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w["a"] + w["b"] - x) ** 2
        >>> x, w = jnp.array([-1.0, 0.0, 1.0]), {"a": jnp.zeros(()), "b": jnp.zeros(())}
        >>> whole = slt_jax.LocalPosterior(loss_fn, x, w, 10.0, 1.0)
        >>> moments = slt_jax.cross_moments(None, jax.tree_util.Partial(lambda x, w: loss_fn(w, x), x))  # φ = L
        >>> samples = slt_jax.sample(jax.random.key(0), slt_jax.restrict(whole, slt_jax.by_path("a")), slt_jax.sgld(None),
        ...                          step_size=0.03, num_draws=400, thinning=10, statistics={"losses": moments})
        >>> values = slt_jax.susceptibilities(samples, "losses").restricted.value
        >>> bool(abs(values.sum()) < 1e-6)  # they add up to nothing: the losses are taken about their mean
        True
    """
    given, diverged = _with_products(samples, name), diverged_chains(samples)

    def restricted(pooled: BlockMoments, _: slice) -> np.ndarray:
        return _last_taken_off(-pooled.product / pooled.count)

    alone = estimate_moments(given, diverged, restricted, tolerate_diverged)
    if full is None:
        return Susceptibilities(alone, None)
    other = moments(full, name)
    # The means are of differences from the reference: equal references cancel, others would be a wrong number.
    if other.reference_y.shape != given.reference_y.shape or not np.allclose(
        other.reference_y[0], given.reference_y[0], rtol=1e-4, atol=1e-6
    ):
        raise ValueError(
            f"the losses at w* of statistic '{name}' differ between samples and full; sample both at one w*"
        )
    means = _mean_losses(other, diverged_chains(full), tolerate_diverged)
    return Susceptibilities(alone, _mixed(given, diverged, means, tolerate_diverged))


def _mixed(given: BlockMoments, diverged: np.ndarray, full: Jackknife, tolerate_diverged: bool) -> CovarianceEstimate:
    """The published form; the two samples are independent, so their variances add."""
    x_shape, y_shape = given.mean_x.shape[2:], given.mean_y.shape[2:]

    def mixed(pooled: BlockMoments, columns: slice) -> np.ndarray:
        shift = full.value[columns] - _last_taken_off(pooled.mean_y)
        return _last_taken_off(-pooled.product / pooled.count) + np.multiply.outer(pooled.mean_x, shift)

    inside = estimate_moments(given, diverged, mixed, tolerate_diverged)
    if diverged.all():
        return inside
    phi = pool(blocks_of(select_moments(given, ~diverged), slice(0, 0))).mean_x
    outside = np.abs(np.multiply.outer(phi, full.std_error)).reshape(x_shape + y_shape)
    freedom = min(inside.degrees_of_freedom, full.degrees_of_freedom)
    return replace(inside, std_error=np.asarray(np.hypot(inside.std_error, outside)), degrees_of_freedom=freedom)


def _mean_losses(given: BlockMoments, diverged: np.ndarray, tolerate_diverged: bool) -> Jackknife:
    """E[l_i - L] less its value at w*, `(examples,)`; NaN where a chain diverged."""
    size = int(np.prod(given.mean_y.shape[2:]))
    if diverged.any() and not (tolerate_diverged and not diverged.all()):
        return Jackknife(np.full(size, np.nan), np.full(size, np.nan), 0)
    return jackknife(lambda pooled: _last_taken_off(pooled.mean_y), blocks_of(select_moments(given, ~diverged)))


@dataclass(frozen=True)
class LossKernel:
    """K = F Fᵀ, the covariances (or correlations) of the losses of all examples, by a factor of as many columns as draws.

    Attributes:
        factor: F, shape `(examples, chains x draws)`.
        traces: the losses it comes from, `(chain, draw, examples)`.
        correlation: whether the rows of F have length 1.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 10.0, 1.0)
        >>> losses = jax.tree_util.Partial(lambda x, w: loss_fn(w, x), x)
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.03, num_draws=50,
        ...                          observables={"losses": losses})
        >>> slt_jax.loss_kernel(samples, "losses").rows(np.array([0])).shape  # a row of K: one example against all
        (1, 3)
    """

    factor: np.ndarray
    traces: np.ndarray
    correlation: bool

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """K at these rows, `(len(indices), examples)`; nothing of size examples x examples is made."""
        return self.factor[indices] @ self.factor.T

    def covariance_rows(self, indices: np.ndarray) -> CovarianceEstimate:
        """Covariances at these rows with their error bars, `(len(indices), examples)`."""
        return trace_covariance(self.traces[..., indices], self.traces)

    def components(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """The leading eigenvalues of K, `(rank,)`, largest first, and eigenvectors, `(examples, rank)`."""
        vectors, singular, _ = np.linalg.svd(self.factor, full_matrices=False)
        return singular[:rank] ** 2, vectors[:, :rank]


def loss_kernel(samples: Samples, name: str, *, correlation: bool = True) -> LossKernel:
    """The loss kernel K_ij = Cov(l_i, l_j), or the correlations, as a low-rank factor.

    Args:
        samples: with an observable `name` that recorded the losses of the examples, `(chain, draw, examples)`; thin, for
            its trace is draws x examples.
        correlation: divide by the standard deviations.

    Raises:
        ValueError: if there is no such trace, a chain diverged, or there are fewer than two draws.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 10.0, 1.0)
        >>> losses = jax.tree_util.Partial(lambda x, w: loss_fn(w, x), x)
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.03, num_draws=50,
        ...                          observables={"losses": losses})
        >>> slt_jax.loss_kernel(samples, "losses").factor.shape  # three examples, 4 chains x 50 draws
        (3, 200)
    """
    if name not in samples.observables:
        raise ValueError(f"samples recorded no observable '{name}'; the loss kernel needs a trace of the losses")
    traces = samples.observables[name]
    traces = traces.reshape(*traces.shape[:2], -1)
    diverged = diverged_chains(samples)
    if diverged.any():
        raise ValueError(
            f"chains {np.flatnonzero(diverged).tolist()} diverged; the kernel of the others is not asked for"
        )
    rows = np.moveaxis(traces, 2, 0).reshape(traces.shape[2], -1).astype(np.float64)
    if rows.shape[1] < 2:
        raise ValueError("samples hold one draw; a covariance needs at least 2")
    factor = rows - rows.mean(axis=1, keepdims=True)
    scale = np.linalg.norm(factor, axis=1, keepdims=True) if correlation else np.sqrt(rows.shape[1])
    with np.errstate(invalid="ignore"):  # an example whose loss never moves has no correlation: NaN
        return LossKernel(factor / scale, traces, correlation)


def _with_products(samples: Samples, name: str) -> BlockMoments:
    found = moments(samples, name)
    if found.product is None:
        raise ValueError(f"statistic '{name}' keeps no products of x and y; make it with cross_moments(x, y)")
    return found


def _minus_fisher_z(pooled: BlockMoments, _: slice) -> np.ndarray:
    scale = np.sqrt(np.multiply.outer(pooled.square_x, pooled.square_y[:-1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return -np.arctanh(pooled.product[:, :-1] / scale)


def _correlation(found: CovarianceEstimate) -> CovarianceEstimate:
    """Estimates of Fisher's z = arctanh(r) as correlations r."""
    value, per_chain = np.tanh(found.value), np.tanh(found.per_chain)
    kept = per_chain[~found.diverged]
    between = value - kept.mean(axis=0) if len(kept) else np.full_like(value, np.nan)
    return replace(
        found,
        value=value,
        std_error=found.std_error * (1 - value**2),
        per_chain=per_chain,
        between=between,
        fisher=True,
    )


def _last_taken_off(values: np.ndarray) -> np.ndarray:
    """`blocks_of` appends the mean over examples: what belongs to l_i less what belongs to L."""
    return values[..., :-1] - values[..., -1:]
