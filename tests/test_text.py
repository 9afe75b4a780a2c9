"""Text in, tokens on disk, batches out: nothing lost, and one clear sentence when it cannot be done."""

import gzip
import lzma
import os
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.data.corpus_statistics import bigram_table, ngram_losses
from slt_jax.data.packing import TokenBatches, load_corpus, pack, windows
from slt_jax.data.text import TextSource, huggingface_source, pieces, python_topics, text_sources
from slt_jax.data.tokenizer import BOS, load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def topics() -> TextSource:
    """The first 100 kB or so of Python's language reference."""
    chunks = list(python_topics().documents())[:12]
    return TextSource("python_topics", lambda: iter(chunks))


@pytest.fixture(scope="module")
def tokenizer(topics):
    return train_tokenizer([topics], 400)


@pytest.fixture(scope="module")
def corpus(topics, tokenizer, tmp_path_factory):
    other = TextSource("other", lambda: iter([(True, "the quick brown fox\n" * 8000)]))
    return pack([topics, other], tokenizer, tmp_path_factory.mktemp("packed"), held_out=0.1)


def test_python_topics_is_english_of_the_promised_size():
    text = "".join(text for _, text in python_topics().documents())
    assert 300_000 < len(text) < 1_000_000
    assert "the" in text.split()


def test_pieces_lose_nothing_and_stay_inside_documents():
    documents = ["alpha beta\n" * 300, "x" * 5000, "short"]
    source = TextSource("s", lambda: ((True, text) for text in documents))
    cut = list(pieces(source, num_chars=1000))
    assert "".join(cut) == "".join(documents)
    assert all(len(piece) <= 2000 for piece in cut)
    assert not any("beta" in piece and "x" in piece for piece in cut)
    assert all(piece.endswith("\n") for piece in cut if "alpha" in piece)


def test_files_and_folders_plain_or_compressed(tmp_path):
    text = "Größe – naïve café\n" * 10
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.txt.xz").write_bytes(lzma.compress(text.encode()))
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    sources = text_sources(tmp_path)
    assert [source.name for source in sources] == ["a", "b", "c"]
    assert all("".join(chunk for _, chunk in source.documents()) == text for source in sources)


def test_a_character_cut_by_a_read_is_not_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("slt_jax.data.text._READ_CHARS", 7)
    (tmp_path / "a.txt").write_text("éééééééééé")
    (source,) = text_sources(tmp_path / "a.txt")
    assert "".join(chunk for _, chunk in source.documents()) == "éééééééééé"


@pytest.mark.parametrize("chars", [1, 2, 4, 1 << 20])
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_a_byte_order_mark_is_not_text(tmp_path, monkeypatch, chars, suffix):
    monkeypatch.setattr("slt_jax.data.text._READ_CHARS", chars)
    compress = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    text = "été\ufeff\n"  # inside a text the same character is a character
    path = tmp_path / f"marked.txt{suffix}"
    path.write_bytes(compress(text.encode("utf-8-sig")))
    chunks = list(text_sources(path)[0].documents())
    assert "".join(chunk for _, chunk in chunks) == text
    assert [starts for starts, _ in chunks] == [True] + [False] * (len(chunks) - 1)


