"""Tokens on disk as one memory-mapped uint16 file per split, and batches from them that are a function of the
step.

A packed folder holds `train.bin`, `held_out.bin`, `tokenizer.json` and `corpus.json` (which range is which
source).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from slt_jax.arguments import check_count
from slt_jax.data.text import TextSource, pieces
from slt_jax.data.tokenizer import BOS, check_vocab_size, load_tokenizer
from slt_jax.typing import Batch, PRNGKey

__all__ = ["Corpus", "Split", "TokenBatches", "check_context", "check_held_out", "load_corpus", "pack", "windows"]

Split: TypeAlias = Literal["train", "held_out"]
_SPLITS: tuple[Split, Split] = ("train", "held_out")
_PIECES_AT_ONCE = 256


@dataclass(frozen=True)
class Corpus:
    """A packed corpus.

    Attributes:
        folder: where it lies.
        vocab_size: number of tokens of its tokenizer.
        bos: id of the token that begins every sequence.
        ranges: split -> source -> (start, stop) in that split's file.

    Example:
        >>> import tempfile
        >>> from slt_jax.data.packing import pack
        >>> from slt_jax.data.text import python_topics
        >>> from slt_jax.data.tokenizer import train_tokenizer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     corpus = pack([python_topics()], train_tokenizer([python_topics()], 300), folder)
        ...     print(corpus.vocab_size, corpus.sources)
        300 ('python_topics',)
    """

    folder: Path
    vocab_size: int
    bos: int
    ranges: dict[str, dict[str, tuple[int, int]]] = field(hash=False)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in the order of the files."""
        return tuple(self.ranges["train"])

    def path(self, split: Split) -> Path:
        """The uint16 file of `split`."""
        return self.folder / f"{split}.bin"

    def tokens(self, split: Split, source: str | None = None) -> np.ndarray:
        """Tokens of one source, or of all, as a read-only uint16 memory map, shape `(tokens,)`.

        Raises:
            ValueError: if there is no such source.
        """
        ranges = self.ranges[split]
        if source is not None and source not in ranges:
            raise ValueError(f"corpus {self.folder} has no source '{source}'; it has {', '.join(ranges)}")
        start, stop = (0, max(end for _, end in ranges.values())) if source is None else ranges[source]
        return np.memmap(self.path(split), np.uint16, "r", shape=(stop,))[start:]

    def tokenizer(self) -> Any:
        """The tokenizer the corpus was packed with."""
        return load_tokenizer(self.folder / "tokenizer.json")


def pack(sources: Sequence[TextSource], tokenizer: Any, folder: Path | str, *, held_out: float = 0.05) -> Corpus:
    """Tokenize `sources` into a packed folder, reading each once and holding little of it in memory.

    Every 1/`held_out`-th piece of about 8,192 characters goes to the held-out split, so both splits have the
    same mix of documents; a BOS begins every piece.

    Args:
        sources: from `slt_jax.data.text`.
        tokenizer: from `train_tokenizer`.
        folder: made if missing; written over.
        held_out: fraction of the pieces held out, in (0, 0.5].

    Raises:
        ValueError: if the vocabulary does not fit uint16, `held_out` is out of range, a source has too
            little text to hold some out, or the tokenizer makes a token beyond its vocabulary.

    Example:
        >>> import tempfile
        >>> from slt_jax.data.packing import pack
        >>> from slt_jax.data.text import python_topics
        >>> from slt_jax.data.tokenizer import train_tokenizer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     corpus = pack([python_topics()], train_tokenizer([python_topics()], 300), folder, held_out=0.1)
        ...     print(len(corpus.tokens("train")) > 5 * len(corpus.tokens("held_out")))
        True
    """
    check_vocab_size(tokenizer.get_vocab_size())
    check_held_out(held_out)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    ranges: dict[str, dict[str, tuple[int, int]]] = {split: {} for split in _SPLITS}
    written = dict.fromkeys(_SPLITS, 0)
    with open(folder / "train.bin", "wb") as train, open(folder / "held_out.bin", "wb") as rest:
        files = dict(zip(_SPLITS, (train, rest), strict=True))
        for source in sources:
            before = dict(written)
            for split, tokens in _tokenized(source, tokenizer, every=round(1 / held_out)):
                files[split].write(tokens.tobytes())
                written[split] += len(tokens)
            for split in _SPLITS:
                if written[split] == before[split]:
                    raise ValueError(
                        f"source '{source.name}' has too little text for a {split} split; give it more text"
                    )
                ranges[split][source.name] = (before[split], written[split])
    facts = {"vocab_size": tokenizer.get_vocab_size(), "bos": tokenizer.token_to_id(BOS), "ranges": ranges}
    (folder / "corpus.json").write_text(json.dumps(facts, indent=1))
    return load_corpus(folder)


def check_held_out(held_out: float) -> None:
    """Refuse a fraction that `pack` cannot hold out.

    Raises:
        ValueError: if it is not above 0 and at most 0.5.
    """
    if not 0 < held_out <= 0.5:
        raise ValueError(f"held_out = {held_out}; it must be a fraction above 0 and at most 0.5")


