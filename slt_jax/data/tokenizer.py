"""Byte-level BPE through `tokenizers`, saved as one JSON. Token 0 begins a sequence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slt_jax.data.text import TextSource, pieces

__all__ = ["BOS", "MAX_VOCAB_SIZE", "check_vocab_size", "load_tokenizer", "train_tokenizer"]

BOS = "<|bos|>"
"""The token that begins every sequence; its id is 0. The same characters in a text are ordinary text."""

MAX_VOCAB_SIZE = 1 << 16
"""Tokens are stored as uint16."""

_MIN_VOCAB_SIZE = 257


def train_tokenizer(sources: Sequence[TextSource], vocab_size: int, path: Path | str | None = None) -> Any:
    """Train a byte-level BPE of `vocab_size` tokens on `sources`; written to `path` as one JSON file if
    given.

    Returns:
        A `tokenizers.Tokenizer`. Its vocabulary is smaller than asked if the text has too few distinct pairs.

    Raises:
        ValueError: if `vocab_size` is below 257 (256 bytes and BOS) or above 65536 (uint16).
        ImportError: if the package `tokenizers` is missing.

    Example:
        >>> from slt_jax.data.text import TextSource
        >>> from slt_jax.data.tokenizer import train_tokenizer
        >>> source = TextSource("text", lambda: iter([(True, "the cat and the hat " * 50)]))
        >>> tokenizer = train_tokenizer([source], 270)
        >>> tokenizer.decode(tokenizer.encode("the hat").ids)
        'the hat'
    """
    if vocab_size < _MIN_VOCAB_SIZE:
        raise ValueError(f"vocab_size = {vocab_size}; a byte-level vocabulary needs at least {_MIN_VOCAB_SIZE} tokens")
    check_vocab_size(vocab_size)
    library = _library()
    byte_level = library.pre_tokenizers.ByteLevel
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=sorted(byte_level.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for source in sources for piece in pieces(source)), trainer)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(path))
    return _without_special_text(tokenizer)


def load_tokenizer(path: Path | str) -> Any:
    """The tokenizer saved at `path`.

    Raises:
        ValueError: if the file is missing, is not a tokenizer, has no BOS token, or more than 65536 tokens.
        ImportError: if the package `tokenizers` is missing.

    Example:
        >>> import pathlib, tempfile
        >>> from slt_jax.data.text import TextSource
        >>> from slt_jax.data.tokenizer import load_tokenizer, train_tokenizer
        >>> source = TextSource("text", lambda: iter([(True, "the cat and the hat " * 50)]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trained = train_tokenizer([source], 270, pathlib.Path(folder, "tokenizer.json"))
        ...     print(load_tokenizer(pathlib.Path(folder, "tokenizer.json")).get_vocab_size() == trained.get_vocab_size())
        True
    """
    library = _library()
    try:
        tokenizer = library.Tokenizer.from_file(str(path))
    except Exception as error:
        if type(error) is not Exception:  # `tokenizers` raises that very class for any file it cannot use
            raise
        raise ValueError(
            f"{path} is not a tokenizer ({error}); make one with train_tokenizer(..., path=...)"
        ) from error
    check_vocab_size(tokenizer.get_vocab_size())
    if tokenizer.token_to_id(BOS) is None:
        raise ValueError(f"the tokenizer {path} has no token '{BOS}'; make one with train_tokenizer(..., path=...)")
    return _without_special_text(tokenizer)


def check_vocab_size(vocab_size: int) -> None:
    """Refuse a vocabulary whose tokens do not fit uint16.

    Raises:
        ValueError: if `vocab_size` is above 65536.
    """
    if vocab_size > MAX_VOCAB_SIZE:
        raise ValueError(f"vocab_size = {vocab_size}; stored as uint16, tokens can be at most {MAX_VOCAB_SIZE}")


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "tokenizing text needs the package 'tokenizers'; install it with: pip install 'slt-jax[text]'"
        ) from error
    return tokenizers


def _without_special_text(tokenizer: Any) -> Any:
    tokenizer.encode_special_tokens = True  # "<|bos|>" in a text is text
    return tokenizer
