"""A sampler as one value: a kernel, the rule of its metric, and how far its steps go; tuned, it is ready for a posterior."""

from dataclasses import dataclass

import jax

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.calibration import calibrate
from slt_jax.sampling.metrics import CurvatureMetric, Metric
from slt_jax.sampling.pilot import Neighbourhood, stiffest_curvature
from slt_jax.sampling.tuned import Tuned
from slt_jax.typing import PRNGKey

__all__ = ["Sampler", "Tuned"]

STEP = 1  # stream of the key that finds the step; the metric is made with the key itself


@dataclass(frozen=True)
class Sampler:
    """How to sample, whatever the posterior.

    Attributes:
        kernel: what moves.
        metric: the rule of a constant metric, such as `CurvatureMetric(rank=64)`; `None` for the identity.
        step_size: in the kernel's meaning; `None`: the step that `calibrate` finds.
        step_fraction: c of `calibrate`; `None`: the kernel's own.

    Example:
        The sampler of docs/accuracy.md, and that of the regression transformer:

        >>> from slt_jax import CurvatureMetric, Sampler, underdamped
        >>> best = Sampler(underdamped(500), CurvatureMetric(max_rank=128), step_fraction=0.25)
        >>> late = Sampler(underdamped(128, persistence=0.9), CurvatureMetric(64, 30.0, num_examples=128), step_size=0.07)
        >>> best.step_fraction, late.step_size
        (0.25, 0.07)
    """

    kernel: Kernel
    metric: CurvatureMetric | None = None
    step_size: float | None = None
    step_fraction: float | None = None

    def tune(self, key: PRNGKey, posterior: LocalPosterior, *, neighbourhood: Neighbourhood | None = None) -> Tuned:
        """What `sample` needs for this sampler on `posterior`: the metric, the step size and the burn-in.

        Args:
            key: typed PRNG key.
            posterior: what will be sampled.
            neighbourhood: a result of `pilot.find_neighbourhood`: the step then comes from the stiffest curvature there and not
                from that at w*, the same for all kernels.

        Raises:
            ValueError: as `calibrate` and `curvature_metric`.
        """
        step_key = jax.random.fold_in(key, STEP)
        metric = None if self.metric is None else self.metric(key, posterior)
        if self.step_size is not None:
            flattest = float(posterior.localization) * (1.0 if metric is None else float(metric.rest))
            burnin = self.kernel.relaxation_steps(self.step_size, flattest) if flattest > 0 else 0
            return Tuned(self.kernel, metric, self.step_size, round(burnin))
        if neighbourhood is not None:
            return self._in(neighbourhood, step_key, posterior, metric)
        found = calibrate(step_key, posterior, kernel=self.kernel, metric=metric, step_fraction=self.step_fraction)
        return Tuned(self.kernel, metric, found.step_size, found.num_burnin, found.inspection)

    def _in(
        self, neighbourhood: Neighbourhood, key: PRNGKey, posterior: LocalPosterior, metric: Metric | None
    ) -> Tuned:
        stiffest, flattest = neighbourhood.stiffest, float(posterior.localization)
        if metric is not None:
            stiffest = stiffest_curvature(key, posterior, neighbourhood.places, metric)
            flattest *= float(metric.rest)
        step_size = self.kernel.step_for(stiffest, self.step_fraction)
        return Tuned(self.kernel, metric, step_size, round(self.kernel.relaxation_steps(step_size, flattest)))
