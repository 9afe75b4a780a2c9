"""What a small language model has learned: bigrams, n-grams, in-context learning, and what each of its heads does.

The metrics of Hoogland et al. 2024 (arXiv 2402.02364, sections 4 and appendix C) and Wang et al. 2024 (arXiv 2410.02984).
Per-head scores have shape `(layer, head)`. Losses are nats per token.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from slt_jax.models.language_model import LanguageModel, attention_patterns, token_losses, without_positions
from slt_jax.typing import Params, PRNGKey

__all__ = [
    "bigram_score",
    "icl_positions",
    "icl_score",
    "k_composition",
    "losses_by_position",
    "ngram_score",
    "positional_ablation",
    "prefix_matching_scores",
    "previous_token_scores",
]

_CHUNK = 32
"""Sequences per pass: attention patterns of a thousand sequences do not fit a small machine."""


@partial(jax.jit, static_argnames="model")
def losses_by_position(model: LanguageModel, params: Params, tokens: Int[Array, "batch context"]) -> Float[Array, "_"]:
    """Mean loss of predicting the token at positions 1, 2, ..., context - 1, shape `(context - 1,)`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.analysis.language_metrics import losses_by_position
        >>> from slt_jax.models.language_model import LanguageModel, init
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> jax.eval_shape(lambda key: losses_by_position(model, init(key, model), jnp.zeros((2, 8), jnp.int32)), jax.random.key(0)).shape
        (7,)
    """
    return _mean_over_chunks(lambda rows: token_losses(model, params, rows), tokens)


def positional_ablation(model: LanguageModel, params: Params, tokens: Int[Array, "batch context"]) -> float:
    """Mean loss with the position table zeroed, less the mean loss as it is: what positions are worth.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.analysis.language_metrics import positional_ablation
        >>> from slt_jax.models.language_model import LanguageModel, init, without_positions
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> params = without_positions(init(jax.random.key(0), model))
        >>> positional_ablation(model, params, jnp.zeros((2, 8), jnp.int32))  # they are zero already
        0.0
    """
    without = losses_by_position(model, without_positions(params), tokens).mean()
    return float(without - losses_by_position(model, params, tokens).mean())


@partial(jax.jit, static_argnames="model")
def bigram_score(
    key: PRNGKey,
    model: LanguageModel,
    params: Params,
    tokens: Int[Array, "batch context"],
    bigram: Float[Array, "vocab vocab"],
) -> Float[Array, ""]:
    """Cross-entropy from the bigram distribution of the current token to the prediction, at a random position each.

    Args:
        key: draws one position per sequence.
        model, params, tokens: what is scored, on which sequences.
        bigram: P(next | current), rows sum to 1; `corpus_statistics.bigram_table` or a `TriggerTable.bigram`.

    Returns:
        The mean over sequences, in nats. Its floor is the mean entropy of the rows; a bigram model reaches it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.analysis.language_metrics import bigram_score
        >>> from slt_jax.models.language_model import LanguageModel, init
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> params, tokens = init(jax.random.key(0), model), jnp.zeros((2, 8), jnp.int32)
        >>> score = bigram_score(jax.random.key(1), model, params, tokens, jnp.full((5, 5), 0.2))
        >>> bool(score > jnp.log(5))  # uniform bigrams: their entropy log 5 is the floor
        True
    """
    positions = jax.random.randint(key, (len(tokens),), 0, tokens.shape[1])

    def score(pairs: tuple[Array, Array]) -> Array:
        rows, at = pairs
        chosen = jnp.arange(len(rows))
        logits: Array = model.apply({"params": params}, rows)  # type: ignore[assignment]
        log_probs = jax.nn.log_softmax(logits[chosen, at])
        return -jnp.sum(bigram[rows[chosen, at]] * log_probs, axis=-1)

    return _mean_over_chunks(score, (tokens, positions))


@partial(jax.jit, static_argnames=("model", "bos"))
def ngram_score(
    model: LanguageModel,
    params: Params,
    tokens: Int[Array, "batch context"],
    ngrams: Int[Array, "count n"],
    bos: int = 0,
) -> Float[Array, ""]:
    """How much better the last token of common n-grams is predicted than the n-th token of any text.

    Mean loss at position n of `tokens`, whose rows begin with BOS, over the mean loss of the last token of BOS + n-gram:
    both predict from n - 1 tokens after a BOS. 1 for a model that does not know the n-grams (arXiv 2402.02364, eq. 18).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.analysis.language_metrics import ngram_score
        >>> from slt_jax.models.language_model import LanguageModel, init
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> params = jax.tree.map(jnp.zeros_like, init(jax.random.key(0), model))  # predicts every token with 1/5
        >>> float(ngram_score(model, params, jnp.zeros((2, 8), jnp.int32), jnp.array([[1, 2], [3, 4]])))
        1.0
    """
    n = ngrams.shape[1]
    begun = jnp.concatenate([jnp.full((len(ngrams), 1), bos, ngrams.dtype), ngrams], axis=1)
    typical = _mean_over_chunks(lambda rows: token_losses(model, params, rows)[:, -1], tokens[:, : n + 1])
    return typical / _mean_over_chunks(lambda rows: token_losses(model, params, rows)[:, -1], begun)


def icl_positions(context: int) -> tuple[int, int]:
    """The two token positions the ICL score compares: 50 and 500 for a context of 1,024, in proportion otherwise.

    Raises:
        ValueError: if the context is too short for two positions.

    Example:
        >>> from slt_jax.analysis.language_metrics import icl_positions
        >>> icl_positions(1024)
        (50, 500)
    """
    early, late = max(1, round(50 * context / 1024)), round(500 * context / 1024)
    if late <= early:
        raise ValueError(f"context = {context}; the ICL score needs a context of at least 4")
    return early, late


def icl_score(losses: Float[Array, "positions"]) -> float:
    """In-context learning: the loss at the late position minus that at the early one; negative where context helps.

    Args:
        losses: from `losses_by_position`, `(context - 1,)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.analysis.language_metrics import icl_score
        >>> icl_score(jnp.linspace(4.0, 2.0, 1023)) < 0  # the loss falls along the context
        True
    """
    early, late = icl_positions(len(losses) + 1)
    return float(losses[late - 1] - losses[early - 1])


@partial(jax.jit, static_argnames=("model", "num_sequences"))
def previous_token_scores(
    key: PRNGKey, model: LanguageModel, params: Params, *, num_sequences: int = 1024
) -> Float[Array, "layer head"]:
    """Attention from the last position of a random sequence to the one before; lengths uniform in 16..64.

    Lengths shrink with the context if that is below 64. A sequence of length l is the first l tokens of a longer one:
    a causal model cannot tell them apart.

    Example:
        >>> import jax
        >>> from slt_jax.analysis.language_metrics import previous_token_scores
        >>> from slt_jax.models.language_model import LanguageModel, init
        >>> model = LanguageModel(vocab_size=20, context=16, embed_dim=8, num_heads=2, num_layers=1)
        >>> jax.eval_shape(lambda key: previous_token_scores(jax.random.key(1), model, init(key, model), num_sequences=4), jax.random.key(0)).shape
        (1, 2)
    """
    longest = min(64, model.context)
    token_key, length_key = jax.random.split(key)
    tokens = jax.random.randint(token_key, (num_sequences, longest), 0, model.vocab_size)
    last = jax.random.randint(length_key, (num_sequences,), max(2, longest // 4), longest + 1) - 1

    def score(pairs: tuple[Array, Array]) -> Array:
        rows, last = pairs
        patterns = attention_patterns(model, params, rows)
        return patterns[:, jnp.arange(len(rows)), :, last, last - 1]  # (batch, layer, head)

    return _mean_over_chunks(score, (tokens, last))


@partial(jax.jit, static_argnames=("model", "num_sequences"))
def prefix_matching_scores(
    key: PRNGKey, model: LanguageModel, params: Params, *, num_sequences: int = 1024
) -> Float[Array, "layer head"]:
    """Attention from the second occurrence of a token to the token after its first (Olsson et al. 2022).

    Random sequences of 128 tokens (or the context, if shorter), in which one random token occurs twice and no more;
    at least one token lies between the occurrences.

    Example:
        >>> import jax
        >>> from slt_jax.analysis.language_metrics import prefix_matching_scores
        >>> from slt_jax.models.language_model import LanguageModel, init
        >>> model = LanguageModel(vocab_size=20, context=16, embed_dim=8, num_heads=2, num_layers=1)
        >>> jax.eval_shape(lambda key: prefix_matching_scores(jax.random.key(1), model, init(key, model), num_sequences=4), jax.random.key(0)).shape
        (1, 2)
    """
    length = min(128, model.context)
    keys = jax.random.split(key, 4)
    repeated = jax.random.randint(keys[0], (num_sequences,), 0, model.vocab_size)
    others = jax.random.randint(keys[1], (num_sequences, length), 0, model.vocab_size - 1)
    tokens = others + (others >= repeated[:, None])  # uniform over all tokens but the repeated one
    first = jax.random.randint(keys[2], (num_sequences,), 0, length - 2)
    second = first + 2 + jnp.floor(jax.random.uniform(keys[3], first.shape) * (length - 2 - first)).astype(int)
    rows = jnp.arange(num_sequences)
    tokens = tokens.at[rows, first].set(repeated).at[rows, second].set(repeated)

    def score(triples: tuple[Array, Array, Array]) -> Array:
        rows, first, second = triples
        patterns = attention_patterns(model, params, rows)
        return patterns[:, jnp.arange(len(rows)), :, second, first + 1]  # (batch, layer, head)

    return _mean_over_chunks(score, (tokens, first, second))


@partial(jax.jit, static_argnames=("early", "late"))
def k_composition(params: Params, early: int = 0, late: int = 1) -> Float[Array, "early_head late_head"]:
    """How much of what heads of layer `early` write is read by the keys of heads of layer `late`, each in [0, 1].

    ‖W_OV W_QKᵀ‖_F / (‖W_OV‖_F ‖W_QK‖_F) for row vectors, W_OV = W_V W_O of the early head and W_QK = W_Q W_Kᵀ of the late
    one (Elhage et al. 2021; the normalisation of TransformerLens). LayerNorm scales are not folded in.

    Example:
        >>> import jax
        >>> from slt_jax.analysis.language_metrics import k_composition
        >>> from slt_jax.models.language_model import LanguageModel, init
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=2)
        >>> jax.eval_shape(lambda key: k_composition(init(key, model)), jax.random.key(0)).shape
        (2, 2)
    """
    writer, reader = (params[f"block_{layer}"]["attention"] for layer in (early, late))
    v, o = jnp.moveaxis(writer["qkv"][:, 2], 1, 0), writer["out"]  # (head, E, D), (head, D, E)
    q, k = (jnp.moveaxis(reader["qkv"][:, i], 1, 0) for i in (0, 1))
    # ‖V M Qᵀ‖² = tr(Mᵀ (VᵀV) M (QᵀQ)): only head_dim x head_dim matrices, never E x E ones.
    between = jnp.einsum("aie,bej->abij", o, k)
    gram_v, gram_q = jnp.einsum("aei,aej->aij", v, v), jnp.einsum("bei,bej->bij", q, q)
    composed = jnp.einsum("abij,aik,abkl,blj->ab", between, gram_v, between, gram_q)
    norm_ov = jnp.einsum("aij,aie,aje->a", gram_v, o, o)
    norm_qk = jnp.einsum("bij,bei,bej->b", gram_q, k, k)
    return jnp.sqrt(composed / (norm_ov[:, None] * norm_qk[None]))


def _mean_over_chunks(score: Callable, batch: Array | tuple[Array, ...]) -> Array:
    """Mean over the leading axis of `score(batch)`, a chunk at a time."""
    count = len(jax.tree.leaves(batch)[0])
    chunks, rest = divmod(count, _CHUNK)
    split = chunks * _CHUNK
    pieces = []
    if chunks:
        whole = jax.tree.map(lambda leaf: leaf[:split].reshape(chunks, _CHUNK, *leaf.shape[1:]), batch)
        scores = jax.lax.map(score, whole)
        pieces.append(scores.reshape(split, *scores.shape[2:]))
    if rest:
        pieces.append(score(jax.tree.map(lambda leaf: leaf[split:], batch)))
    return jnp.concatenate(pieces).mean(axis=0)
