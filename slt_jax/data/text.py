"""Text from files, folders, Hugging Face datasets or CPython itself, as sources that can be read more than
once.

sources = text_sources("books/")
tokenizer = train_tokenizer(sources, vocab_size=5000)          # slt_jax.data.tokenizer
corpus = pack(sources, tokenizer, "packed/")                   # slt_jax.data.packing
"""

import codecs
import gzip
import lzma
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from slt_jax.arguments import describe

__all__ = [
    "PIECE_CHARS",
    "TextSource",
    "huggingface_source",
    "is_compressed",
    "pieces",
    "python_topics",
    "text_files",
    "text_sources",
]

SUFFIXES = (".txt", ".md", ".rst")
"""Endings of the files taken from a folder; each may be followed by `.gz` or `.xz`."""

PIECE_CHARS = 8192
"""Characters of a piece, at least, and half of what it has at most."""

_OPENERS: dict[str, Callable[[Path, str], IO[bytes]]] = {".gz": gzip.open, ".xz": lzma.open}  # type: ignore[dict-item]
_READ_CHARS = 1 << 20
BYTE_ORDER_MARK = "\ufeff"
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class TextSource(NamedTuple):
    """A named text; each `documents()` starts over and yields `(starts_document, text)` chunks.

    Example:
        >>> from slt_jax.data.text import TextSource
        >>> source = TextSource("greeting", lambda: iter([(True, "hello "), (False, "world")]))
        >>> "".join(text for _, text in source.documents())
        'hello world'
    """

    name: str
    documents: Callable[[], Iterator[tuple[bool, str]]]


def text_sources(*paths: Path | str) -> list[TextSource]:
    """One source per file, named by its stem; a folder stands for every text file below it, in sorted order.

    Files are UTF-8, plain or compressed with gzip or xz; a byte-order mark at the start is not part of the text.

    Raises:
        ValueError: if a path does not exist, a folder holds no text file, or two files have the same stem.
            When read: if a file is not UTF-8 or cannot be decompressed.

    Example:
        >>> import pathlib, tempfile
        >>> from slt_jax.data.text import text_sources
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "notes.txt").write_text("one line", encoding="utf-8")
        ...     print([source.name for source in text_sources(folder)])
        ['notes']
    """
    files = text_files(*paths)
    names = [_stem(file) for file in files]
    if clash := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two text files are named '{clash}'; sources are told apart by the stem of their file")
    return [TextSource(name, partial(_read_file, file)) for name, file in zip(names, files, strict=True)]


