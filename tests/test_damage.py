"""Every file of a finished run, damaged in every way: one sentence with a remedy that works, or the same numbers; never others."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slt_lab.catalogue import Catalogue
from slt_lab.cli import main
from slt_lab.results import read_results

FILE = str(Path(__file__).parent / "data" / "line.py")
CATALOGUE = Catalogue("python -m slt_lab", {})
FLIPS = 8


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    return b""


def zeroed_at_the_end(content: bytes) -> bytes:
    kept = len(content) - max(1, len(content) // 4)
    return content[:kept] + bytes(len(content) - kept)


def flipped(place: int) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        if not content:
            return content
        at = (2 * place + 1) * len(content) // (2 * FLIPS)
        return content[:at] + bytes([content[at] ^ (1 << place % 8)]) + content[at + 1 :]

    flip.__name__ = f"flipped at {place + 1}/{FLIPS}"
    return flip


DAMAGES = [truncated, emptied, zeroed_at_the_end, *(flipped(place) for place in range(FLIPS))]


def run(capsys, folder):
    code = main([FILE, "--config", "tiny", "--seeds", "0", "--folder", str(folder)], CATALOGUE)
    return code, capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "line"
    assert main([FILE, "--config", "tiny", "--seeds", "0", "--folder", str(folder)], CATALOGUE) == 0
    return folder


def follow_the_advice(sentence: str, folder: Path) -> Path:
    """Do what the sentence says; returns the folder to run in."""
    if "another --folder" in sentence:
        return folder.with_name("another")
    path = next(
        Path(match.rstrip(".,;:")) for match in re.findall(r"/\S+", sentence) if Path(match.rstrip(".,;:")).exists()
    )
    assert folder in (path, *path.parents), sentence
    assert "delete" in sentence, sentence
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def outcome(capsys, folder: Path, expected) -> str:
    """Run again in the damaged folder, following advice until it ends well; the numbers must then be the same."""
    advice = 0
    while True:
        code, err = run(capsys, folder)
        assert "Traceback" not in err
        if code == 0:
            break
        assert code == 2, err
        sentence = next(line for line in err.splitlines() if line.startswith("error: "))
        advice += 1
        assert advice < 6, f"the advice leads nowhere: {sentence}"
        folder = follow_the_advice(sentence, folder)
    found = read_results(folder)
    for name in expected.data_vars:
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)
    assert found.attrs == expected.attrs
    return f"refused, mended by its {advice} pieces of advice" if advice else "the same numbers at once"


def damage_all(finished, tmp_path, capsys, damages, files):
    """Count what happens to each file under each damage."""
    expected, counts = read_results(finished), {}
    for number, (file, damage) in enumerate((file, damage) for file in files for damage in damages):
        place = tmp_path / str(number)
        folder = Path(shutil.copytree(finished, place / "run"))
        target = folder / file
        before = target.read_bytes()
        target.write_bytes(damage(before))
        if (folder / file).read_bytes() == before:
            continue
        try:
            what = outcome(capsys, folder, expected)
        except BaseException as error:
            raise AssertionError(f"{file}, {damage.__name__}: {error}") from error
        counts[what] = counts.get(what, 0) + 1
        shutil.rmtree(place)
    return counts


def all_files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def kinds(folder):
    """One file of each kind: same name in another checkpoint or chunk is the same kind."""
    found = {}
    for file in all_files(folder):
        found.setdefault((file.parts[0], re.sub(r"[0-9a-f]{32}|\d+", "#", file.name)), file)
    return list(found.values())


def test_each_kind_of_file_damaged_in_one_way_each(finished, tmp_path, capsys):
    files = kinds(finished)
    for number, file in enumerate(files):
        damage_all(finished, tmp_path / str(number), capsys, [DAMAGES[number % len(DAMAGES)]], [file])


@pytest.mark.slow
def test_every_file_damaged_in_every_way(finished, tmp_path, capsys):
    counts = damage_all(finished, tmp_path, capsys, DAMAGES, all_files(finished))
    with capsys.disabled():
        print(f"\n{sum(counts.values())} damages of {len(all_files(finished))} files: {counts}")
