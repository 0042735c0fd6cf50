"""Replaces ``<!-- options: package.module.Class -->`` in a page by the table of that option model's fields.

The table is made from the model itself, as the command line is, so that the pages cannot fall behind it.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from diptych.runtime.option_fields import OptionField, option_fields

MARK = re.compile(r"<!-- options: ([\w.]+)\.(\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The hook that mkdocs calls for each page."""
    return MARK.sub(lambda found: table(getattr(import_module(found[1]), found[2])), markdown)


def table(model: Any) -> str:
    """Name, choices or type, default and description of every option, as a Markdown table."""
    rows = [
        f"| `{field.name}` | {kind(field)} | {shown(field.default)} | {escaped(description(field))} |"
        for field in option_fields(model)
    ]
    return "\n".join(["| option | value | default | meaning |", "|---|---|---|---|", *rows])


def kind(field: OptionField) -> str:
    """What may be given, in words: ``number``, or the choices."""
    return ", ".join(f"`{choice}`" for choice in field.choices) or field.kind


def description(field: OptionField) -> str:
    """The help text; for an option of an extension, after the extensions that have it."""
    return f"({', '.join(field.owners)}) {field.help}" if field.owners else field.help


def shown(value: Any) -> str:
    """A default as one would write it; empty where the program decides."""
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def escaped(text: str) -> str:
    """Text that a table cell and Markdown leave as it is."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")
