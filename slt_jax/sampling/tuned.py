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
    """

    kernel: Kernel
    metric: Metric | None
    step_size: float
    num_burnin: int
    inspection: Inspection | None = None
