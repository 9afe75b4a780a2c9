"""From blocks of moments to estimates with error bars: what every covariance shares."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from slt_jax.estimators.jackknife import blocks_of, jackknife, pool, t_quantile
from slt_jax.sampling.statistics import BlockMoments

__all__ = ["CovarianceEstimate", "estimate_moments", "pooled_covariance", "select_moments"]

FEWEST_DRAWS = 100  # effective draws of the product series
LARGEST_BETWEEN = 0.1  # share of the covariance that may lie between chains
COLUMNS = 1 << 16  # examples in double precision at a time

Function = Callable[[BlockMoments, slice], np.ndarray]
"""`(pooled moments, columns of y) -> values (x, columns)`."""


@dataclass(frozen=True)
class CovarianceEstimate:
    """Covariances (or what follows from them) with error bars.

    Attributes:
        value: shape `(*x, *y)`, observables by examples, in the units of x times those of y; NaN if a chain diverged.
        std_error: delete-one-block jackknife over chains and blocks, the shape of `value`.
        per_chain: every chain by itself, about its own mean, `(chain, *x, *y)`; NaN where `diverged`.
        between: `value` less the mean of `per_chain`: the part that chains with different means contribute.
        ess: effective number of independent draws of the product series, the shape of `value`.
        diverged: `(chain,)`, as `llc` finds them.
        status: "ok", or sentences that say why the numbers are not to be trusted.
        degrees_of_freedom: of the error bar; number of blocks less one.
        fisher: whether `value` is a correlation, whose interval is symmetric in Fisher's z.

    Example:
        >>> import numpy as np
        >>> from slt_jax.estimators.covariances import trace_covariance
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal((4, 500))  # four chains of 500 draws
        >>> estimate = trace_covariance(x, 2 * x)  # Cov(x, 2x) = 2
        >>> low, high = estimate.interval(0.999)
        >>> bool(low < 2 < high), estimate.status
        (True, 'ok')
    """

    value: np.ndarray
    std_error: np.ndarray
    per_chain: np.ndarray
    between: np.ndarray
    ess: np.ndarray
    diverged: np.ndarray
    status: str
    degrees_of_freedom: int
    fisher: bool = False

    @property
    def between_share(self) -> float:
        """Root mean square of `between` over that of `value`; small where chains agree."""
        return _between_share(self.value, self.between)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Ends of a two-sided interval of probability `level`, by Student's t; the shape of `value`."""
        reach = t_quantile(level, self.degrees_of_freedom)
        if not self.fisher:
            return np.asarray(self.value - reach * self.std_error), np.asarray(self.value + reach * self.std_error)
        z, error = np.arctanh(self.value), self.std_error / (1 - self.value**2)
        return np.asarray(np.tanh(z - reach * error)), np.asarray(np.tanh(z + reach * error))

    def of_examples(self, which: slice) -> "CovarianceEstimate":
        """The estimate of some examples, along the last axis; its status speaks of them alone."""
        value, error, per_chain, between, ess = (
            values[..., which] for values in (self.value, self.std_error, self.per_chain, self.between, self.ess)
        )
        usable = not self.diverged.any() or bool(np.isfinite(self.value).any())
        status = _status(value, between, ess, self.diverged, self.degrees_of_freedom, usable)
        return replace(self, value=value, std_error=error, per_chain=per_chain, between=between, ess=ess, status=status)


def estimate_moments(
    given: BlockMoments, diverged: np.ndarray, function: Function, tolerate_diverged: bool
) -> CovarianceEstimate:
    """`function` of the pooled moments of all chains and of each, a slice of the columns of y at a time.

    Args:
        given: axes `(chain, block, *x, *y)`.
        diverged: `(chain,)`; such a chain makes the value NaN, or is left out if `tolerate_diverged`.
        function: what is estimated, from pooled moments as `blocks_of` and `pool` make them.
        tolerate_diverged: see `diverged`.
    """
    shape = given.mean_x.shape[2:] + given.mean_y.shape[2:]
    size = int(np.prod(given.mean_y.shape[2:]))
    usable = not diverged.all() and (tolerate_diverged or not diverged.any())
    parts = []
    for start in range(0, size, COLUMNS):
        columns = slice(start, min(start + COLUMNS, size))
        parts.append(_estimate_columns(given, diverged, function, columns, usable))
    value, error, ess = (np.concatenate([part[i] for part in parts], axis=-1).reshape(shape) for i in range(3))
    per_chain = np.concatenate([part[3] for part in parts], axis=-1).reshape(len(diverged), *shape)
    between = np.asarray(value - per_chain[~diverged].mean(axis=0)) if usable else np.full(shape, np.nan)
    freedom = parts[0][4]
    status = _status(value, between, ess, diverged, freedom, usable)
    return CovarianceEstimate(value, error, per_chain, between, ess, diverged, status, freedom)


