"""What may explain how far a head moves, beside its learning coefficient: the size of its gradient and of its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from slt_jax.models.language_model import LanguageModel, NextTokenLoss, head_axes
from slt_jax.restrictions import by_slice
from slt_jax.trees import squared_norm
from slt_jax.typing import Array, Params
from slt_lab.measure import Variable
from slt_lab.subjects.language_model import LanguageSubject
from slt_lab.subjects.shifts import other_sequences

__all__ = ["HeadSize", "head_norms"]


@partial(jax.jit, static_argnames="model")
def head_norms(model: LanguageModel, tree: Params) -> Array:
    """Length of each head's part of a tree of parameters or of gradients, `(layer, head)`."""

    def norm(layer: int, head: Array) -> Array:
        return jnp.sqrt(squared_norm(by_slice(head_axes(layer), head).take(tree)))

    heads = jnp.arange(model.num_heads)
    return jnp.stack([jax.lax.map(partial(norm, layer), heads) for layer in range(model.num_layers)])


@dataclass(frozen=True)
class HeadSize:
    """Lengths of each head's weights, and of its gradient of the loss on a new language, before any step is taken there.

    Attributes:
        language: number of the new language.
        num_sequences: fresh sequences of it.
        checkpoint_steps: empty for all that are kept but the untrained model's.
    """

    language: int
    num_sequences: int
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)
    name: str = "head size"
    axis: str = "checkpoint"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        tokens, loss_fn = other_sequences(subject, self.language, self.num_sequences), NextTokenLoss(subject.model)
        slope = jax.jit(jax.grad(lambda params: jnp.mean(loss_fn(params, {"tokens": tokens}))))(params)
        return {"head_norm": head_norms(subject.model, params), "head_gradient": head_norms(subject.model, slope)}

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        dims = ("layer", "head")
        return {
            "head_norm": Variable(dims, "length of a head's weights"),
            "head_gradient": Variable(dims, "length of a head's gradient on the new language", "nats per weight"),
        }

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {}