def test_a_mark_does_not_move_the_place_of_an_error(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9 au lait")
    with pytest.raises(ValueError, match="byte 0xe9 at position 6"):
        list(text_sources(tmp_path / "a.txt")[0].documents())


@pytest.mark.parametrize(("encoding", "content"), [("utf-16", "Größe – naïve"), ("latin1", "Größe, naïve")])
def test_a_file_converted_as_advised_is_read(tmp_path, encoding, content):
    (tmp_path / "a.txt").write_bytes(content.encode(encoding))
    with pytest.raises(ValueError, match="not UTF-8") as refused:
        list(text_sources(tmp_path / "a.txt")[0].documents())
    command = str(refused.value).split("with: ")[1].split()
    converted = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    (tmp_path / "a.txt").write_bytes(converted)
    assert "".join(text for _, text in text_sources(tmp_path / "a.txt")[0].documents()) == content


@pytest.mark.parametrize(("content", "position"), [(b"caf\xe9 au lait", 3), ("é".encode() * 9 + b"\xc3", 18)])
def test_a_text_that_is_not_utf8(tmp_path, monkeypatch, content, position):
    monkeypatch.setattr("slt_jax.data.text._READ_CHARS", 5)
    (tmp_path / "latin.txt").write_bytes(content)
    (source,) = text_sources(tmp_path / "latin.txt")
    with pytest.raises(ValueError, match=rf"latin\.txt is not UTF-8 \(byte 0x.. at position {position}\); convert it"):
        list(source.documents())


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        text_sources(tmp_path / "absent.txt")
    with pytest.raises(ValueError, match="holds no text file"):
        text_sources(tmp_path)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_text("text")
    with pytest.raises(ValueError, match="two text files are named 'same'"):
        text_sources(tmp_path)
    (tmp_path / "bad.txt.xz").write_bytes(b"not xz")
    with pytest.raises(ValueError, match="cannot be decompressed"):
        list(text_sources(tmp_path / "bad.txt.xz")[0].documents())


def test_huggingface_is_streamed(monkeypatch):
    seen = []

    def load_dataset(name, config, *, split, streaming):
        def rows():
            for i in range(1000):
                seen.append(i)
                yield {"text": f"document {i}"}

        assert (name, config, split, streaming) == ("owner/name", None, "validation", True)
        return rows()

    fake = types.ModuleType("datasets")
    fake.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", fake)
    source = huggingface_source("owner/name", split="validation", num_documents=3)
    assert [text for _, text in source.documents()] == ["document 0", "document 1", "document 2"]
    assert len(seen) == 3
    with pytest.raises(ValueError, match="no column 'body'; its columns are text"):
        list(huggingface_source("owner/name", split="validation", field="body").documents())


@pytest.mark.parametrize(("row", "named"), [(None, "None"), (["a"], "a list"), (3, "3")])
def test_a_row_without_text_is_named_by_dataset_row_and_column(monkeypatch, row, named):
    rows = [{"body": "\ufefffirst"}, {"body": "second"}, {"body": row}, {"body": "fourth"}]
    fake = types.ModuleType("datasets")
    fake.load_dataset = lambda name, config, *, split, streaming: iter(rows)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    source = huggingface_source("owner/name", field="body")
    with pytest.raises(ValueError, match=rf"dataset 'owner/name' has {named} .* in row 2 of column 'body'"):
        list(source.documents())
    first_two = huggingface_source("owner/name", field="body", num_documents=2)
    assert [text for _, text in first_two.documents()] == ["first", "second"]


def test_missing_extras(monkeypatch, topics):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        ImportError, match=r"needs the package 'datasets'; install it with: pip install 'slt-jax\[text\]'"
    ):
        list(huggingface_source("owner/name").documents())
    with pytest.raises(
        ImportError, match=r"needs the package 'tokenizers'; install it with: pip install 'slt-jax\[text\]'"
    ):
        train_tokenizer([topics], 300)


def test_tokenizer_round_trip_through_one_json(topics, tmp_path):
    path = tmp_path / "deep" / "tokenizer.json"
    trained = train_tokenizer([topics], 300, path)
    loaded = load_tokenizer(path)
    text = f"any text: Ω≈ç√ \x00 {BOS} \U0001f600"
    assert loaded.get_vocab_size() == 300
    assert loaded.token_to_id(BOS) == 0
    ids = loaded.encode(text).ids
    assert ids == trained.encode(text).ids
    assert 0 not in ids
    assert loaded.decode(ids) == text


def test_vocabularies_that_are_refused(topics, tmp_path):
    with pytest.raises(ValueError, match="vocab_size = 70000; stored as uint16, tokens can be at most 65536"):
        train_tokenizer([topics], 70_000)
    with pytest.raises(ValueError, match="at least 257"):
        train_tokenizer([topics], 256)
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a tokenizer"):
        load_tokenizer(tmp_path / "t.json")


def test_packing_keeps_every_character_once(corpus, tokenizer, topics):
    cut = list(pieces(topics))
    for split, expected in (
        ("train", [piece for i, piece in enumerate(cut) if i % 10 != 9]),
        ("held_out", [piece for i, piece in enumerate(cut) if i % 10 == 9]),
    ):
        tokens = corpus.tokens(split, "python_topics")
        assert tokens.dtype == np.uint16
        assert (tokens == 0).sum() == len(expected)
        assert tokenizer.decode(tokens.tolist()) == "".join(expected)


