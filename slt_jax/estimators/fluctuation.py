"""Numbers that Watanabe's theory takes from the posterior beside λ: fluctuation, WAIC, WBIC, heat capacity.

    V_n  = Σ_i Var(l_i)                functional variance           ν = β V_n / 2    singular fluctuation
    T_n  = -(1/n) Σ_i log E[e^(-l_i)]  Bayes training loss           WAIC = T_n + (β/n) V_n
    WBIC = n E[L_n] at nβ = n/log n    heat capacity = (nβ)² Var(L_n)

with β = nβ/n. Sources: Watanabe 2010 (JMLR 11, 3571) for V_n, ν and WAIC; Watanabe 2013 (JMLR 14, 867) for WBIC and its
corollary 3, λ from two temperatures.
"""

from dataclasses import dataclass

import numpy as np

from slt_jax.estimators.covariances import diverged_chains, moments
from slt_jax.estimators.jackknife import Jackknife, blocks_of, deletions, from_deletions, jackknife
from slt_jax.estimators.llc import llc
from slt_jax.posterior import LocalPosterior, default_nbeta, example_losses
from slt_jax.sampling.samples import Samples
from slt_jax.sampling.statistics import BlockMoments

__all__ = ["Fluctuation", "ScalarEstimate", "fluctuation", "heat_capacity", "two_temperature_lambda", "wbic"]

FEWEST_FREEDOM = 7
COLUMNS = 1 << 16  # examples in double precision at a time


@dataclass(frozen=True)
class ScalarEstimate:
    """A number with its error bar.

    Attributes:
        value: NaN if a chain diverged.
        std_error: Monte Carlo standard error, autocorrelation included.
        diverged: `(chain,)`.
        status: "ok", or sentences that say what is wrong.

    Example:
        >>> import numpy as np
        >>> from slt_jax.estimators.free_energy import ScalarEstimate
        >>> ScalarEstimate(0.5, 0.01, np.array([False, False]), "ok").status
        'ok'
    """

    value: float
    std_error: float
    diverged: np.ndarray
    status: str


@dataclass(frozen=True)
class Fluctuation:
    """What the losses of single examples tell, each with a delete-one-block standard error; NaN if a chain diverged.

    Attributes:
        functional_variance, functional_variance_std_error: V_n, in squared nats.
        singular_fluctuation, singular_fluctuation_std_error: ν = β V_n / 2, which depends on β: report `beta` beside it.
        bayes_training_loss, bayes_training_loss_std_error: T_n, in nats per example.
        waic, waic_std_error: T_n + (β/n) V_n, in nats per example. The error is that of the sum, not of its terms apart.
        beta: inverse temperature β = nβ/n.
        n: number of examples.
        diverged: `(chain,)`.
        status: "ok", or sentences that say what is wrong.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 3.0, 1.0)
        >>> kept = {"examples": slt_jax.example_moments(loss_fn, x, posterior.center)}
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.1, num_draws=400,
        ...                          thinning=10, statistics=kept)
        >>> found = slt_jax.fluctuation(samples, "examples")
        >>> found.n, found.waic > found.bayes_training_loss
        (3, True)
    """

    functional_variance: float
    functional_variance_std_error: float
    singular_fluctuation: float
    singular_fluctuation_std_error: float
    bayes_training_loss: float
    bayes_training_loss_std_error: float
    waic: float
    waic_std_error: float
    beta: float
    n: int
    diverged: np.ndarray
    status: str


