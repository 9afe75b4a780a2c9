"""The examples of docstrings as code on the site: griffe knows a section by the name "Examples"."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the sections called "Example", and gives prompts that stand without a heading one."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that is read."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = with_section(obj.docstring.value)


def with_section(text: str) -> str:
    """A docstring in which every prompt stands in a section "Examples"."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    before, found, after = text.partition("\n>>> ")
    if not found:
        return text
    return before + "\nExamples:\n" + "\n".join(f"    {line}".rstrip() for line in f">>> {after}".splitlines())
