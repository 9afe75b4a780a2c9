"""What a language model is trained and measured on: the synthetic triggers or text, behind one face."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.data.corpus_statistics import bigram_table, common_ngrams, ngram_losses
from slt_jax.data.packing import TokenBatches, check_context, windows
from slt_jax.data.sequences import (
    REPETITION_CLASSES,
    TRIGGER_CLASSES,
    TriggerBatch,
    TriggerBigrams,
    repetition_classes,
    trigger_batches,
)
from slt_jax.training.loop import BatchFn
from slt_jax.typing import Batch
from slt_lab.folder import RunFolder
from slt_lab.streams import STREAMS, stream
from slt_lab.subjects.corpora import check_text, open_corpus, text_source_names
from slt_lab.subjects.language_settings import Text, Triggers

__all__ = ["Task", "check_data", "open_task", "source_names"]

ON_DEVICE = 1 << 30
"""Tokens kept on the device; a larger corpus is read from disk batch by batch."""


@dataclass(frozen=True)
class Task:
    """A language and what can be asked about it.

    Attributes:
        identity: what its tokens follow from.
        vocab_size: number of tokens.
        bos: id of the token every sequence begins with, or -1.
        batches, data: the training batches, a function of the step, and what they are drawn from.
        evaluation: `count -> (count, context)`, fresh or held-out sequences.
        baselines: `count -> losses`, in nats per token on `count` evaluation sequences (text: on all that is held out), of
            predictors that know this much and no more.
        bigram: P(next | current), `(vocab, vocab)`.
        ngrams: n -> common n-grams `(count, n)`; empty where they mean nothing.
        sources: names that `posterior_data` accepts; the first is the training distribution.
        posterior_data: `(source, count) -> {"tokens"}`; the source "" is the first.
        decode: token ids -> one label per token.
        classes: kinds of token, by what it takes to predict one.
        token_classes: `count -> (count, context - 1)`, the kind of every token after the first of `evaluation(count)`.
    """

    identity: Any
    vocab_size: int
    bos: int
    batches: BatchFn
    data: Any
    evaluation: Callable[[int], jax.Array]
    baselines: Callable[[int], Mapping[str, float]]
    bigram: jax.Array
    ngrams: Mapping[int, jax.Array]
    sources: tuple[str, ...]
    posterior_data: Callable[[str, int], Batch]
    decode: Callable[[np.ndarray], list[str]]
    classes: tuple[str, ...]
    token_classes: Callable[[int], jax.Array]


def open_task(data: Triggers | Text, batch_size: int, folder: RunFolder) -> Task:
    """The task of `data`; text is tokenized into the run folder once.

    Raises:
        UserError, ValueError: if the text is not there or cannot be used.
    """
    return _trigger_task(data, batch_size) if isinstance(data, Triggers) else _text_task(data, batch_size, folder)


def check_data(data: Triggers | Text) -> None:
    """Refuse what `open_task` would refuse, as far as that is known before text is read.

    Raises:
        UserError, ValueError: in one sentence.
    """
    if isinstance(data, Triggers):
        _language(data)
    else:
        check_context(data.context, data.context)
        check_text(data)


def source_names(data: Triggers | Text) -> tuple[str, ...]:
    """`Task.sources`, known before the task is opened."""
    return ("triggers", "bigrams") if isinstance(data, Triggers) else ("all", *text_source_names(data))


def _language(data: Triggers) -> TriggerBigrams:
    return TriggerBigrams(data.vocab_size, data.context, data.num_triggers, data.concentration)


def _trigger_task(data: Triggers, batch_size: int) -> Task:
    language = _language(data)
    table = language.table(stream("language/language"))

    def evaluation(count: int) -> TriggerBatch:
        return language.sequences(stream("language/evaluation"), table, count)

    def baselines(count: int) -> dict[str, float]:
        batch = evaluation(count)
        return {
            "uniform": float(np.log(data.vocab_size)),
            "bigram": float(language.bigram_losses(batch, table).mean()),
            "induction oracle": float(language.induction_losses(batch, table).mean()),
        }

    def posterior_data(source: str, count: int) -> Batch:
        # "bigrams" is the same language without triggers: what an induction head is of no use for.
        spoken = replace(language, num_triggers=0) if source == "bigrams" else language
        return {"tokens": spoken.sequences(stream("language/posterior data"), table, count).tokens}

    return Task(
        identity=data,
        vocab_size=data.vocab_size,
        bos=-1,
        batches=trigger_batches(language, batch_size),
        data=table,
        evaluation=lambda count: evaluation(count).tokens,
        baselines=baselines,
        bigram=table.bigram,
        ngrams={},
        sources=source_names(data),
        posterior_data=posterior_data,
        decode=lambda tokens: [str(token) for token in tokens],
        classes=TRIGGER_CLASSES,
        token_classes=lambda count: language.token_classes(evaluation(count)),
    )


def _text_task(data: Text, batch_size: int, folder: RunFolder) -> Task:
    corpus, tokens = open_corpus(data, folder)
    tokenizer = corpus.tokenizer()
    train, held_out = corpus.tokens("train"), corpus.tokens("held_out")
    check_context(min(len(train), len(held_out)), data.context)
    large = len(train) > ON_DEVICE
    path = str(corpus.path("train")) if large else None
    window = partial(windows, context=data.context, bos=corpus.bos)

    def baselines(count: int) -> dict[str, float]:
        del count
        name = f"ngram_losses/{tokens}"
        folder.pieces.has(name)  # taken over, if a folder beside this one has counted
        counted = folder.piece(name, lambda: {"losses": ngram_losses(train, held_out, corpus.vocab_size)})["losses"]
        known = dict(zip(("unigram", "bigram", "trigram"), map(float, counted), strict=True))
        return {"uniform": float(np.log(corpus.vocab_size)), **known}

    def evaluation(count: int) -> jax.Array:
        return jnp.asarray(window(held_out, count=count, seed=_number("evaluation"))["tokens"])

    def posterior_data(source: str, count: int) -> Batch:
        drawn_from = corpus.tokens("train", None if source in ("", "all") else source)
        return jax.tree.map(jnp.asarray, window(drawn_from, count=count, seed=_number("posterior data")))

    return Task(
        identity=(tokens, data.context),
        vocab_size=corpus.vocab_size,
        bos=corpus.bos,
        batches=TokenBatches(data.context, batch_size, corpus.bos, path),
        data=None if large else jnp.asarray(train),
        evaluation=evaluation,
        baselines=baselines,
        bigram=jnp.asarray(bigram_table(train, corpus.vocab_size)),
        ngrams={n: jnp.asarray(common_ngrams(train[:20_000_000], n)) for n in (3, 4)},
        sources=("all", *corpus.sources),
        posterior_data=posterior_data,
        decode=lambda tokens: [tokenizer.decode([int(token)]) for token in tokens],
        classes=REPETITION_CLASSES,
        token_classes=lambda count: repetition_classes(evaluation(count)),
    )


def _number(use: str) -> int:
    """The number of a stream, as the seed of what numpy draws."""
    return STREAMS[f"language/{use}"].number or 0
