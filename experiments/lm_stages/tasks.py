"""What a language model is trained and measured on: the synthetic triggers or text, behind one face."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.lm_stages import LMStages, Text, Triggers
from experiments.registry import UserError
from experiments.run_folder import RunFolder
from slt_jax.data.corpus_statistics import bigram_table, common_ngrams, ngram_losses
from slt_jax.data.packing import Corpus, TokenBatches, check_context, load_corpus, pack, windows
from slt_jax.data.sequences import TriggerBigrams, trigger_batches
from slt_jax.data.text import huggingface_source, text_sources
from slt_jax.data.tokenizer import train_tokenizer
from slt_jax.training.loop import BatchFn
from slt_jax.typing import Batch

__all__ = ["Task", "open_task"]

# One stream per use: nothing drawn for one purpose moves when another changes.
LANGUAGE, EVALUATION, POSTERIOR_DATA = range(3)
ROOT = 2**20  # the language and the data measured on are the same for every training seed
ON_DEVICE = 1 << 30
"""Tokens kept on the device; a larger corpus is read from disk batch by batch."""


@dataclass(frozen=True)
class Task:
    """A language and what can be asked about it.

    Attributes:
        vocab_size: number of tokens.
        bos: id of the token every sequence begins with, or -1.
        batches, data: the training batches, a function of the step, and what they are drawn from.
        evaluation: fresh or held-out sequences `(count, context)`.
        bigram: P(next | current), `(vocab, vocab)`.
        ngrams: n -> common n-grams `(count, n)`; empty where they mean nothing.
        baselines: losses in nats per token of predictors that know this much and no more.
        sources: names that `posterior_data` accepts; the first is the training distribution.
        posterior_data: `(source, count) -> {"tokens"}`.
        decode: token ids -> one label per token.
    """

    vocab_size: int
    bos: int
    batches: BatchFn
    data: Any
    evaluation: jax.Array
    bigram: jax.Array
    ngrams: dict[int, jax.Array]
    baselines: dict[str, float]
    sources: tuple[str, ...]
    posterior_data: Callable[[str, int], Batch]
    decode: Callable[[np.ndarray], list[str]]


def open_task(config: LMStages, folder: RunFolder) -> Task:
    """The task of `config`; text is tokenized into the run folder once.

    Raises:
        UserError: if the text is not there or cannot be used.
    """
    if isinstance(config.data, Triggers):
        return _trigger_task(config, config.data)
    return _text_task(config, config.data, folder)


def _key(use: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(ROOT), use)


def _trigger_task(config: LMStages, data: Triggers) -> Task:
    language = TriggerBigrams(data.vocab_size, data.context, data.num_triggers, data.concentration)
    table = language.table(_key(LANGUAGE))
    batch = language.sequences(_key(EVALUATION), table, config.num_evaluation_sequences)
    baselines = {
        "uniform": float(np.log(data.vocab_size)),
        "bigram": float(language.bigram_losses(batch, table).mean()),
        "induction oracle": float(language.induction_losses(batch, table).mean()),
    }

    def posterior_data(source: str, count: int) -> Batch:
        # "bigrams" is the same language without triggers: what an induction head is of no use for.
        spoken = language if source == "triggers" else replace(language, num_triggers=0)
        return {"tokens": spoken.sequences(_key(POSTERIOR_DATA), table, count).tokens}

    return Task(
        vocab_size=data.vocab_size,
        bos=-1,
        batches=trigger_batches(language, config.training.batch_size),
        data=table,
        evaluation=batch.tokens,
        bigram=table.bigram,
        ngrams={},
        baselines=baselines,
        sources=("triggers", "bigrams"),
        posterior_data=posterior_data,
        decode=lambda tokens: [str(token) for token in tokens],
    )


def _text_task(config: LMStages, data: Text, folder: RunFolder) -> Task:
    try:
        corpus = _packed(data, folder.path / "data")
        tokenizer = corpus.tokenizer()
    except ImportError as error:  # a missing extra; its one sentence says how to install it
        raise UserError(str(error)) from error
    train, held_out = corpus.tokens("train"), corpus.tokens("held_out")
    check_context(min(len(train), len(held_out)), data.context)
    large = len(train) > ON_DEVICE
    path = str(corpus.path("train")) if large else None
    window = partial(windows, context=data.context, bos=corpus.bos)
    counted = folder.piece("ngram_losses", lambda: {"losses": ngram_losses(train, held_out, corpus.vocab_size)})
    baselines = {"uniform": float(np.log(corpus.vocab_size))}
    baselines |= dict(zip(("unigram", "bigram", "trigram"), map(float, counted["losses"]), strict=True))

    def posterior_data(source: str, count: int) -> Batch:
        tokens = corpus.tokens("train", None if source == "all" else source)
        return jax.tree.map(jnp.asarray, window(tokens, count=count, seed=POSTERIOR_DATA))

    return Task(
        vocab_size=corpus.vocab_size,
        bos=corpus.bos,
        batches=TokenBatches(data.context, config.training.batch_size, corpus.bos, path),
        data=None if large else jnp.asarray(train),
        evaluation=jnp.asarray(window(held_out, count=config.num_evaluation_sequences, seed=EVALUATION)["tokens"]),
        bigram=jnp.asarray(bigram_table(train, corpus.vocab_size)),
        ngrams={n: jnp.asarray(common_ngrams(train[:20_000_000], n)) for n in (3, 4)},
        baselines=baselines,
        sources=("all", *corpus.sources),
        posterior_data=posterior_data,
        decode=lambda tokens: [tokenizer.decode([int(token)]) for token in tokens],
    )


def _packed(data: Text, folder: Path) -> Corpus:
    if (folder / "corpus.json").exists():
        return load_corpus(folder)
    missing = [path for path in data.paths if not Path(path).exists()]
    if missing:
        raise UserError(
            f"there is no text at {missing[0]}; build the English corpus with `python scripts/build_corpus.py "
            "runs/corpus`, or name your own with --data.paths or --data.huggingface"
        )
    sources = text_sources(*data.paths) if data.paths else []
    sources += [huggingface_source(name, num_documents=data.num_documents) for name in data.huggingface]
    if not sources:
        raise UserError("data has neither paths nor huggingface; name text with --data.paths or --data.huggingface")
    tokenizer = train_tokenizer(sources, data.vocab_size)
    return pack(sources, tokenizer, folder, held_out=data.held_out)
