"""A report page: sections of text, tables and figures in one HTML file that needs no network."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slt_jax.files import reason, replace_file
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.provenance import read_starts
from slt_lab.records import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STYLE", "Page", "Picture", "Section", "Table", "render", "save_picture", "write_page"]

UNKNOWN = re.compile(r"[+-]?nan( ± nan)?")
"""How a number that is not known comes out of a format."""
TEMPLATES = Path(__file__).parent / "templates"
STYLE = "slt_jax.slt"
"""The style sheet of every figure, `slt_jax/slt.mplstyle`."""


@dataclass(frozen=True)
class Table:
    """Cells as they are shown."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file, and its caption."""

    name: str
    figure: "Figure"
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then a table, then figures; `headline` is its number in a few words, shown first and in the contents."""

    title: str
    paragraphs: Sequence[str] = ()
    table: Table | None = None
    figures: Sequence[Picture] = ()
    headline: str = ""


@dataclass(frozen=True)
class Page:
    """What an experiment makes of its results.

    Attributes:
        title, lead: heading, and what is to be seen here.
        sections: in their order.
        warnings: shown first.
        summary: the numbers of the page, for `summary.json`.
        files: name -> text of further files, a table of curves say.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    warnings: Sequence[str] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def write_page(folder: RunFolder, page: Page) -> None:
    """Write `figures/`, `summary.json`, the further files and `report.html` of `page`, and close its figures."""
    images = {
        picture.name: save_picture(folder.path, picture) for section in page.sections for picture in section.figures
    }
    folder.write_summary(dict(page.summary))
    for name, text in page.files.items():
        write_text(folder.path / name, text)
    starts = read_starts(folder.path)
    config = json.dumps({"config_name": folder.config_name, **folder.config}, indent=2)
    titled = replace(
        page, title=f"{page.title}, config {folder.config_name}", warnings=[*page.warnings, *_mixtures(starts)]
    )
    write_text(folder.path / "report.html", render(titled, images, config, json.dumps(starts, indent=2)))


def render(page: Page, images: Mapping[str, bytes], config: str, provenance: str) -> str:
    """The page as HTML; `images` are the PNG files of its figures by name."""
    from jinja2 import Environment, FileSystemLoader

    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("report.html.jinja")
    page = replace(page, sections=[replace(section, table=_without_gaps(section.table)) for section in page.sections])
    encoded = {name: base64.b64encode(image).decode() for name, image in images.items()}
    return template.render(page=page, images=encoded, config=config, provenance=provenance)


def _without_gaps(table: Table | None) -> Table | None:
    """The table with empty cells where a number is not known, and without the columns in which none is."""
    if table is None or not table.rows:
        return table
    rows = [["" if UNKNOWN.fullmatch(cell) else cell for cell in row] for row in table.rows]
    kept = [column for column in range(len(table.head)) if any(row[column] for row in rows)]
    return Table([table.head[column] for column in kept], [[row[column] for column in kept] for row in rows])


def save_picture(folder: Path, picture: Picture) -> bytes:
    """Write the figure as `figures/NAME.png` and `NAME.svg` in `folder` and close it; returns the bytes of the first."""
    import matplotlib.pyplot as plt

    images = {"png": io.BytesIO(), "svg": io.BytesIO()}
    with plt.style.context(STYLE):
        picture.figure.savefig(images["png"], format="png", dpi=130, bbox_inches="tight")
        picture.figure.savefig(images["svg"], format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(picture.figure)
    for kind, image in images.items():
        file = folder / "figures" / f"{picture.name}.{kind}"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, image.getvalue())
        except OSError as error:
            raise UserError(f"{file} cannot be written ({reason(error)})") from error
    return images["png"].getvalue()


def _mixtures(starts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for everything that numbers may depend on and that was not the same in every start."""
    sentences = []
    for name, words in (
        ("commit", "commits"),
        ("devices", "kinds of device"),
        ("matmul_precision", "matmul precisions"),
    ):
        found = list(dict.fromkeys(json.dumps(start[name]).strip('"') for start in starts if name in start))
        if len(found) > 1:
            sentences.append(f"The parts of this run were computed under several {words}: {', '.join(found)}.")
    if len({start["source"] for start in starts if "source" in start}) > 1:
        sentences.append(
            "The experiment's file was changed between starts of this run: what was finished before stayed as it was computed. "
            "Another --folder computes everything anew."
        )
    jax = list(dict.fromkeys(start["versions"]["jax"] for start in starts if "versions" in start))
    if len(jax) > 1:
        sentences.append(f"The parts of this run were computed under several versions of jax: {', '.join(jax)}.")
    return sentences
