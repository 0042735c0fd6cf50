"""Replaces ``<!-- options: package.module.Class -->`` in a page by the table of that option model's fields.

The table is made from the model itself, as the command line is, so that the pages cannot fall behind it.
"""

from __future__ import annotations

import re
from importlib import import_module
from types import NoneType
from typing import Any, Literal, get_args, get_origin

MARK = re.compile(r"<!-- options: ([\w.]+)\.(\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The hook that mkdocs calls for each page."""
    return MARK.sub(lambda found: table(getattr(import_module(found[1]), found[2])), markdown)


def table(model: Any) -> str:
    """Name, choices or type, default and description of every field, as a Markdown table."""
    rows = [
        f"| `{name}` | {kind(field.annotation)} | {shown(field.get_default(call_default_factory=True))} | "
        f"{escaped(field.description)} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join(["| option | value | default | meaning |", "|---|---|---|---|", *rows])


def kind(annotation: Any) -> str:
    """What may be given, in words: ``number``, or the choices."""
    inner = [each for each in get_args(annotation) if each is not NoneType]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if get_origin(annotation) is tuple:
        return "numbers" if Ellipsis in inner else f"{len(inner)} numbers"
    return kind(inner[0]) if inner else str(annotation)


def shown(value: Any) -> str:
    """A default as one would write it; empty where the program decides."""
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def escaped(text: str) -> str:
    """Text that a table cell and Markdown leave as it is."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")


_NAMES = {bool: "yes or no", int: "whole number", float: "number", str: "text"}
