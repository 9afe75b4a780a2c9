"""What counting knows about a token stream: bigram table, common n-grams, and the losses of n-gram predictors.

The losses are the lines a language model crosses on its way: uniform, unigram, bigram, trigram. Numpy throughout.
"""

import numpy as np

from slt_jax.data.tokenizer import MAX_VOCAB_SIZE
from slt_jax.inputs import check_tokens

__all__ = ["bigram_table", "common_ngrams", "ngram_losses"]

_DISCOUNT = 0.75


def bigram_table(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Empirical P(next | current) of a stream `(tokens,)`, float32 `(vocab_size, vocab_size)`.

    Rows of tokens that never occur are uniform, so that every row sums to 1. Dense: 100 MB at a vocabulary of 5,000.

    Raises:
        TypeError, ValueError: if tokens are not integers, or one is outside the vocabulary.

    Example:
        >>> import numpy as np
        >>> from slt_jax.data.corpus_statistics import bigram_table
        >>> bigram_table(np.array([0, 1, 0, 1, 0]), 2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    check_tokens(tokens, vocab_size)
    current, following = tokens[:-1].astype(np.int64), tokens[1:].astype(np.int64)
    counts = np.bincount(current * vocab_size + following, minlength=vocab_size**2)
    table = counts.reshape(vocab_size, vocab_size).astype(np.float32)
    totals = table.sum(axis=1, keepdims=True)
    return np.where(totals > 0, table / np.maximum(totals, 1), np.float32(1 / vocab_size))


def common_ngrams(tokens: np.ndarray, n: int, count: int = 1000, *, bos: int = 0) -> np.ndarray:
    """The `count` most frequent n-grams of a stream, most frequent first, int32 `(<= count, n)`; none contains BOS.

    Raises:
        TypeError: if tokens are not integers.
        ValueError: if n is not 1 to 4, a token does not fit uint16, or the stream has no n-gram without BOS.

    Example:
        >>> import numpy as np
        >>> from slt_jax.data.corpus_statistics import common_ngrams
        >>> common_ngrams(np.array([1, 2, 1, 2, 3]), n=2, count=1).tolist()
        [[1, 2]]
    """
    check_tokens(tokens, MAX_VOCAB_SIZE)
    grams = _windows(tokens, n) if len(tokens) >= n else np.zeros((0, n), np.uint16)
    _, places, counts = np.unique(_codes(grams), return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found = grams[places[order]]
    found = found[(found != bos).all(axis=1)][:count]
    if not len(found):
        raise ValueError(f"the corpus has no {n}-gram without BOS; give it more text")
    return found.astype(np.int32)


def ngram_losses(train: np.ndarray, held_out: np.ndarray, vocab_size: int, order: int = 3) -> list[float]:
    """Held-out losses of n-gram predictors counted on `train`, for n = 1..`order`, in nats per token.

    Absolute discounting: P_n(x | c) = max(N(c, x) - 0.75, 0)/N(c) + 0.75 T(c)/N(c) · P_{n-1}(x | c without its first), with
    T(c) the number of distinct continuations; the unigram backs off to uniform (Ney, Essen & Kneser 1994).

    Args:
        train: the stream that is counted, `(tokens,)`, uint16.
        held_out: the stream that is predicted; from its `order`-th token on, the same tokens for every n.
        vocab_size: number of tokens.
        order: largest n, at most 4.

    Raises:
        TypeError: if tokens are not integers.
        ValueError: if `order` is not 1 to 4, or a token is outside the vocabulary.

    Example:
        >>> import numpy as np
        >>> from slt_jax.data.corpus_statistics import ngram_losses
        >>> stream = np.tile(np.array([1, 2], np.uint16), 100)
        >>> one, two, three = ngram_losses(stream, stream, vocab_size=3)
        >>> two < one  # the token before says which one comes
        True
    """
    check_tokens(train, vocab_size)
    check_tokens(held_out, vocab_size)
    grams = _windows(held_out, order)
    probability = np.full(len(grams), 1 / vocab_size)
    losses = []
    for n in range(1, order + 1):
        targets = grams[:, order - n :]
        distinct, counts = np.unique(_codes(_windows(train, n)), return_counts=True)
        hits = _lookup(distinct, counts, _codes(targets))
        if n == 1:
            totals, kinds = np.full(len(grams), counts.sum()), np.full(len(grams), len(distinct))
        else:
            contexts, which = np.unique(distinct >> np.uint64(16), return_inverse=True)
            wanted = _codes(targets[:, :-1])
            totals = _lookup(contexts, np.bincount(which, counts).astype(np.int64), wanted)
            kinds = _lookup(contexts, np.bincount(which), wanted)
        known = totals > 0
        safe = np.maximum(totals, 1)
        discounted = np.maximum(hits - _DISCOUNT, 0) / safe + _DISCOUNT * kinds / safe * probability
        probability = np.where(known, discounted, probability)
        losses.append(float(-np.log(probability).mean()))
    return losses


def _windows(tokens: np.ndarray, n: int) -> np.ndarray:
    if not 1 <= n <= 4:
        raise ValueError(f"n = {n}; n-grams of 1 to 4 tokens are counted")
    return np.lib.stride_tricks.sliding_window_view(np.asarray(tokens, np.uint16), n)


def _codes(grams: np.ndarray) -> np.ndarray:
    """Rows of at most four uint16 tokens as one uint64 each, in the same order."""
    codes = np.zeros(len(grams), np.uint64)
    for column in grams.T:
        codes = (codes << np.uint64(16)) | column.astype(np.uint64)
    return codes


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`values` at the positions of `wanted` in the sorted `keys`, 0 where it is not there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
