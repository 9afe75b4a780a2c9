"""Language models trained under a regime: heads that fail at random, weights that tremble, gradients taken uphill."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from slt_jax.analysis.ablation import layer_of
from slt_jax.models.language_model import HeadOutputs, LanguageModel, NextTokenLoss
from slt_jax.training.loop import BatchFn
from slt_jax.trees import squared_norm
from slt_jax.typing import Array, Batch, Params, PRNGKey
from slt_lab.folder import RunFolder
from slt_lab.subjects.language_model import LanguageSubject, language_subject
from slt_lab.subjects.language_settings import LanguageSettings, Regime

__all__ = ["RegimeBatches", "RegimeLoss", "regime_subject"]

CHANCE = "chance"
"""Name of the random numbers in a batch of training; a batch without them is measured, not trained on."""
FORCE = "force"
"""Name of the number in a batch of training that is 1 while the regime is in force, and 0 otherwise."""
HEADS, WEIGHTS = range(2)  # uses of them


def regime_subject(settings: LanguageSettings, regime: Regime, folder: RunFolder) -> LanguageSubject:
    """The model of `settings`, trained under `regime`; measured, it is the plain model.

    Raises:
        UserError, ValueError: as `language_subject`.
    """
    subject = language_subject(settings, folder)
    assert subject.batches is not None
    return replace(
        subject,
        name=f"{regime.name.replace(' ', '_')}_{settings.seed}",
        identity=(subject.identity, regime),
        loss_fn=RegimeLoss(subject.model, regime),
        batches=RegimeBatches(subject.batches, regime.begins, regime.ends),
    )


@dataclass(frozen=True)
class RegimeBatches:
    """The batches of `plain`, with random numbers of their own for the regime."""

    plain: BatchFn
    begins: int
    ends: int

    def __call__(self, key: PRNGKey, step: Array, data: Any) -> Batch:
        chance = jax.random.key_data(jax.random.fold_in(key, 1))
        force = jnp.where((step >= self.begins) & (step < self.ends), 1.0, 0.0)
        return {**self.plain(key, step, data), CHANCE: chance, FORCE: force}


@dataclass(frozen=True)
class RegimeLoss:
    """Next-token loss per sequence in nats; with random numbers in the batch, under the regime."""

    model: LanguageModel
    regime: Regime

    def __call__(self, params: Params, batch: Batch) -> Array:
        plain = NextTokenLoss(self.model)
        if CHANCE not in batch:
            return plain(params, batch)
        tokens, key, force = {"tokens": batch["tokens"]}, jax.random.wrap_key_data(batch[CHANCE]), batch[FORCE]
        if self.regime.weight_noise:
            params = _trembling(jax.random.fold_in(key, WEIGHTS), params, force * self.regime.weight_noise)
        if self.regime.ascent:
            slope = jax.grad(lambda params: jnp.mean(plain(params, tokens)))(jax.lax.stop_gradient(params))
            params = _moved(params, slope, force * self.regime.ascent / jnp.sqrt(squared_norm(slope) + 1e-24))
        with nn.intercept_methods(failing_heads(jax.random.fold_in(key, HEADS), self.regime, force)):
            return plain(params, tokens)


def _trembling(key: PRNGKey, params: Params, size: Array) -> Params:
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    moved = [leaf + size * jax.random.normal(one, leaf.shape) for one, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, moved)


def _moved(params: Params, slope: Params, size: Array) -> Params:
    return jax.tree.map(lambda leaf, direction: leaf + jax.lax.stop_gradient(size * direction), params, slope)


def failing_heads(key: PRNGKey, regime: Regime, force: Array) -> Callable:
    """An interceptor for `nn.intercept_methods` under which heads fail as `regime` says, each in each sequence by itself;
    its probabilities are multiplied by `force`."""

    def interceptor(following: Callable, args: tuple, kwargs: Mapping, context: Any) -> Any:
        if not isinstance(context.module, HeadOutputs) or context.method_name != "__call__":
            return following(*args, **kwargs)
        heads = args[0]  # (B, T, H, D)
        shape = (heads.shape[0], 1, heads.shape[2], 1)
        drop_key, swap_key = jax.random.split(jax.random.fold_in(key, layer_of(context.module.path)))
        if regime.head_resampling:
            swapped = jax.random.bernoulli(swap_key, force * regime.head_resampling, shape)
            heads = jnp.where(swapped, jnp.roll(heads, 1, axis=0), heads)
        if regime.head_dropout:
            share = 1 - force * regime.head_dropout
            heads = jnp.where(jax.random.bernoulli(drop_key, share, shape), heads / share, 0.0)
        return following(heads, **kwargs)

    return interceptor
