"""Refined LLCs: the LLC of every part of the parameters, the rest fixed (arXiv 2410.02984)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from slt_jax.estimators.llc import llc
from slt_jax.posterior import LocalPosterior, by_path, by_slice, restrict
from slt_jax.sampling.driver import sample, sample_restrictions
from slt_jax.sampling.samples import Samples
from slt_jax.typing import Params
from slt_lab.measure import Variable
from slt_lab.settings import Sampling, up_to
from slt_lab.streams import stream
from slt_lab.subject import Subject
from slt_lab.work import sampling_options

__all__ = ["Leaves", "RefinedLLC", "Slices"]


@dataclass(frozen=True)
class Leaves:
    """A part made of whole leaves: those whose path matches one of `patterns`."""

    name: str
    patterns: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of its one component."""
        return (self.name,)


@dataclass(frozen=True)
class Slices:
    """Parts of equal shape, the heads of a layer say, sampled in one program.

    Attributes:
        name: of all together.
        names: of each; component i is index i of every axis.
        axes: (path of a leaf, axis), ...
    """

    name: str
    names: tuple[str, ...]
    axes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class RefinedLLC:
    """The LLC of each component of `parts`, at the steps that `sampling` names; at none if it names none.

    Attributes:
        parts: what is sampled apart.
        sampling: the posterior, and plain SGLD with a step size that is given.
        stream: of the chains, a name in `slt_lab.streams`.
        only: names of the subjects that are measured; empty for all.
    """

    parts: tuple[Leaves | Slices, ...]
    sampling: Sampling
    stream: str
    only: tuple[str, ...] = field(default=(), repr=False)
    name: str = "refined LLC"
    axis: str = "checkpoint"

    def steps(self, subject: Subject) -> Sequence[int]:
        if self.only and subject.name not in self.only:
            return []
        return up_to(subject.num_steps, self.sampling.checkpoint_steps)

    def take(self, subject: Subject, params: Params) -> Mapping[str, Any]:
        settings = self.sampling
        data = subject.posterior_data(settings.num_examples)
        posterior = LocalPosterior(subject.loss_fn, data, params, settings.nbeta, settings.localization)
        estimates = [llc(samples) for part in self.parts for samples in self._draw(posterior, part)]
        found = {
            f"refined_llc_{name}": np.asarray([getattr(one, name) for one in estimates])
            for name in ("std_error", "rhat", "drift")
        }
        return {
            "refined_llc": np.asarray([one.mean for one in estimates]),
            **found,
            "refined_llc_diverged": np.asarray([one.diverged.any() for one in estimates]),
            "refined_llc_status": np.asarray([one.status for one in estimates]),
        }

    def _draw(self, posterior: LocalPosterior, part: Leaves | Slices) -> list[Samples]:
        settings, sampler = self.sampling, self.sampling.sampler()
        if sampler.step_size is None or sampler.metric is not None:
            raise ValueError("the refined LLC is sampled with a step size that is given, and without a metric")
        key = stream(self.stream)
        options: dict[str, Any] = {
            "step_size": sampler.step_size, "num_chains": settings.num_chains, "num_draws": settings.num_draws,
            "num_burnin": settings.num_burnin, "layout": None if settings.layout == "auto" else settings.layout,
            **sampling_options(part.name.replace(" ", "_")),
        }  # fmt: skip
        if isinstance(part, Slices):
            stack = by_slice(dict(part.axes), jnp.arange(len(part.names)))
            return sample_restrictions(key, posterior, stack, sampler.kernel, **options)
        return [sample(key, restrict(posterior, by_path(*part.patterns)), sampler.kernel, **options)]

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        del subject
        dims = ("component",)
        return {
            "refined_llc": Variable(dims, "LLC of a part of the parameters, the rest fixed"),
            "refined_llc_std_error": Variable(dims, "standard error of the refined LLC"),
            "refined_llc_rhat": Variable(dims, "rank-normalised R-hat of the refined LLC"),
            "refined_llc_drift": Variable(dims, "refined LLC of the second half of the draws minus that of the first"),
            "refined_llc_diverged": Variable(dims, "whether a chain diverged"),
            "refined_llc_status": Variable(dims, "what the estimate says of itself: ok, or what is the matter"),
        }

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        del subject
        return {"component": [name for part in self.parts for name in part.names]}
