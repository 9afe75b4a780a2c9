"""How much device memory a run needs, read off its compiled programs before anything runs; nothing is allocated."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from configs.lm_stages import LMStages, Sampling
from experiments.registry import UserError
from slt_jax.models.language_model import LanguageModel, init, next_token_loss
from slt_jax.sampling.layout import default_layout
from slt_jax.training.loop import BatchFn, init_train_state, train_steps

__all__ = ["CARD", "Memory", "announce", "estimate_memory", "sampling_memory", "training_memory"]

CARD = 80e9
"""Bytes of the accelerator the paper's setting is meant for."""


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


def estimate_memory(
    config: LMStages, model: LanguageModel, batches: BatchFn, data: Any, optimizer: optax.GradientTransformation
) -> Memory:
    """The memory of a run. `data`, what batches are drawn from, may be shapes."""
    return Memory(
        training_memory(model, batches, data, optimizer),
        sampling_memory(model, config.sampling, config.sampling.num_chains),
        sampling_memory(model, config.refined, config.refined.num_chains * model.num_heads),
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


def announce(memory: Memory) -> None:
    """Say it on stderr."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, highlight=False).print(str(memory), markup=False)