def _estimate_columns(
    given: BlockMoments, diverged: np.ndarray, function: Function, columns: slice, usable: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Value, standard error, effective draws, each `(x, columns)`; every chain's value; degrees of freedom."""
    width = (int(np.prod(given.mean_x.shape[2:])), columns.stop - columns.start)
    per_chain = np.full((len(diverged), *width), np.nan)
    for chain in np.flatnonzero(~diverged):
        per_chain[chain] = function(pool(blocks_of(select_moments(given, slice(chain, chain + 1)), columns)), columns)
    if not usable:
        nothing = np.full(width, np.nan)
        return nothing, nothing, nothing, per_chain, 0
    blocks = blocks_of(select_moments(given, ~diverged), columns)
    found = jackknife(lambda pooled: function(pooled, columns), blocks)
    return found.value, found.std_error, _effective_draws(blocks, columns), per_chain, found.degrees_of_freedom


def _effective_draws(blocks: BlockMoments, columns: slice) -> np.ndarray:
    """Variance of one product of deviations, V_x·V_y + C² as for a Gaussian (Isserlis), over that of their mean.

    Heavier tails than a Gaussian's make it smaller, as they do the accuracy.
    """
    pooled = pool(blocks)
    error = jackknife(lambda moments: pooled_covariance(moments, columns), blocks).std_error
    variances = np.multiply.outer(pooled.square_x, pooled.square_y[:-1]) / pooled.count**2
    with np.errstate(invalid="ignore", divide="ignore"):  # an observable that never moves: 0/0
        return (variances + pooled_covariance(pooled, columns) ** 2) / error**2


def _between_share(value: np.ndarray, between: np.ndarray) -> float:
    scale = np.sqrt(np.nanmean(value**2)) if np.isfinite(value).any() else np.nan
    return float(np.sqrt(np.nanmean(between**2)) / scale) if scale > 0 else float("nan")


def _status(
    value: np.ndarray, between: np.ndarray, ess: np.ndarray, diverged: np.ndarray, freedom: int, usable: bool
) -> str:
    sentences = []
    if diverged.any():
        consequence = "left out as asked" if usable else "the estimate is NaN"
        sentences.append(f"diverged: chains {np.flatnonzero(diverged).tolist()}; {consequence}")
    if not usable:
        return sentences[0]
    if freedom < 1:
        sentences.append("no error bar: a single block of draws; give more chains, draws or num_blocks")
    draws = float(np.median(ess[np.isfinite(ess)])) if np.isfinite(ess).any() else float("nan")
    if not draws >= FEWEST_DRAWS:
        sentences.append(f"few draws: about {draws:.0f} effective draws of the products; draw more for {FEWEST_DRAWS}")
    share = _between_share(value, between)
    if share > LARGEST_BETWEEN:
        sentences.append(f"between chains: {share:.0%} of the covariance; the chains have not mixed, draw longer")
    return "; ".join(sentences) if sentences else "ok"


def pooled_covariance(pooled: BlockMoments, _: slice) -> np.ndarray:
    """Cov(x, y) of the columns; `blocks_of` appends the mean over y, which is left out."""
    return pooled.product[:, :-1] / pooled.count


def select_moments(given: BlockMoments, which: np.ndarray | slice) -> BlockMoments:
    """The moments of some chains."""
    return BlockMoments(*[None if leaf is None else leaf[which] for leaf in given])
