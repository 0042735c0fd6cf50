"""A page of HTML in one file: sections, tables and pictures, every text escaped, without scripts and without network.

Names and records come from files of others. All text passes :func:`text`; pictures are PNG bytes inside the page; a
content security policy forbids everything else.
"""

from __future__ import annotations

import base64
import html
import io
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1.5rem; color: #1c1c22;
  background: #fff; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin-bottom: .25rem; }}
h2 {{ font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccd; padding-bottom: .2rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid #e4e4ec; }}
th {{ font-weight: 600; }}
thead th {{ color: #555; font-size: .85rem; }}
li {{ white-space: pre-line; }}
img {{ max-width: 100%; height: auto; background: #fff; }}
pre {{ background: #f3f3f7; padding: .8rem; white-space: pre-wrap; font-size: .85rem; }}
.flag {{ border-left: 4px solid #b45309; background: #fff7ed; padding: .5rem .9rem; margin: .6rem 0; }}
.note {{ color: #555; }}
figure {{ margin: 1rem 0; }}
figcaption {{ color: #555; font-size: .9rem; }}
details summary {{ cursor: pointer; }}
</style>
</head>
<body>
<main>
"""


def text(value: Any) -> str:
    """Any value as HTML text: escaped, and control and direction characters, which hide what a text says, replaced."""
    shown = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") and c not in "\n\t" else c
        for c in str(value)
    )
    return html.escape(shown, quote=True)


def heading(title: str) -> str:
    """A section's heading."""
    return f"<h2>{text(title)}</h2>"


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is ``flag`` or ``note``."""
    marked = f' class="{text(kind)}"' if kind else ""
    return f"<p{marked}>{text(words)}</p>"


def listing(items: Iterable[str]) -> str:
    """A list."""
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def code(words: str) -> str:
    """Text to copy, as it is."""
    return f"<pre><code>{text(words)}</code></pre>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table whose first column names the rows."""
    top = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{text(first)}</th>' + "".join(f"<td>{text(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def picture(figure: Figure, caption: str, dpi: int = 100) -> str:
    """A figure inside the page, as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    alt = text(caption)
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"><figcaption>{alt}</figcaption></figure>'


def folded(title: str, inside: str) -> str:
    """Parts of a page, shown on a click."""
    return f"<details><summary>{text(title)}</summary>{inside}</details>"


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page."""
    body = "\n".join(parts)
    return f"{_HEAD.format(title=text(title))}<h1>{text(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