def test_corpus_is_found_again_with_its_sources(corpus):
    again = load_corpus(corpus.folder)
    assert again == corpus
    assert again.sources == ("python_topics", "other")
    assert again.tokenizer().get_vocab_size() == again.vocab_size == 400
    parts = [again.tokens("train", source) for source in again.sources]
    np.testing.assert_array_equal(np.concatenate(parts), again.tokens("train"))
    with pytest.raises(ValueError, match="no source 'pile'; it has python_topics, other"):
        again.tokens("train", "pile")
    with pytest.raises(ValueError, match="holds no packed corpus"):
        load_corpus(corpus.folder / "absent")


@pytest.mark.parametrize("damage", range(6))
def test_a_damaged_corpus_is_refused(corpus, tmp_path, damage):
    folder = shutil.copytree(corpus.folder, tmp_path / "copy")
    facts = (folder / "corpus.json").read_bytes()
    if damage < 3:
        (folder / "corpus.json").write_bytes(facts[: len(facts) * damage // 3])
    elif damage == 3:
        (folder / "corpus.json").write_bytes(facts.replace(b"train", b"trian"))
    elif damage == 4:
        os.truncate(folder / "held_out.bin", 100)
    else:
        (folder / "train.bin").unlink()
    with pytest.raises(ValueError, match=r"pack it again with slt_jax\.data\.packing\.pack"):
        load_corpus(folder)


def test_a_tokenizer_with_gaps_is_refused(tokenizer, topics, tmp_path):
    class Gaps:
        """A vocabulary that counts fewer tokens than its largest id, as some published ones do."""

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def get_vocab_size(self):
            return 100

    with pytest.raises(
        ValueError, match=r"makes the token \d+ in source 'python_topics' and says its vocabulary has 100"
    ):
        pack([topics], Gaps(), tmp_path)


@pytest.mark.parametrize("count", [lambda t: bigram_table(t, 5), lambda t: ngram_losses(t, t, 5)])
@pytest.mark.parametrize(("token", "message"), [(5, "holds 5 at"), (-1, "holds -1 at")])
def test_tokens_outside_the_vocabulary_are_not_counted(count, token, message):
    tokens = np.array([0, 1, 2, 3, 4, 0, 1])
    assert np.isfinite(count(tokens)).all()
    tokens[3] = token
    with pytest.raises(ValueError, match=rf"{message} \[3\]; the vocabulary has 5 tokens"):
        count(tokens)


def test_pack_refuses_what_it_cannot_split(tokenizer, tmp_path):
    tiny = TextSource("tiny", lambda: iter([(True, "a few words")]))
    with pytest.raises(ValueError, match="'tiny' has too little text for a held_out split"):
        pack([tiny], tokenizer, tmp_path)
    with pytest.raises(ValueError, match=r"held_out = 0\.9"):
        pack([tiny], tokenizer, tmp_path, held_out=0.9)


def test_batches_are_a_function_of_the_step_from_memory_and_from_disk(corpus):
    stream = jnp.asarray(corpus.tokens("train"))
    in_memory, on_disk = TokenBatches(16, 5), TokenBatches(16, 5, path=str(corpus.path("train")))
    assert hash(in_memory) == hash(TokenBatches(16, 5))
    for step in (0, 7):
        key = jax.random.fold_in(jax.random.key(0), step)
        batch = jax.jit(in_memory)(key, step, stream)["tokens"]
        assert batch.shape == (5, 16)
        assert (batch[:, 0] == 0).all()
        np.testing.assert_array_equal(batch, in_memory(key, step, stream)["tokens"])
        np.testing.assert_array_equal(batch, jax.jit(on_disk)(key, step)["tokens"])
        joined = np.asarray(stream).astype(np.uint16).tobytes()
        assert all(np.asarray(row[1:], np.uint16).tobytes() in joined for row in batch)


def test_windows_are_distinct_and_repeatable(corpus):
    tokens = corpus.tokens("held_out")
    first, again = (windows(tokens, 32, 20, seed=3)["tokens"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (20, 32)
    assert (first[:, 0] == 0).all()
    stream = np.arange(1000)
    starts = windows(stream, 11, 100)["tokens"][:, 1]
    assert len(set(starts.tolist())) == 100


def test_a_corpus_too_small_for_the_context(corpus):
    tokens = corpus.tokens("held_out")
    with pytest.raises(ValueError, match=r"the corpus has \d+ tokens, too few for one sequence of context = 100000"):
        windows(tokens, 100_000, 1)
    with pytest.raises(ValueError, match="too few for one sequence"):
        TokenBatches(100_000, 2)(jax.random.key(0), 0, jnp.asarray(tokens))
    with pytest.raises(ValueError, match="at least 2 tokens"):
        windows(tokens, 1, 1)