def fluctuation(samples: Samples, name: str) -> Fluctuation:
    """V_n, ν, T_n and WAIC from the statistic `example_moments(...)` called `name`, over all the data.

    The loss must be a negative log-likelihood: T_n and WAIC mean nothing for another.

    Raises:
        ValueError: if there is no such statistic, it keeps no exponentials, its losses are not one per example, or chains
            have different nβ.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> def loss_fn(w, x): return 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 3.0, 1.0)
        >>> moments = {"examples": slt_jax.example_moments(loss_fn, x, posterior.center)}
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.1,
        ...                          num_draws=400, num_burnin=50, thinning=10, statistics=moments)
        >>> slt_jax.fluctuation(samples, "examples").beta
        1.0
    """
    given, diverged = moments(samples, name), diverged_chains(samples)
    if given.exponential is None:
        raise ValueError(f"statistic '{name}' keeps no means of exp(-l_i); make it with example_moments(...)")
    shape = given.mean_y.shape[2:]
    if len(shape) != 1:
        raise ValueError(f"statistic '{name}' has losses of shape {shape}; WAIC needs one per example, shape (n,)")
    n = shape[0]
    beta = float(samples.nbeta[0]) / n
    found = _sums(given, diverged, beta)
    at_center = float(np.mean(given.reference_y[0], dtype=np.float64))
    # The sums hold V_n, n(T_n - L(w*)) and n(WAIC - L(w*)).
    (variance, training, waic), (variance_error, training_error, waic_error) = found.value, found.std_error
    return Fluctuation(
        functional_variance=float(variance),
        functional_variance_std_error=float(variance_error),
        singular_fluctuation=float(beta * variance / 2),
        singular_fluctuation_std_error=float(beta * variance_error / 2),
        bayes_training_loss=float(at_center + training / n),
        bayes_training_loss_std_error=float(training_error / n),
        waic=float(at_center + waic / n),
        waic_std_error=float(waic_error / n),
        beta=beta,
        n=n,
        diverged=diverged,
        status=_status(diverged, found),
    )


def _sums(given: BlockMoments, diverged: np.ndarray, beta: float) -> Jackknife:
    """Jackknife of (V_n, n(T_n - L(w*)), n(WAIC - L(w*))); a slice of examples at a time is in double precision."""
    if diverged.any():
        return Jackknife(np.full(3, np.nan), np.full(3, np.nan), 0)
    size, value, deleted = given.mean_y.shape[2], np.zeros(3), np.zeros(3)
    for start in range(0, size, COLUMNS):
        blocks = blocks_of(given, slice(start, min(start + COLUMNS, size)))
        whole, without = deletions(lambda pooled: _functionals(pooled, beta), blocks)
        value, deleted = value + whole, deleted + without
    return from_deletions(value, deleted, blocks.count)


def _functionals(pooled: BlockMoments, beta: float) -> np.ndarray:
    """(V_n, n(T_n - L(w*)), n(WAIC - L(w*))) of the columns; the last is the mean over examples."""
    variance = pooled.square_y[:-1].sum() / pooled.count
    training = -np.log1p(pooled.exponential[:-1]).sum()
    return np.array([variance, training, training + beta * variance])


def heat_capacity(samples: Samples, name: str) -> ScalarEstimate:
    """(nβ)² Var(L_n): λ of a regular model as nβ grows, an LLC that needs no baseline; at finite nβ it is another number.

    Args:
        samples: chains of one nβ.
        name: a statistic whose y are the losses of all the data (`example_moments`, `cross_moments`). The variance of
            recorded minibatch losses is mostly that of the minibatches, and is not used.

    Raises:
        ValueError: if there is no such statistic, or chains have different nβ.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), 100.0, 1.0)
        >>> kept = {"examples": slt_jax.example_moments(loss_fn, x, posterior.center)}
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.003, num_draws=1000,
        ...                          num_burnin=100, thinning=10, statistics=kept)
        >>> bool(abs(slt_jax.heat_capacity(samples, "examples").value - 0.5) < 0.1)  # one regular parameter: λ = 1/2
        True
    """
    given, diverged = moments(samples, name), diverged_chains(samples)
    if diverged.any():
        return ScalarEstimate(np.nan, np.nan, diverged, _status(diverged, None))
    scale = float(samples.nbeta[0]) ** 2
    found = jackknife(
        lambda pooled: np.asarray(scale * pooled.square_total / pooled.count), blocks_of(given, slice(0, 0))
    )
    return ScalarEstimate(float(found.value), float(found.std_error), diverged, _status(diverged, found))


