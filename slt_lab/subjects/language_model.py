"""A small language model in training: the subject of every experiment on language models."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from slt_jax.models.language_model import LanguageModel, init, next_token_loss
from slt_jax.typing import PRNGKey
from slt_lab.folder import RunFolder
from slt_lab.streams import stream
from slt_lab.subject import Subject
from slt_lab.subjects.language_settings import LanguageSettings, Training
from slt_lab.subjects.language_tasks import Task, check_data, open_task

__all__ = ["LanguageSubject", "adamw", "check_language", "language_facts", "language_subject", "telling_passage"]


@dataclass(frozen=True, kw_only=True)
class LanguageSubject(Subject):
    """A language model, and the language it is trained on.

    Attributes:
        model: what is trained.
        task: the language, and what can be asked about it.
        probes_key: random sequences on which heads are tested; the same at every checkpoint.
    """

    model: LanguageModel
    task: Task
    probes_key: PRNGKey


def language_subject(settings: LanguageSettings, folder: RunFolder) -> LanguageSubject:
    """The model of `settings` on its language.

    The number of steps and the checkpoints that are kept move no number, and are no part of its identity: a longer training
    goes on from a shorter one.

    Raises:
        UserError, ValueError: if its text cannot be used.
    """
    seed, training = settings.seed, settings.training
    task = open_task(settings.data, training.batch_size, folder)
    model = _model(settings, task.vocab_size)
    return LanguageSubject(
        name="language_model",
        identity=(seed, task.identity, settings.model, training.learning_rate, training.weight_decay, training.batch_size),
        loss_fn=next_token_loss(model),
        init=partial(init, stream("language/init", seed), model),
        posterior_data=partial(task.posterior_data, ""),
        chains_key=stream("language/chains", seed),
        num_steps=training.num_steps,
        batches=task.batches,
        optimizer=adamw(training),
        training_key=stream("language/training", seed),
        save_at=sorted({*range(0, training.num_steps, training.checkpoint_every), training.num_steps}),
        data=task.data,
        model=model,
        task=task,
        probes_key=stream("language/probes", seed),
    )  # fmt: skip


def adamw(training: Training) -> optax.GradientTransformation:
    """The optimizer of `training`."""
    return optax.adamw(training.learning_rate, weight_decay=training.weight_decay)


def check_language(settings: LanguageSettings) -> None:
    """Refuse a language or a model that cannot be; nothing is written, and no text is read.

    Raises:
        UserError, ValueError: in one sentence.
    """
    check_data(settings.data)
    model = _model(settings, settings.data.vocab_size)
    jax.eval_shape(partial(init, model=model), jax.random.key(0))


def language_facts(settings: LanguageSettings, subject: LanguageSubject) -> dict[str, Any]:
    """What is known of the language beside its measurements: the losses of simpler predictors, and a passage to look at."""
    count, task = settings.num_evaluation_sequences, subject.task
    facts = {f"baseline.{name}": loss for name, loss in task.baselines(count).items()}
    labels = task.decode(telling_passage(np.asarray(task.evaluation(count))))
    return {**facts, "source": task.sources[0], "example": labels}


def telling_passage(sequences: np.ndarray, length: int = 24) -> np.ndarray:
    """The passage with the most bigrams that occur twice: there an induction head has something to do."""
    starts = sequences[:, :length].astype(np.int64)
    bigrams = starts[:, :-1] * (sequences.max() + 1) + starts[:, 1:]
    return starts[np.argmin([len(np.unique(row)) for row in bigrams])]


def _model(settings: LanguageSettings, vocab_size: int) -> LanguageModel:
    shape = settings.model
    return LanguageModel(
        vocab_size, settings.data.context, shape.embed_dim, shape.num_heads, shape.num_layers, shape.mlp_dim, shape.positions
    )  # fmt: skip
