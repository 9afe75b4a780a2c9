"""A report page: sections of text, tables and figures in one HTML file that needs no network."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.run_folder import RunFolder, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FigureFile", "Section", "Table", "save_figure", "write_page"]

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Table:
    """Cells as they are shown."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class FigureFile:
    """A figure on disk and its caption."""

    path: Path
    caption: str

    @property
    def data(self) -> str:
        return base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then a table, then figures."""

    title: str
    paragraphs: Sequence[str] = ()
    table: Table | None = None
    figures: Sequence[FigureFile] = field(default_factory=tuple)


def save_figure(folder: RunFolder, name: str, figure: "Figure", caption: str) -> FigureFile:
    """Save `figure` as `figures/NAME.png` and close it."""
    import matplotlib.pyplot as plt

    path = folder.path / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return FigureFile(path, caption)


def write_page(
    folder: RunFolder, title: str, lead: str, sections: Sequence[Section], warnings: Sequence[str] = ()
) -> None:
    """Write `report.html`."""
    from jinja2 import Environment, FileSystemLoader

    provenance = folder.path / "provenance.json"
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("report.html.jinja")
    page = template.render(
        title=title,
        lead=lead,
        sections=sections,
        warnings=warnings,
        config=json.dumps({"config_name": folder.config_name, **folder.config}, indent=2),
        provenance=provenance.read_text() if provenance.exists() else "written when the run ends",
    )
    write_text(folder.path / "report.html", page)