def wbic(samples: Samples, posterior: LocalPosterior) -> ScalarEstimate:
    """n·E[L_n] at nβ = n/log n, in nats: the free energy at nβ = n up to O(√log n).

    Args:
        samples: drawn from `posterior` at nβ = n/log n.
        posterior: gives n and L_n(w*), which one pass over the data finds exactly; the chains add E[L_n] - L_n(w*).

    Raises:
        ValueError: if nβ of the samples is not n/log n, or differs between chains.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> x = jnp.array([-1.0, 0.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, x, jnp.zeros(()), slt_jax.default_nbeta(3), 1.0)
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.1, num_draws=400,
        ...                          thinning=10)
        >>> slt_jax.wbic(samples, posterior).value > 1.0  # n·L_n(w*) = 1 and what the posterior adds
        True
    """
    n = posterior.n
    if not np.allclose(samples.nbeta, default_nbeta(n), rtol=1e-4):
        raise ValueError(
            f"samples have nbeta = {samples.nbeta[0]:g}; WBIC of n = {n} is at n / log n = {default_nbeta(n):g}"
        )
    at_center = float(np.mean(np.asarray(example_losses(posterior, posterior.center)), dtype=np.float64))
    excess = llc(samples)
    per_excess = n / excess.nbeta
    return ScalarEstimate(
        n * at_center + per_excess * excess.mean, per_excess * excess.std_error, excess.diverged, excess.status
    )


def two_temperature_lambda(first: Samples, second: Samples) -> ScalarEstimate:
    """λ = (E₁[L_n] - E₂[L_n]) / (1/nβ₁ - 1/nβ₂): a learning coefficient without a baseline (Watanabe 2013, corollary 3).

    Args:
        first, second: independent samples of one posterior at two nβ and the same w* (its loss cancels).

    Raises:
        ValueError: if the two nβ are equal, or chains of one have different nβ.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.estimators.free_energy import two_temperature_lambda
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])  # λ = 1
        >>> at = lambda nbeta: slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, nbeta, 0.01)
        >>> options = dict(num_draws=1000, num_burnin=50, thinning=10)
        >>> first = slt_jax.sample(jax.random.key(0), at(50.0), slt_jax.sgld(None), step_size=0.006, **options)
        >>> second = slt_jax.sample(jax.random.key(1), at(100.0), slt_jax.sgld(None), step_size=0.003, **options)
        >>> bool(abs(two_temperature_lambda(first, second).value - 1) < 0.3)
        True
    """
    estimates = llc(first), llc(second)
    inverse = [1 / estimate.nbeta for estimate in estimates]
    if np.isclose(inverse[0], inverse[1]):
        raise ValueError(f"both samples have nbeta = {estimates[0].nbeta:g}; two temperatures must differ")
    means = [estimate.mean * t for estimate, t in zip(estimates, inverse, strict=True)]
    errors = [estimate.std_error * t for estimate, t in zip(estimates, inverse, strict=True)]
    step = inverse[0] - inverse[1]
    status = [estimate.status for estimate in estimates if estimate.status != "ok"]
    return ScalarEstimate(
        (means[0] - means[1]) / step,
        float(np.hypot(errors[0], errors[1])) / abs(step),
        np.concatenate([estimate.diverged for estimate in estimates]),
        "; ".join(status) or "ok",
    )


def _status(diverged: np.ndarray, found: Jackknife | None) -> str:
    if diverged.any():
        return f"diverged: chains {np.flatnonzero(diverged).tolist()}; the estimate is NaN"
    if found is not None and not np.isfinite(found.value).all():
        return "a mean of exp(-l_i) overflowed: w* is far from a minimum"
    if found is not None and found.degrees_of_freedom < FEWEST_FREEDOM:
        return (
            f"few blocks: {found.degrees_of_freedom + 1} in all, the error bar is rough; give more chains or num_blocks"
        )
    return "ok"
