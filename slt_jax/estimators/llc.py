"""The local learning coefficient λ̂(w*) = nβ( E_p[L_n(w)] - L_n(w*) )   (Lau et al. 2023, arXiv 2308.12108, eq. 11)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from slt_jax.arguments import check_count, check_key, describe
from slt_jax.estimators import records
from slt_jax.inputs import check_data
from slt_jax.posterior import LocalPosterior, check_posterior, default_nbeta
from slt_jax.sampling.calibration import Calibration, calibrate
from slt_jax.sampling.center import center_losses
from slt_jax.sampling.checks import check_on_host
from slt_jax.sampling.diagnostics import (
    descents,
    drift,
    effective_sample_size,
    excursions,
    monte_carlo_std_error,
    rhat,
)
from slt_jax.sampling.driver import sample
from slt_jax.sampling.records import block_means, same_fields
from slt_jax.sampling.samples import Samples
from slt_jax.sampling.sgld import sgld
from slt_jax.typing import Batch, LossFn, Params, PRNGKey

if TYPE_CHECKING:
    import xarray

__all__ = ["LLCEstimate", "estimate_llc", "llc"]

RUNAWAY = 10.0
"""A chain whose mean λ̂ exceeds this many times its number of parameters (λ is at most half of it) has run away."""
NEGATIVE = 3.0
"""An LLC this many standard errors below zero is none."""
LARGEST_RHAT, FEWEST_DRAWS, DRIFTED = 1.05, 50.0, 4.0
"""Beyond these, R-hat, the number of effective draws and the drift (in its standard errors) say that chains are too short."""


@dataclass(frozen=True, eq=False)
class LLCEstimate:
    """An LLC with its error bar and what is needed to trust it. Dimensionless.

    Two are equal (`==`) if every field is, NaN to NaN. Arrays can be written to, so an estimate has no hash.

    Attributes:
        mean: λ̂; NaN if a chain diverged (unless tolerated, then the mean of the others).
        std_error: Monte Carlo standard error of `mean`, autocorrelation included.
        per_chain: λ̂ of every chain, `(chain,)`; NaN where `diverged`.
        rhat: rank-normalised split R-hat; near 1 when the chains agree.
        ess: effective number of independent draws.
        drift: λ̂ of the second half of the draws minus that of the first.
        drift_std_error: standard error of `drift`; a drift of several of these means too little burn-in.
        acceptance: mean Metropolis acceptance at the step that was used; NaN if the kernel has no such test.
        diverged: `(chain,)`, true where a value was not finite or the chain ran away.
        status: "ok", or sentences, separated by "; ", that begin with what is the matter (docs/reading-an-estimate.md):
            "diverged" (which chains and why), "excursion" (chains went far above their level and came back, which the mean
            contains), "below the center" (chains found a lower loss than w*), "not a minimum", "step too long" (for Euler's
            integrator), "heated" (by minibatch noise), "coarse" (numbers of the losses' type are too far apart), "unseen" (the loss has no second derivative), "adapting",
            "too few draws".
        baseline: which L_n(w*) was subtracted: "paired", "full" or "number".
        nbeta: nβ.
        localization: γ.
        step_size: in the kernel's meaning.
        trace: means of nβ(L - L(w*)) over at most 200 blocks of consecutive draws, `(chain, block)`, or `None`.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> estimate = slt_jax.estimate_llc(jax.random.key(0), model.loss_fn, model.center, model.data, nbeta=100.0)
        >>> estimate.per_chain.shape, estimate.status
        ((4,), 'ok')
        >>> slt_jax.LLCEstimate.from_dict(estimate.as_dict()) == estimate
        True
    """

    mean: float
    std_error: float
    per_chain: np.ndarray
    rhat: float
    ess: float
    drift: float
    drift_std_error: float
    acceptance: float
    diverged: np.ndarray
    status: str
    baseline: str
    nbeta: float
    localization: float
    step_size: float
    trace: np.ndarray | None = field(default=None, repr=False)

    def __str__(self) -> str:
        healthy = f"LLC {self.mean:.4g} ± {self.std_error:.2g} (R-hat {self.rhat:.3f}, ESS {self.ess:.0f})"
        return healthy if self.status == "ok" else f"{healthy}; {self.status}"

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other) if isinstance(other, LLCEstimate) else NotImplemented

    def as_dict(self) -> dict[str, Any]:
        """Every field by its name in types that JSON has: NaN is `None`, an infinity "inf" or "-inf", an array a list.

        Example:
            text = json.dumps(estimate.as_dict(), allow_nan=False)
            assert LLCEstimate.from_dict(json.loads(text)) == estimate
        """
        return records.estimate_to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LLCEstimate":
        """What `as_dict` made, the same to the bit.

        Raises:
            ValueError: if a field is missing or a key is no field.
        """
        return records.estimate_from_dict(cls, values)

    def to_xarray(self) -> "xarray.Dataset":
        """The estimate as a dataset with units and long names; `status` and `baseline` are attributes.

        Variables: `llc`, `llc_std_error`, `llc_rhat`, `llc_ess`, `llc_drift`, `llc_drift_std_error`, `llc_acceptance`, `nbeta`,
        `localization`, `step_size`; `llc_per_chain` and `diverged` with dim `chain`; `llc_trace` with dims `(chain, block)`.
        ArviZ wants the draws themselves: `Samples.to_xarray`.

        Example:
            over_training = xarray.concat([estimate.to_xarray() for estimate in estimates], "checkpoint")
        """
        return records.estimate_to_xarray(self)

    def save(self, path: Path | str) -> None:
        """Write the estimate to `path`, one `.npz` file with a digest, whole or not at all."""
        records.save_estimate(self, path)

    @classmethod
    def load(cls, path: Path | str) -> "LLCEstimate":
        """What `save` wrote, the same to the bit.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged or holds something else.
        """
        return records.load_estimate(cls, path)

    def _repr_html_(self) -> str:
        return records.estimate_view(self)


def llc(samples: Samples, *, tolerate_diverged: bool = False) -> LLCEstimate:
    """The LLC of `samples`, all of whose chains share one nβ.

    A diverged chain is flagged, its value is NaN, and so is the mean: it is never averaged over its finite part, nor
    left out unless `tolerate_diverged` asks for it (the status still says so).

    Raises:
        TypeError: if it is not `Samples`.
        ValueError: if the chains have different nβ (a sweep), whose mean would be of no one quantity.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.001, num_burnin=200,
        ...                          thinning=10)
        >>> estimate = slt_jax.llc(samples)
        >>> bool(abs(estimate.mean - model.coefficient.learning_coefficient) < 0.1)  # λ = 1
        True
    """
    if not isinstance(samples, Samples):
        raise TypeError(f"samples is {describe(samples)}; give the Samples that `sample` returned, one at a time")
    if len(set(samples.nbeta.tolist())) != 1:
        raise ValueError("samples mix several values of nbeta; estimate each setting of a sweep apart")
    nbeta = float(samples.nbeta[0])
    values = nbeta * samples.excess  # (chain, draw)
    with np.errstate(invalid="ignore", over="ignore"):
        means = values.mean(axis=1)
    lost = ~samples.finite | ~np.isfinite(means)
    runaway = ~lost & (means > RUNAWAY * samples.num_parameters)
    diverged = lost | runaway
    kept = values[~diverged] if tolerate_diverged else values
    summary = _summary(kept if kept.size and (tolerate_diverged or not diverged.any()) else None)
    return LLCEstimate(
        mean=summary.mean,
        std_error=summary.std_error,
        per_chain=np.where(diverged, np.nan, means),
        rhat=summary.rhat,
        ess=summary.ess,
        drift=summary.drift,
        drift_std_error=summary.drift_std_error,
        acceptance=float(samples.acceptance[~diverged].mean()) if not diverged.all() else float("nan"),
        diverged=diverged,
        status=_status(samples, values, lost, runaway, summary, tolerate_diverged),
        baseline=samples.baseline,
        nbeta=nbeta,
        localization=float(samples.localization[0]),
        step_size=float(samples.step_size[0]),
        trace=block_means(values),
    )


class Summary(NamedTuple):
    """Mean, error and diagnostics of `(chain, draw)` values; all NaN where chains diverged."""

    mean: float
    std_error: float
    rhat: float
    ess: float
    drift: float
    drift_std_error: float

    @property
    def scarce(self) -> str:
        """The sentence about too few draws; empty if there are enough, or none can be told."""
        reasons = []
        if self.rhat > LARGEST_RHAT:
            reasons.append(f"R-hat is {self.rhat:.2f}")
        if self.ess < FEWEST_DRAWS:
            reasons.append(f"only {self.ess:.0f} effective draws")
        if abs(self.drift) > DRIFTED * self.drift_std_error:
            reasons.append(f"the second half is {self.drift:+.2g} ± {self.drift_std_error:.1g} from the first")
        if not reasons:
            return ""
        return f"too few draws: {' and '.join(reasons)}; the error bar is too small, raise num_draws and num_burnin"


def _summary(values: np.ndarray | None) -> Summary:
    if values is None:
        return Summary(*[float("nan")] * 6)
    return Summary(
        float(values.mean()), monte_carlo_std_error(values), rhat(values), effective_sample_size(values), *drift(values)
    )


def _status(
    samples: Samples, values: np.ndarray, lost: np.ndarray, runaway: np.ndarray, summary: Summary, tolerated: bool
) -> str:
    """ "ok", or one sentence for everything that is the matter."""
    diverged = lost | runaway
    sentences = [_divergence(samples, lost, runaway, tolerated)] if diverged.any() else []
    if not diverged.all():
        kept = np.flatnonzero(~diverged)
        left = kept[excursions(values[kept])]
        if left.size:
            sentences.append(
                f"excursion: chains {left.tolist()} spent some draws far above their level; try a smaller step_size than "
                f"{samples.step_size[0]:g}"
            )
        fell = kept[descents(values[kept])]
        if fell.size or summary.mean < -NEGATIVE * summary.std_error:
            which = f"chains {fell.tolist()}" if fell.size else "the chains together"
            sentences.append(
                f"below the center: {which} found a lower loss than w* has, so λ̂ is not an LLC of w*; train on, or raise "
                "localization"
            )
    sentences += samples.inspection.findings
    if summary.scarce:
        sentences.append(summary.scarce)
    return "; ".join(sentences) if sentences else "ok"


def _divergence(samples: Samples, lost: np.ndarray, runaway: np.ndarray, tolerated: bool) -> str:
    reasons = []
    if lost.any():
        reasons.append(f"chains {np.flatnonzero(lost).tolist()} reached a loss or gradient that is not finite")
    if runaway.any():
        reasons.append(
            f"chains {np.flatnonzero(runaway).tolist()} ran away (mean above {RUNAWAY:g} x {samples.num_parameters} "
            "parameters)"
        )
    consequence = "left out as asked" if tolerated else "the estimate is NaN"
    advice = f"try a smaller step_size than {samples.step_size[0]:g}"
    return f"diverged: {' and '.join(reasons)}; {consequence}; {advice}"


def estimate_llc(
    key: PRNGKey,
    loss_fn: LossFn,
    params: Params,
    data: Batch,
    *,
    nbeta: float | None = None,
    localization: float = 1.0,
    batch_size: int | None = 256,
    step_size: float | None = None,
    num_chains: int = 4,
    num_draws: int = 2000,
    num_burnin: int | None = None,
    calibration: Calibration | None = None,
    progress: bool = False,
) -> LLCEstimate:
    """The LLC of `loss_fn` at `params`: calibrates the step, samples, reports.

    The sampler is SGLD in the integrator of Leimkuhler & Matthews, whose step costs no bias in Gaussian directions, with
    a paired baseline.

    Args:
        key: typed PRNG key.
        loss_fn: `(params, batch) -> losses`, one per example.
        params: w*, a pytree of floating-point arrays, trained to a (local) minimum.
        data: pytree of arrays with leading axis n.
        nbeta: nβ; default n / log n.
        localization: γ.
        batch_size: examples per step; all of them if n is smaller, or for `None`.
        step_size: ε of SGLD; default from `calibrate`.
        num_chains, num_draws: chains and draws per chain.
        num_burnin: steps before the first draw; default the calibrated relaxation time, at most `num_draws`.
        calibration: a result of `calibrate` to use again, for other checkpoints of the same model say.
        progress: show a bar on stderr.

    Raises:
        ValueError: as `sample` and `default_nbeta`.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])  # λ = 1
        >>> estimate = slt_jax.estimate_llc(jax.random.key(0), model.loss_fn, model.center, model.data, nbeta=100.0)
        >>> bool(abs(estimate.mean - 1) < 0.15)
        True
    """
    check_on_host("estimate_llc", key, params, data)
    check_key(key)
    n = check_data(data)
    if batch_size is not None and check_count("batch_size", batch_size) >= n:
        batch_size = None
    posterior = LocalPosterior(loss_fn, data, params, default_nbeta(n) if nbeta is None else nbeta, localization)
    check_posterior(posterior)
    # Once for the calibration's look and for the baseline of the draws.
    posterior = replace(posterior, center_losses=center_losses(posterior))
    kernel = sgld(batch_size, integrator="leimkuhler_matthews")
    calibration_key, sampling_key = jax.random.split(key)
    inspection = None
    if step_size is None or num_burnin is None:
        calibration = calibration or calibrate(calibration_key, posterior, kernel=kernel)
        inspection = calibration.inspection if step_size is None else None
        step_size = calibration.step_size if step_size is None else step_size
        num_burnin = min(calibration.num_burnin, num_draws) if num_burnin is None else num_burnin
    samples = sample(
        sampling_key,
        posterior,
        kernel,
        step_size=step_size,
        num_chains=num_chains,
        num_draws=num_draws,
        num_burnin=num_burnin,
        progress=progress,
        inspection=inspection,
    )
    return llc(samples)