def text_files(*paths: Path | str) -> list[Path]:
    """The files that `text_sources` would read, in its order.

    Raises:
        ValueError: if a path does not exist or a folder holds no text file.

    Example:
        >>> import pathlib, tempfile
        >>> from slt_jax.data.text import text_files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "notes.txt").write_text("one line", encoding="utf-8")
        ...     print([file.name for file in text_files(folder)])
        ['notes.txt']
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"text path {path} does not exist; give a UTF-8 text file or a folder of them")
        found = sorted(file for file in path.rglob("*") if _is_text(file)) if path.is_dir() else [path]
        if not found:
            raise ValueError(
                f"folder {path} holds no text file; files ending in {', '.join(SUFFIXES)} (.gz, .xz) are read"
            )
        files += found
    return files


def python_topics() -> TextSource:
    """The language reference inside every CPython (`pydoc_data.topics`), about 0.5 MB of English.

    Example:
        >>> from slt_jax.data.text import python_topics
        >>> starts_document, text = next(python_topics().documents())
        >>> starts_document, len(text) > 0
        (True, True)
    """
    return TextSource("python_topics", _read_topics)


def huggingface_source(
    name: str,
    *,
    split: str = "train",
    config: str | None = None,
    field: str = "text",
    num_documents: int | None = None,
) -> TextSource:
    """A Hugging Face dataset, streamed: nothing is downloaded before it is read, nothing is kept but what was
    read. A byte-order mark at the start of a document is not part of the text.

    Args:
        name: the dataset's name, `"owner/name"`.
        split: which split.
        config: the dataset's configuration, if it has several.
        field: the column that holds the text.
        num_documents: how many documents to take from the start; all by default.

    Raises:
        ImportError: when read, if the package `datasets` is missing.
        ValueError: when read, if the dataset has no column `field`, or a row holds no text in it; rows count from 0.

    Example:
        >>> from slt_jax.data.text import huggingface_source
        >>> huggingface_source("roneneldan/TinyStories", num_documents=100).name  # nothing is downloaded before it is read
        'roneneldan_TinyStories'
    """
    return TextSource(name.replace("/", "_"), partial(_read_huggingface, name, config, split, field, num_documents))


def pieces(source: TextSource, num_chars: int = PIECE_CHARS) -> Iterator[str]:
    """Cut a source into pieces of about `num_chars` characters, at line ends where there are any.

    A piece never crosses documents. Pieces are what the held-out split and the tokenizer's trainer handle.

    Example:
        >>> from slt_jax.data.text import TextSource, pieces
        >>> source = TextSource("lines", lambda: iter([(True, "one\\ntwo\\nthree\\n")]))
        >>> list(pieces(source, 4))
        ['one\\ntwo\\n', 'three\\n']
    """
    pending = ""
    for starts_document, text in source.documents():
        if starts_document and pending:
            yield pending
            pending = ""
        pending += text
        while len(pending) > 2 * num_chars:
            cut = pending.find("\n", num_chars, 2 * num_chars) + 1 or num_chars
            yield pending[:cut]
            pending = pending[cut:]
    if pending:
        yield pending


def is_compressed(file: Path) -> bool:
    """Whether `file` is read through gzip or xz.

    Example:
        >>> from pathlib import Path
        >>> from slt_jax.data.text import is_compressed
        >>> is_compressed(Path("book.txt.gz")), is_compressed(Path("book.txt"))
        (True, False)
    """
    return file.suffix in _OPENERS


def _is_text(file: Path) -> bool:
    inner = file.with_suffix("") if file.suffix in _OPENERS else file
    return file.is_file() and inner.suffix in SUFFIXES


def _stem(file: Path) -> str:
    return file.with_suffix("").stem if file.suffix in _OPENERS else file.stem


def _read_file(file: Path) -> Iterator[tuple[bool, str]]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    opener = _OPENERS.get(file.suffix, open)
    starts_document, read, waiting = True, 0, 0
    try:
        with opener(file, "rb") as stream:
            while data := stream.read(_READ_CHARS):
                waiting = len(decoder.getstate()[0])  # bytes of a character cut by the end of the last read
                if text := decoder.decode(data):
                    yield starts_document, text.removeprefix(BYTE_ORDER_MARK) if starts_document else text
                    starts_document = False
                read += len(data)
            waiting = len(decoder.getstate()[0])
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        position = read - waiting + error.start
        encoding = "utf-16" if position == 0 and error.object.startswith(UTF16_MARKS) else "latin1"
        raise ValueError(
            f"{file} is not UTF-8 (byte {byte:#04x} at position {position}); convert it, "
            f"for example with: iconv -f {encoding} -t utf-8 {file.name}"
        ) from error
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{file} cannot be decompressed ({error}); it is damaged or has the wrong ending") from error


def _read_topics() -> Iterator[tuple[bool, str]]:
    from pydoc_data.topics import topics

    for _, text in sorted(topics.items()):
        yield True, text


def _read_huggingface(
    name: str, config: str | None, split: str, field: str, num_documents: int | None
) -> Iterator[tuple[bool, str]]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError(
            f"reading the Hugging Face dataset '{name}' needs the package 'datasets'; install it with: "
            "pip install 'slt-jax[text]'"
        ) from error
    rows = islice(load_dataset(name, config, split=split, streaming=True), num_documents)
    for number, row in enumerate(rows):
        if field not in row:
            raise ValueError(f"dataset '{name}' has no column '{field}'; its columns are {', '.join(sorted(row))}")
        text = row[field]
        if not isinstance(text, str):
            raise ValueError(
                f"dataset '{name}' has {describe(text)} in place of text in row {number} of "
                f"column '{field}' (split '{split}'); leave that row out, or choose another column"
            )
        yield True, text.removeprefix(BYTE_ORDER_MARK)
