"""How much device memory a language model needs, read off its compiled programs before anything runs; nothing is allocated."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from slt_jax.models.language_model import LanguageModel, init, next_token_loss
from slt_jax.sampling.layout import default_layout
from slt_jax.training.loop import BatchFn, init_train_state, train_steps
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.reporting import Reporter
from slt_lab.settings import Sampling
from slt_lab.subjects.language_model import LanguageSubject

__all__ = ["CARD", "Memory", "estimate_memory", "needed_memory", "sampling_memory", "training_memory"]

CARD = 80e9
"""Bytes of a large accelerator."""


class Memory(NamedTuple):
    """Bytes on the device during training, and during each kind of sampling with all its chains on one device."""

    training: int
    sampling: int
    refined: int

    def __str__(self) -> str:
        training, sampling, refined = (f"{size / 1e9:.2f} GB" for size in self)
        fits = "fits" if max(self) < CARD else "does not fit"
        return (
            f"device memory from the compiled programs: {training} to train, {sampling} to sample all weights, {refined} to "
            f"sample the heads of a layer; it {fits} an {CARD / 1e9:.0f} GB card"
        )


def needed_memory(folder: RunFolder, subject: LanguageSubject, sampling: Sampling, refined: Sampling) -> Memory:
    """The memory of a run, found once and said on stderr."""
    assert subject.batches is not None
    assert subject.optimizer is not None
    batches, optimizer = subject.batches, subject.optimizer

    def compute() -> dict[str, Any]:
        return estimate_memory(subject.model, batches, subject.data, optimizer, sampling, refined)._asdict()

    found = Memory(**{name: int(size) for name, size in folder.piece("memory", compute).items()})
    Reporter.say(str(found))
    return found


def estimate_memory(
    model: LanguageModel,
    batches: BatchFn,
    data: Any,
    optimizer: optax.GradientTransformation,
    sampling: Sampling,
    refined: Sampling,
) -> Memory:
    """The memory to train on `data`, which may be shapes, to sample all weights, and to sample the heads of a layer."""
    return Memory(
        training_memory(model, batches, data, optimizer),
        sampling_memory(model, sampling, sampling.num_chains),
        sampling_memory(model, refined, refined.num_chains * model.num_heads),
    )


def training_memory(model: LanguageModel, batches: BatchFn, data: Any, optimizer: optax.GradientTransformation) -> int:
    """Arguments, results and temporaries of the training program; the state is donated, and counts once."""
    state = jax.eval_shape(lambda key: init_train_state(init(key, model), optimizer), jax.random.key(0))
    count = jax.ShapeDtypeStruct((), "int32")
    lowered = train_steps.lower(
        jax.random.key(0), state, data, count, loss_fn=next_token_loss(model), batch_fn=batches, update=optimizer.update
    )
    return _bytes(lowered)


def sampling_memory(model: LanguageModel, sampling: Sampling, num_chains: int) -> int:
    """Data, parameters and state of `num_chains` chains, and the gradients that are computed at the same time."""
    params = jax.eval_shape(lambda key: init(key, model), jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((sampling.batch_size, model.context), "int32")
    loss = next_token_loss(model)
    gradient = _bytes(jax.jit(jax.grad(lambda p, t: jnp.mean(loss(p, {"tokens": t})))).lower(params, tokens))
    layout = default_layout() if sampling.layout == "auto" else sampling.layout
    at_once = num_chains if layout == "vmap" else 1
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return sampling.num_examples * model.context * 4 + num_chains * weights + at_once * gradient


def _bytes(lowered: Any) -> int:
    memory = lowered.compile().memory_analysis()
    if memory is None:
        raise UserError("this backend does not report the memory of a compiled program")
    shared = memory.alias_size_in_bytes
    return int(memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes - shared)