def load_corpus(folder: Path | str) -> Corpus:
    """The corpus that `pack` left in `folder`.

    Raises:
        ValueError: if there is none, `corpus.json` is damaged, or a file of tokens has another length than it says.

    Example:
        >>> import tempfile
        >>> from slt_jax.data.packing import load_corpus, pack
        >>> from slt_jax.data.text import python_topics
        >>> from slt_jax.data.tokenizer import train_tokenizer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     packed = pack([python_topics()], train_tokenizer([python_topics()], 300), folder)
        ...     print(load_corpus(folder) == packed)
        True
    """
    path = Path(folder) / "corpus.json"
    if not path.exists():
        raise ValueError(f"{folder} holds no packed corpus (no corpus.json); make one with slt_jax.data.packing.pack")
    advice = "pack it again with slt_jax.data.packing.pack"
    try:
        facts = json.loads(path.read_text())
        ranges: dict[str, dict[str, tuple[int, int]]] = {
            split: {name: (int(start), int(stop)) for name, (start, stop) in facts["ranges"][split].items()}
            for split in _SPLITS
        }
        corpus = Corpus(Path(folder), int(facts["vocab_size"]), int(facts["bos"]), ranges)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}); {advice}") from error
    for split in _SPLITS:
        stored = corpus.path(split).stat().st_size if corpus.path(split).exists() else 0
        expected = 2 * max(stop for _, stop in ranges[split].values())
        if stored != expected:
            raise ValueError(f"{corpus.path(split)} has {stored} bytes where corpus.json says {expected}; {advice}")
    return corpus


def windows(tokens: np.ndarray, context: int, count: int, *, bos: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """`count` windows of a token stream, {"tokens": (count, context) int32}, each beginning with BOS.

    Windows do not overlap while there are enough of them, and are drawn in an order fixed by `seed`; a fixed
    data set for an LLC, or an evaluation.

    Raises:
        TypeError: if the tokens are not integers or a count is not whole.
        ValueError: if the stream is shorter than one window.

    Example:
        >>> import numpy as np
        >>> from slt_jax.data.packing import windows
        >>> tokens = windows(np.arange(1, 21), context=4, count=3)["tokens"]
        >>> tokens.shape, tokens[:, 0].tolist()  # each begins with BOS, 0
        ((3, 4), [0, 0, 0])
    """
    check_count("count", count)
    if not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"tokens have dtype {tokens.dtype}; they must be integers")
    check_context(len(tokens), context)
    body = context - 1
    aligned = np.random.default_rng(seed).permutation(len(tokens) // body)
    rows = aligned[np.arange(count) % len(aligned)]
    starts = rows[:, None] * body + np.arange(body)[None]
    first = np.full((count, 1), bos)
    return {"tokens": np.concatenate([first, tokens[starts]], axis=1).astype(np.int32)}


@dataclass(frozen=True)
class TokenBatches:
    """`(key, step, tokens) -> {"tokens": (batch_size, context) int32}`: random windows that begin with BOS.

    For `training.train`; `key` is already folded with the step, so a batch is a function of the step. With
    `path`, the windows are read from that memory-mapped file as they are needed, so that a corpus may be
    larger than the device's memory; the batches are the same bits.

    Attributes:
        context: length of a sequence, BOS included.
        batch_size: sequences in a batch.
        bos: id of BOS.
        path: a file of uint16 tokens (`Corpus.path`), or `None` to take them from `tokens`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.data.packing import TokenBatches
        >>> batches = TokenBatches(context=4, batch_size=2)
        >>> batches(jax.random.key(0), jnp.asarray(0), jnp.arange(1, 21, dtype=jnp.uint16))["tokens"].shape
        (2, 4)
    """

    context: int
    batch_size: int
    bos: int = 0
    path: str | None = None

    def __call__(self, key: PRNGKey, step: int | Array, tokens: Array | None = None) -> Batch:
        body = self.context - 1
        stored: Any = tokens if self.path is None else np.memmap(self.path, np.uint16, "r")
        check_context(len(stored), self.context)
        starts = jax.random.randint(key, (self.batch_size,), 0, len(stored) - body + 1)
        if self.path is None:
            drawn = jax.vmap(lambda start: jax.lax.dynamic_slice(stored, (start,), (body,)))(starts)
        else:
            shape = jax.ShapeDtypeStruct((self.batch_size, body), jnp.uint16)
            drawn = jax.pure_callback(lambda starts: _gather(stored, starts, body), shape, starts)
        first = jnp.full((self.batch_size, 1), self.bos, jnp.int32)
        return {"tokens": jnp.concatenate([first, drawn.astype(jnp.int32)], axis=1)}


def check_context(num_tokens: int, context: int) -> None:
    """Refuse a corpus that does not fill one sequence.

    Raises:
        TypeError: if `context` is not a whole number.
        ValueError: if `context` is below 2 or there are fewer than `context - 1` tokens.
    """
    if check_count("context", context, least=0) < 2:
        raise ValueError(f"context = {context}; a sequence needs at least 2 tokens, BOS and one to predict")
    if num_tokens < context - 1:
        raise ValueError(
            f"the corpus has {num_tokens} tokens, too few for one sequence of context = {context}; "
            "give more text or a smaller context"
        )


def _gather(stored: np.ndarray, starts: Array, body: int) -> np.ndarray:
    return np.stack([stored[start : start + body] for start in np.asarray(starts)])


def _tokenized(source: TextSource, tokenizer: Any, every: int) -> Iterator[tuple[Split, np.ndarray]]:
    bos, vocab_size = tokenizer.token_to_id(BOS), tokenizer.get_vocab_size()
    number = 0
    for group in _groups(pieces(source), _PIECES_AT_ONCE):
        for encoding in tokenizer.encode_batch(group):
            split: Split = "held_out" if number % every == every - 1 else "train"
            number += 1
            ids = np.asarray([bos, *encoding.ids])
            if ids.max() >= vocab_size:
                raise ValueError(
                    f"the tokenizer makes the token {ids.max()} in source '{source.name}' and says its vocabulary has "
                    f"{vocab_size}; number its tokens from 0 without gaps"
                )
            yield split, ids.astype(np.uint16)


def _groups(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
