"""Synthetic languages whose stages of learning are known, with the exact losses of the predictors at each
stage.

- `MarkovChains`: every sequence has its own transition matrix (Edelman et al. 2024, arXiv 2402.11004): a
  transformer passes from the uniform to the in-context unigram to the in-context bigram predictor.
- `TriggerBigrams`: global bigrams, and a few triggers per sequence whose successor is fixed by that sequence
  alone (Bietti et al. 2023, arXiv 2306.00802): bigrams first, then an induction head.

Losses are nats of each token after the first, shape `(batch, context - 1)`, as
`models.language_model.token_losses`.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from slt_jax.typing import Batch, PRNGKey

__all__ = [
    "REPETITION_CLASSES",
    "TRIGGER_CLASSES",
    "MarkovChains",
    "TriggerBatch",
    "TriggerBigrams",
    "TriggerTable",
    "chain_batches",
    "repetition_classes",
    "trigger_batches",
]

TRIGGER_CLASSES = ("after a trigger seen before", "after a trigger, first time", "before a trigger", "other")
REPETITION_CLASSES = ("repeats a pair", "repeats a token alone", "after a new token")


def repetition_classes(tokens: Int[Array, "batch context"]) -> Int[Array, "batch _"]:
    """What an induction head can know of each token after the first, `(batch, context - 1)`, as `REPETITION_CLASSES`.

    0: the pair (current, next) has occurred before in the sequence, so copying is right; 1: the current token has, always
    with another successor; 2: the current token is new.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.data.sequences import repetition_classes
        >>> repetition_classes(jnp.array([[1, 2, 1, 2, 1, 3]])).tolist()
        [[2, 2, 0, 0, 1]]
    """
    current, following = tokens[:, :-1], tokens[:, 1:]
    before = jnp.tril(current[:, :, None] == current[:, None, :], k=-1)
    pair = before & (following[:, :, None] == following[:, None, :])
    return jnp.where(pair.any(axis=-1), 0, jnp.where(before.any(axis=-1), 1, 2))


@dataclass(frozen=True)
class MarkovChains:
    """Sequences of a first-order Markov chain drawn anew for each: rows of its transition matrix ~
    Dirichlet(α, ..., α).

    Attributes:
        num_symbols: k.
        context: length of a sequence.
        concentration: α; 1 is uniform over the simplex.

    Example:
        >>> import jax
        >>> from slt_jax.data.sequences import MarkovChains
        >>> chains = MarkovChains(num_symbols=3, context=10)
        >>> tokens = chains.sequences(jax.random.key(0), 4)
        >>> tokens.shape, chains.bigram_losses(tokens).shape
        ((4, 10), (4, 9))
    """

    num_symbols: int
    context: int
    concentration: float = 1.0

    def __post_init__(self) -> None:
        _at_least(self, num_symbols=2, context=2)
        if self.concentration <= 0:
            raise ValueError(f"concentration = {self.concentration}; it must be positive")

    @partial(jax.jit, static_argnames=("self", "count"))
    def sequences(self, key: PRNGKey, count: int) -> Int[Array, "count context"]:
        """`count` fresh sequences; the first symbol is uniform."""
        matrix_key, start_key, walk_key = jax.random.split(key, 3)
        k = self.num_symbols
        alpha = jnp.full((k,), self.concentration)
        matrices = jax.random.dirichlet(matrix_key, alpha, (count, k))
        start = jax.random.randint(start_key, (count,), 0, k)
        return _walk(walk_key, jnp.log(matrices), start, self.context)

    def uniform_losses(self, tokens: Int[Array, "batch context"]) -> Float[Array, "batch _"]:
        """Losses of predicting every symbol with probability 1/k."""
        return jnp.full((tokens.shape[0], tokens.shape[1] - 1), jnp.log(float(self.num_symbols)))

    def unigram_losses(self, tokens: Int[Array, "batch context"]) -> Float[Array, "batch _"]:
        """Losses of predicting by how often each symbol has occurred so far, plus α."""
        seen = jnp.cumsum(jax.nn.one_hot(tokens, self.num_symbols), axis=1)[:, :-1]
        return self._losses(seen, tokens)

    def bigram_losses(self, tokens: Int[Array, "batch context"]) -> Float[Array, "batch _"]:
        """Losses of the Bayes-optimal predictor: how often each symbol followed the current one, plus α."""
        one_hot = jax.nn.one_hot(tokens, self.num_symbols)
        pairs = jnp.einsum("bti,btj->btij", one_hot[:, :-1], one_hot[:, 1:])
        seen = jnp.cumsum(pairs, axis=1) - pairs  # transitions before the one that is predicted
        return self._losses(jnp.einsum("btij,bti->btj", seen, one_hot[:, :-1]), tokens)

    def _losses(self, counts: Float[Array, "batch _ symbol"], tokens: Int[Array, "batch context"]) -> Array:
        weights = counts + self.concentration
        chosen = jnp.take_along_axis(weights, tokens[:, 1:, None], axis=-1)[..., 0]
        return jnp.log(weights.sum(axis=-1)) - jnp.log(chosen)


class TriggerTable(NamedTuple):
    """What is global: `start` (vocab,) of first tokens, `bigram` (vocab, vocab); rows sum to 1.

    Example:
        >>> import jax
        >>> from slt_jax.data.sequences import TriggerBigrams
        >>> table = TriggerBigrams(vocab_size=12, context=16).table(jax.random.key(0))
        >>> table.start.shape, table.bigram.shape
        ((12,), (12, 12))
    """

    start: Array
    bigram: Array


class TriggerBatch(NamedTuple):
    """Sequences `tokens` (batch, context), their `triggers` and `outputs` (batch, triggers).

    Example:
        >>> import jax
        >>> from slt_jax.data.sequences import TriggerBigrams
        >>> task = TriggerBigrams(vocab_size=12, context=16)
        >>> batch = task.sequences(jax.random.key(1), task.table(jax.random.key(0)), 3)
        >>> batch.tokens.shape, batch.triggers.shape, batch.outputs.shape
        ((3, 16), (3, 4), (3, 4))
    """

    tokens: Array
    triggers: Array
    outputs: Array


@dataclass(frozen=True)
class TriggerBigrams:
    """Global bigrams with per-sequence triggers.

    A sequence draws `num_triggers` distinct trigger tokens, uniformly, and for each an output from the other tokens;
    after trigger q_k comes o_k, after any other token a draw from the global bigram row. An output is never a trigger:
    else sequences run in circles, and counting tokens would be worth more than the bigrams.

    Attributes:
        vocab_size: number of tokens.
        context: length of a sequence.
        num_triggers: K.
        concentration: Dirichlet parameter of the bigram rows; small rows are nearly deterministic.

    Example:
        >>> import jax
        >>> from slt_jax.data.sequences import TriggerBigrams
        >>> task = TriggerBigrams(vocab_size=12, context=16)
        >>> table = task.table(jax.random.key(0))
        >>> batch = task.sequences(jax.random.key(1), table, 3)
        >>> bool(task.induction_losses(batch, table).mean() < task.bigram_losses(batch, table).mean())
        True
    """

    vocab_size: int
    context: int
    num_triggers: int = 4
    concentration: float = 0.1

    def __post_init__(self) -> None:
        _at_least(self, vocab_size=2, context=2, num_triggers=0)
        if self.num_triggers >= self.vocab_size:
            raise ValueError(f"num_triggers = {self.num_triggers}; it must be below vocab_size = {self.vocab_size}")
        if self.concentration <= 0:
            raise ValueError(f"concentration = {self.concentration}; it must be positive")

    def table(self, key: PRNGKey) -> TriggerTable:
        """Draw the global language: uniform first tokens, bigram rows ~ Dirichlet(concentration)."""
        alpha = jnp.full((self.vocab_size,), self.concentration)
        bigram = jax.random.dirichlet(key, alpha, (self.vocab_size,))
        return TriggerTable(jnp.full((self.vocab_size,), 1 / self.vocab_size), bigram)

    @partial(jax.jit, static_argnames=("self", "count"))
    def sequences(self, key: PRNGKey, table: TriggerTable, count: int) -> TriggerBatch:
        """`count` fresh sequences with their triggers and outputs."""
        trigger_key, output_key, start_key, walk_key = jax.random.split(key, 4)
        order = jnp.argsort(jax.random.uniform(trigger_key, (count, self.vocab_size)), axis=1)
        triggers, others = order[:, : self.num_triggers], order[:, self.num_triggers :]
        places = jax.random.randint(output_key, triggers.shape, 0, others.shape[1])
        outputs = jnp.take_along_axis(others, places, axis=1)
        start = jax.random.categorical(start_key, jnp.log(table.start), shape=(count,))
        certain = jnp.log(jax.nn.one_hot(outputs, self.vocab_size))
        logits = jnp.broadcast_to(jnp.log(table.bigram), (count, self.vocab_size, self.vocab_size))
        logits = logits.at[jnp.arange(count)[:, None], triggers].set(certain)
        return TriggerBatch(_walk(walk_key, logits, start, self.context), triggers, outputs)

    def bigram_losses(self, batch: TriggerBatch, table: TriggerTable) -> Float[Array, "batch _"]:
        """Losses of a predictor that knows the language and the current token, and nothing of the sequence.

        With p = K/V the share of tokens that are triggers of a sequence, and a trigger followed by any other token:
        P(next | current) = (1 - p) bigram + p [next ≠ current] / (V - 1).
        """
        chance = self.num_triggers / self.vocab_size
        elsewhere = (1 - jnp.eye(self.vocab_size)) / (self.vocab_size - 1)
        mixed = (1 - chance) * table.bigram + chance * elsewhere
        return -jnp.log(mixed[batch.tokens[:, :-1], batch.tokens[:, 1:]])

    def induction_losses(self, batch: TriggerBatch, table: TriggerTable) -> Float[Array, "batch _"]:
        """Losses of an oracle that knows which tokens are triggers, and copies an output once it has been seen.

        A lower bound: 0 after a trigger that has occurred before, log(V - K) at its first occurrence, the bigram
        elsewhere.
        """
        current, following = batch.tokens[:, :-1], batch.tokens[:, 1:]
        is_trigger, earlier = _among(current, batch.triggers), _seen_before(current)
        first = jnp.log(float(self.vocab_size - self.num_triggers))
        return jnp.where(is_trigger, jnp.where(earlier, 0.0, first), -jnp.log(table.bigram[current, following]))

    def token_classes(self, batch: TriggerBatch) -> Int[Array, "batch _"]:
        """What each token after the first is, `(batch, context - 1)`, as `TRIGGER_CLASSES`.

        After a trigger the token is an output, which can be copied if the trigger has occurred before. A token before a
        trigger is followed by it: the trigger itself is what is predicted. No output is a trigger, so no token is both.
        """
        current, following = batch.tokens[:, :-1], batch.tokens[:, 1:]
        after = jnp.where(_seen_before(current), 0, 1)
        return jnp.where(_among(current, batch.triggers), after, jnp.where(_among(following, batch.triggers), 2, 3))


@dataclass(frozen=True)
class chain_batches:
    """`(key, step, data) -> {"tokens"}` of fresh Markov chains, the `BatchFn` of `training.train`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.data.sequences import MarkovChains, chain_batches
        >>> batches = chain_batches(MarkovChains(num_symbols=3, context=10), batch_size=4)
        >>> batches(jax.random.key(0), jnp.asarray(0), None)["tokens"].shape
        (4, 10)
    """

    task: MarkovChains
    batch_size: int

    def __call__(self, key: PRNGKey, step: int | Array, data: None = None) -> Batch:
        return {"tokens": self.task.sequences(key, self.batch_size)}


@dataclass(frozen=True)
class trigger_batches:
    """`(key, step, table) -> {"tokens"}` of fresh trigger sequences; `training.train` with `data=table`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.data.sequences import TriggerBigrams, trigger_batches
        >>> task = TriggerBigrams(vocab_size=12, context=16)
        >>> batches = trigger_batches(task, batch_size=4)
        >>> batches(jax.random.key(0), jnp.asarray(0), task.table(jax.random.key(1)))["tokens"].shape
        (4, 16)
    """

    task: TriggerBigrams
    batch_size: int

    def __call__(self, key: PRNGKey, step: int | Array, data: TriggerTable) -> Batch:
        return {"tokens": self.task.sequences(key, data, self.batch_size).tokens}


def _walk(
    key: PRNGKey, logits: Float[Array, "batch symbol symbol"], start: Int[Array, "batch"], length: int
) -> Int[Array, "batch length"]:
    """Walk each chain of log transition matrices for `length` symbols, the first of them `start`."""
    rows = jnp.arange(len(start))

    def step(current: Array, key: PRNGKey) -> tuple[Array, Array]:
        following = jax.random.categorical(key, logits[rows, current])
        return following, following

    _, rest = jax.lax.scan(step, start, jax.random.split(key, length - 1))
    return jnp.concatenate([start[:, None], rest.T], axis=1)


def _among(tokens: Int[Array, "batch _"], chosen: Int[Array, "batch chosen"]) -> Bool[Array, "batch _"]:
    """Whether each token is among those chosen for its sequence."""
    return (tokens[..., None] == chosen[:, None, :]).any(axis=-1)


def _seen_before(tokens: Int[Array, "batch _"]) -> Bool[Array, "batch _"]:
    """Whether each token has occurred earlier in its sequence."""
    return jnp.tril(tokens[:, :, None] == tokens[:, None, :], k=-1).any(axis=-1)


def _at_least(task: MarkovChains | TriggerBigrams, **least: int) -> None:
    for name, bound in least.items():
        if getattr(task, name) < bound:
            raise ValueError(f"{name} = {getattr(task, name)}; it must be at least {bound}")
