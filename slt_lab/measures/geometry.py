"""Second-order geometry of the loss: traces, leading eigenvalues, and the effective dimension that they bound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from slt_jax.estimators.curvature import effective_dimension, fisher_trace, hessian_spectrum, hessian_trace
from slt_jax.typing import Batch, Params, PRNGKey
from slt_lab.measure import Variable
from slt_lab.settings import up_to
from slt_lab.streams import stream
from slt_lab.subject import Subject

__all__ = ["EffectiveDimension", "Geometry"]

PROBES, EIGENVALUES, RANK = range(3)  # folded into the key of the stream
CHUNK = 512  # examples per pass


@dataclass(frozen=True)
class Geometry:
    """Traces of the Hessian and of the empirical Fisher matrix, and the leading eigenvalues of the Hessian.

    Probes are the same at every checkpoint, so that differences are sharper.

    Attributes:
        posterior_examples: n of the empirical loss; its first `num_examples` are used.
        num_examples: at most n.
        num_probes: of the Hessian trace, at least 2.
        num_eigenvalues: 0 leaves them out.
        stream: of the probes, a name in `slt_lab.streams`.
        checkpoint_steps: as those of the LLC.
    """

    posterior_examples: int
    num_examples: int
    num_probes: int
    num_eigenvalues: int
    stream: str
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)
    name: str = "geometry"
    axis: str = "checkpoint"

    def steps(self, subject: Subject) -> Sequence[int]:
        return subject.sampled_steps(self.checkpoint_steps)

    def take(self, subject: Subject, params: Params) -> Mapping[str, Any]:
        examples = self.examples(subject, self.num_examples)
        hessian = hessian_trace(
            self.key(PROBES), subject.loss_fn, params, examples, num_probes=self.num_probes, chunk_size=CHUNK
        )
        fisher = fisher_trace(subject.loss_fn, params, examples)
        found = {
            "hessian_trace": hessian.mean, "hessian_trace_std_error": hessian.std_error,
            "fisher_trace": fisher.mean, "fisher_trace_std_error": fisher.std_error,
        }  # fmt: skip
        if self.num_eigenvalues:
            found["hessian_eigenvalues"] = hessian_spectrum(
                self.key(EIGENVALUES), subject.loss_fn, params, examples, rank=self.num_eigenvalues,
                num_matvecs=8 * self.num_eigenvalues, chunk_size=CHUNK,
            )  # fmt: skip
        return found

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        del subject
        per_squared = "units of the loss per squared parameter"
        found = {}
        for name, words in (("hessian", "Hessian"), ("fisher", "empirical Fisher matrix")):
            found[f"{name}_trace"] = Variable((), f"trace of the {words}", per_squared)
            found[f"{name}_trace_std_error"] = Variable((), f"standard error of the trace of the {words}", per_squared)
        if self.num_eigenvalues:
            found["hessian_eigenvalues"] = Variable(("eigenvalue",), "leading Hessian eigenvalues", per_squared)
        return found

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        del subject
        return {}

    def key(self, use: int) -> PRNGKey:
        """The key of one use of the stream."""
        return jax.random.fold_in(stream(self.stream), use)

    def examples(self, subject: Subject, count: int) -> Batch:
        """The first `count` examples of the empirical loss."""
        return jax.tree.map(lambda leaf: leaf[:count], subject.posterior_data(self.posterior_examples))


@dataclass(frozen=True)
class EffectiveDimension:
    """Bounds of ½ Σ nβh / (nβh + γ) over the eigenvalues h of the Hessian: leading ones, the rest by the trace.

    Attributes:
        geometry: how the trace is measured.
        nbeta, localization: of the posterior.
        rank: leading eigenvalues.
        num_examples: of their Hessian, the first of the empirical loss.
        checkpoint_steps: its own; if none are given, those of `geometry`.
    """

    geometry: Geometry
    nbeta: float
    localization: float
    rank: int
    num_examples: int
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)
    name: str = "effective dimension"
    axis: str = "checkpoint"

    def steps(self, subject: Subject) -> Sequence[int]:
        if self.checkpoint_steps:
            return up_to(subject.num_steps, self.checkpoint_steps)
        return self.geometry.steps(subject)

    def take(self, subject: Subject, params: Params) -> Mapping[str, Any]:
        geometry, loss_fn = self.geometry, subject.loss_fn
        examples = geometry.examples(subject, geometry.num_examples)
        trace = hessian_trace(
            geometry.key(PROBES), loss_fn, params, examples, num_probes=geometry.num_probes, chunk_size=CHUNK
        )
        fewer = geometry.examples(subject, self.num_examples)
        eigenvalues = hessian_spectrum(geometry.key(RANK), loss_fn, params, fewer, rank=self.rank)
        found = effective_dimension(eigenvalues, float(trace.mean), nbeta=self.nbeta, localization=self.localization)
        return {"effective_dimension": found.lower, "effective_dimension_upper": found.upper}

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        del subject
        return {
            "effective_dimension": Variable((), "effective dimension, from below"),
            "effective_dimension_upper": Variable((), "effective dimension, from above"),
        }

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        del subject
        return {}
