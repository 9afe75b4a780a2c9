"""A kernel with everything it needs on one posterior."""

from dataclasses import dataclass

from slt_jax.sampling.base import Kernel
from slt_jax.sampling.inspection import Inspection
from slt_jax.sampling.metrics import Metric

__all__ = ["Tuned"]


@dataclass(frozen=True)
class Tuned:
    """A sampler tuned for one posterior, to be given to `sample` in place of a kernel.

    Attributes:
        kernel: what moves.
        metric: the constant metric, or `None`.
        step_size: in the kernel's meaning.
        num_burnin: steps in which the flattest direction relaxes; `sample` makes them unless told otherwise.
        inspection: what was found at w*, if it was looked at; `sample` then does not look again.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([2.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> tuned = slt_jax.Sampler(slt_jax.sgld(None)).tune(jax.random.key(0), posterior)
        >>> samples = slt_jax.sample(jax.random.key(1), posterior, tuned, num_draws=50)  # its step, metric and burn-in
        >>> samples.burnin_excess.shape[1] == tuned.num_burnin
        True
    """

    kernel: Kernel
    metric: Metric | None
    step_size: float
    num_burnin: int
    inspection: Inspection | None = None
