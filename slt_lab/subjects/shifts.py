"""What becomes of a language model that is trained further, on its own language or on another one."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax

from slt_jax.data.sequences import TriggerBigrams, TriggerTable, trigger_batches
from slt_jax.models.language_model import NextTokenLoss
from slt_jax.training.loop import init_train_state, train_steps
from slt_jax.typing import Array, Params
from slt_lab.errors import UserError
from slt_lab.streams import stream
from slt_lab.subjects.language_model import LanguageSubject
from slt_lab.subjects.language_settings import Shift, Triggers

__all__ = ["other_language", "other_sequences", "train_on"]


def _language(subject: LanguageSubject) -> TriggerBigrams:
    data = subject.task.identity
    if not isinstance(data, Triggers):
        raise UserError(
            "a shift to another language takes a synthetic one (data:triggers); text has no second language to go to"
        )
    return TriggerBigrams(data.vocab_size, data.context, data.num_triggers, data.concentration)


def other_language(subject: LanguageSubject, number: int) -> TriggerTable:
    """Language `number` of the family the subject's own belongs to; 0 is its own.

    Raises:
        UserError: if the subject was trained on text.
    """
    language, key = _language(subject), stream("language/language")
    return language.table(jax.random.fold_in(key, number) if number else key)


def other_sequences(subject: LanguageSubject, number: int, count: int) -> Array:
    """`count` fresh sequences of language `number`, `(count, context)`: the evaluation sequences of the subject's task if it is 0."""
    return _language(subject).sequences(stream("language/evaluation"), other_language(subject, number), count).tokens


def train_on(subject: LanguageSubject, params: Params, shift: Shift, num_steps: int | None = None) -> Params:
    """`params` after training on the plain loss on language `shift.language`, from a fresh optimizer state.

    Args:
        subject: says the model and the size of a batch.
        params: where it begins; they are left as they are.
        shift: the language and the optimizer.
        num_steps: instead of those of `shift`.

    Raises:
        UserError: if the subject was trained on text.
        FloatingPointError: if the loss stops being finite.
    """
    update = _optimizer(shift)
    key = jax.random.fold_in(stream("language/shift"), shift.language)
    steps = shift.num_steps if num_steps is None else num_steps
    state = init_train_state(jax.tree.map(jnp.array, params), update)
    batches: Any = trigger_batches(_language(subject), _batch_size(subject))
    state, loss = train_steps(
        key, state, other_language(subject, shift.language), jnp.asarray(steps, jnp.int32),
        loss_fn=NextTokenLoss(subject.model), batch_fn=batches, update=update.update,
    )  # fmt: skip
    if steps and not jnp.isfinite(loss):
        raise FloatingPointError(
            f"the loss is not finite after {steps} steps on language {shift.language}; lower the rate"
        )
    return state.params


@cache  # one object for equal settings: compiled once
def _optimizer(shift: Shift) -> optax.GradientTransformation:
    return {"adam": optax.adam, "sgd": optax.sgd}[shift.optimizer](shift.learning_rate)


def _batch_size(subject: LanguageSubject) -> int:
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = jax.eval_shape(lambda key: subject.task.batches(key, jnp.zeros((), jnp.int32), subject.task.data), key)
    return batch["tokens"].shape[0]
