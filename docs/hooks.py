"""What mkdocs adds to the pages in this folder: README.md and its neighbours, the reference, the notebooks as guides."""

import inspect
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
import public_names  # noqa: E402

FROM_THE_ROOT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


@event_priority(100)  # before the plugin that turns notebooks into pages
def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for page_name, source in FROM_THE_ROOT.items():
        files.append(File.generated(config, page_name, content=moved((ROOT / source).read_text())))
    files.append(File.generated(config, "reference/index.md", content=index()))
    for family in public_names.FAMILIES:
        files.append(File.generated(config, f"reference/{family.page}.md", content=page(family)))
    pages = ROOT / "build" / "pages"  # the plugin reads notebooks from a folder that is laid out like the site
    (pages / "guides").mkdir(parents=True, exist_ok=True)
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        name = f"guides/{notebook.name}"
        shutil.copyfile(notebook, pages / name)
        files.append(File(name, str(pages), config.site_dir, config.use_directory_urls))
    return files


def moved(text: str) -> str:
    """A page from the root, its links as they are from this folder."""
    for page_name, source in FROM_THE_ROOT.items():
        text = text.replace(f"]({source})", f"]({page_name})")
    return text.replace("](docs/", "](")


def page(family: public_names.Family) -> str:
    """The reference of one family of names."""
    lines = [f"# {family.title}", "", family.about, ""]
    for module, given in family.modules.items():
        about = (import_module(module).__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        lines += [f"## `{module}`", "", _escaped(about), ""]
        for name in public_names.names_of(module, given):
            lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


def index() -> str:
    """All public names with the first sentence of each."""
    lines = [
        "# All public names",
        "",
        "Names marked • can be used as `slt_jax.NAME`; others are imported from their module.",
        "",
    ]
    package = import_module("slt_jax")
    for family in public_names.FAMILIES:
        lines += [f"## [{family.title}]({family.page}.md)", "", family.about, "", "| name | what it is |", "|---|---|"]
        for module, given in family.modules.items():
            for name in public_names.names_of(module, given):
                dot = " •" if name in package.__all__ else ""
                lines.append(f"| [{name}]({family.page}.md#{module}.{name}){dot} | {_summary(module, name)} |")
        lines.append("")
    return "\n".join(lines)


def _summary(module: str, name: str) -> str:
    """The first line of the docstring; nothing for a constant."""
    value = inspect.unwrap(getattr(import_module(module), name))
    if not (inspect.isclass(value) or inspect.isfunction(value)) or not value.__module__.startswith("slt_jax."):
        return ""
    text = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
    first = text.split(". ")[0].split(": ")[0].rstrip(".:")
    return _escaped(first if len(first) <= 110 else first[:107].rsplit(" ", 1)[0] + " ...")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
