"""Refined LLCs of a language model (arXiv 2410.02984): of every attention head alone, and on a part of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.models.language_model import head_axes
from slt_jax.posterior import LocalPosterior, by_slice
from slt_jax.sampling.driver import sample_restrictions
from slt_jax.typing import Params
from slt_lab.errors import UserError
from slt_lab.measure import Variable
from slt_lab.measures.llc import draw, estimate, llc_variables
from slt_lab.settings import Sampling
from slt_lab.streams import stream
from slt_lab.subjects.language_model import LanguageSubject
from slt_lab.work import sampling_options

__all__ = ["HeadLLC", "SourceLLC", "check_refined"]

CHAIN = "refined_chain"
"""Chains of refined estimates: there may be more or fewer of them than of the LLC of all weights."""


def check_refined(sampling: Sampling) -> None:
    """Refuse settings without a step size: the heads of a layer share one.

    Raises:
        UserError: naming the flag.
    """
    if sampling.step_size is None:
        raise UserError("refined.step_size is missing; the heads of a layer share one, and none is found for them")


@dataclass(frozen=True)
class HeadLLC:
    """LLC over the weights of each head, the rest fixed; the heads of a layer are sampled side by side in one program.

    Chains share their noise over checkpoints, so that differences are sharper.

    Attributes:
        sampling: posterior and sampler.
        source: of the data, as `Task.posterior_data` takes it; "" for the training distribution.
    """

    sampling: Sampling
    source: str = ""
    axis: str = "checkpoint"

    @property
    def name(self) -> str:
        return f"refined LLC on {self.source}" if self.source else "refined LLC"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.sampling.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        settings = self.sampling
        data = subject.task.posterior_data(self.source, settings.num_examples)
        posterior = LocalPosterior(subject.loss_fn, data, params, settings.nbeta, settings.localization)
        layers = [self._layer(subject, posterior, layer) for layer in range(subject.model.num_layers)]
        return {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}

    def _layer(self, subject: LanguageSubject, posterior: LocalPosterior, layer: int) -> dict[str, np.ndarray]:
        settings = self.sampling
        check_refined(settings)
        assert settings.step_size is not None
        samples = sample_restrictions(
            jax.random.fold_in(stream("language/refined chains"), layer), posterior,
            by_slice(head_axes(layer), jnp.arange(subject.model.num_heads)), settings.sampler().kernel,
            step_size=settings.step_size, num_chains=settings.num_chains, num_draws=settings.num_draws,
            num_burnin=settings.num_burnin, layout=None if settings.layout == "auto" else settings.layout,
            **sampling_options(f"layer_{layer}"),
        )  # fmt: skip
        heads = [estimate(one, "head_llc") for one in samples]
        return {name: np.stack([head[name] for head in heads]) for name in self.variables(subject)}

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        return {
            name: replace(one, dims=("layer", "head", *one.dims), long_name=f"of each head alone: {one.long_name}")
            for name, one in llc_variables("head_llc", CHAIN).items()
        }

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {}


@dataclass(frozen=True)
class SourceLLC:
    """LLC over all weights, of the loss on the data of one source; `sampling` and `source` as for heads."""

    sampling: Sampling
    source: str = ""
    axis: str = "checkpoint"

    @property
    def name(self) -> str:
        return f"LLC on {self.source or 'the training data'}"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.sampling.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        data = subject.task.posterior_data(self.source, self.sampling.num_examples)
        return estimate(draw(stream("language/refined chains"), subject, data, params, self.sampling), "whole_llc")

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        return llc_variables("whole_llc", CHAIN)

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {}
