"""Text as a packed corpus in a run folder: tokenized once, and taken over from a folder beside it that has the same."""

import hashlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from slt_jax.data.packing import Corpus, check_held_out, load_corpus, pack
from slt_jax.data.text import PIECE_CHARS, TextSource, huggingface_source, is_compressed, text_files, text_sources
from slt_jax.data.tokenizer import train_tokenizer
from slt_jax.progress import progress_bar
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.pieces import digest, same_folder, taken
from slt_lab.records import read_record, write_record
from slt_lab.reporting import Reporter
from slt_lab.subjects.language_settings import Text

__all__ = ["check_text", "open_corpus", "text_source_names"]

MEGABYTE = 1_000_000
SEAL = "tokens.json"
"""Written last, with a digest of the tokens: a corpus without it is not finished."""


def check_text(data: Text) -> None:
    """Refuse text that is not there, or settings it cannot be packed with; nothing is read or written.

    Raises:
        UserError, ValueError: in one sentence.
    """
    check_held_out(data.held_out)
    _sources(data)
    _check_amount(data)
    try:
        train_tokenizer([], data.vocab_size)  # of nothing, at no cost: refuses the sizes and the missing package
    except ImportError as error:
        raise UserError(str(error)) from error
    if data.huggingface and importlib.util.find_spec("datasets") is None:
        raise UserError(
            f"reading the Hugging Face dataset '{data.huggingface[0]}' needs the package 'datasets'; install it with: "
            "pip install 'slt-jax[text]'"
        )


def text_source_names(data: Text) -> tuple[str, ...]:
    """Names of the sources that the text consists of; nothing is read."""
    return tuple(source.name for source in _sources(data))


def open_corpus(data: Text, folder: RunFolder) -> tuple[Corpus, str]:
    """The packed corpus of `data`, made or taken over if it is not in `folder` yet, and a digest of its tokens.

    Raises:
        UserError: if the text is not there, cannot be used, or the packed files are damaged.
        ValueError: if the text cannot be read.
    """
    key = digest(_made_from(data))
    place = folder.path / "data" / key
    while not (place / SEAL).exists():
        with taken(folder.path / "locks" / f"corpus-{key}.lock") as mine:
            if mine and not (place / SEAL).exists() and not _taken_over(place, folder):
                _pack(data, place)
        if not mine:
            time.sleep(1.0)  # another worker is at it
    remedy = f"delete the folder {place}, and the same command makes it again"
    try:
        corpus = load_corpus(place)
    except ValueError as error:
        raise UserError(f"{str(error).split(';')[0]}; {remedy}") from error
    sealed = read_record(place / SEAL, remedy)["tokens"]
    if sealed != _digest_of_tokens(place):
        raise UserError(f"the tokens in {place} cannot be used (they are not what was written); {remedy}")
    return corpus, sealed


def _sources(data: Text) -> list[TextSource]:
    missing = [path for path in data.paths if not Path(path).exists()]
    if missing:
        raise UserError(
            f"there is no text at {missing[0]}; build it with `python scripts/build_corpus.py {missing[0]} --collection "
            f"{'linux' if 'linux' in missing[0] else 'english'}`, or name your own with --data.paths or --data.huggingface"
        )
    sources = text_sources(*data.paths) if data.paths else []
    sources += [huggingface_source(name, num_documents=data.num_documents) for name in data.huggingface]
    if not sources:
        raise UserError("data has neither paths nor huggingface; name text with --data.paths or --data.huggingface")
    return sources


def _check_amount(data: Text) -> None:
    """Refuse files whose size alone says that they are too little; compressed and streamed text is known when it is read."""
    files, every, most = text_files(*data.paths), round(1 / data.held_out), 0
    if data.huggingface or any(is_compressed(file) for file in files):
        return
    for file in files:
        size = file.stat().st_size
        held_out = (size // PIECE_CHARS + 1) // every  # pieces, at most
        if not held_out:
            raise UserError(f"source '{file.stem}' has too little text for a held_out split; give it more text")
        most += min(size, held_out * 4 * 2 * PIECE_CHARS) + held_out  # a character has up to 4 bytes, a piece one BOS
    if most < data.context - 1:
        raise UserError(
            f"the text held out has {most} bytes at most, too few for one sequence of context = {data.context}; "
            "give more text or a smaller context"
        )


def _made_from(data: Text) -> tuple:
    """What the tokens follow from: the contents of files, wherever they lie, and the names of streamed datasets."""
    contents = [(file.name, _sha256(file)) for file in text_files(*data.paths)]
    return (contents, replace(data, context=0, paths=()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_tokens(place: Path) -> str:
    return digest([_sha256(place / name) for name in ("train.bin", "held_out.bin", "tokenizer.json", "corpus.json")])


def _taken_over(place: Path, folder: RunFolder) -> bool:
    for neighbour in folder.neighbours():
        there = neighbour / "data" / place.name
        if (there / SEAL).exists():
            same_folder(there, place)
            Reporter.say(f"text: tokenized already, in {neighbour}")
            return True
    return False


def _pack(data: Text, place: Path) -> None:
    """Read the text twice, for the vocabulary and for the tokens, with a bar over both."""
    files = text_files(*data.paths)
    known = not data.huggingface and not any(is_compressed(file) for file in files)
    total = 2 * sum(file.stat().st_size for file in files) if known else 0
    try:
        with progress_bar("tokenizing, MB read", -(-total // MEGABYTE) if known else None) as update:
            read = [0]
            sources = [_watched(source, read, update) for source in _sources(data)]
            pack(sources, train_tokenizer(sources, data.vocab_size), place, held_out=data.held_out)
    except ImportError as error:  # a missing extra; its one sentence says how to install it
        raise UserError(str(error)) from error
    write_record(place / SEAL, {"tokens": _digest_of_tokens(place)})


def _watched(source: TextSource, read: list[int], update: Callable[..., None]) -> TextSource:
    """`source`, whose bytes are added to `read` and shown as they are read."""

    def documents() -> Iterator[tuple[bool, str]]:
        for starts_document, text in source.documents():
            yield starts_document, text
            read[0] += len(text.encode())
            update(read[0] // MEGABYTE, source.name)

    return source._replace(documents=documents)
