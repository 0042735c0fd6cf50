"""Where layouts come from: a file, the folders of the user and of ``DIPTYCH_LAYOUTS``, installed packages."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, InputError
from diptych.ptycho.io.layouts.layout import Layout, read_layout_file
from diptych.ptycho.io.source import TreeSource, listed
from diptych.runtime.registry import offered

log = logging.getLogger("diptych")

GROUP = "diptych.layouts"
VARIABLE = "DIPTYCH_LAYOUTS"
_MOST_FILES = 500


def layout_folders() -> list[Path]:
    """Folders that layouts are looked for in: those of ``DIPTYCH_LAYOUTS``, then ``diptych/layouts`` in the user's
    configuration folder.
    """
    named = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    home = os.environ.get("XDG_CONFIG_HOME") or os.environ.get("APPDATA") or "~/.config"
    return [*named, Path(home).expanduser() / "diptych" / "layouts"]


def installed_layouts() -> Iterator[Layout]:
    """Layouts of the folders, then those of installed packages; one that is wrong is logged and left out."""
    for folder in layout_folders():
        yield from _of_folder(folder)
    for point in offered(GROUP):
        try:
            yield from _of(point.load())
        except Exception as error:
            log.warning("layout %s: left out, it cannot be loaded (%s)", point.name, error)


def _of_folder(folder: Path) -> Iterator[Layout]:
    if not folder.is_dir():
        return
    for path in sorted(path for end in ("yaml", "yml") for path in folder.glob(f"*.{end}"))[:_MOST_FILES]:
        try:
            yield read_layout_file(path)
        except DiptychError as error:
            log.warning("layout left out: %s", error)


def _of(offered: Any) -> Iterator[Layout]:
    """What an entry point names: a Layout, a YAML file, or a folder of them."""
    if isinstance(offered, Layout):
        yield offered
    elif Path(offered).is_dir():
        yield from _of_folder(Path(offered))
    else:
        yield read_layout_file(Path(offered))


def chosen_layout(given: str) -> Layout:
    """The layout in the file ``given``, else the installed one of that name.

    Raises
    ------
    InputError
        If there is neither.
    """
    path = Path(given).expanduser()
    if path.is_file() or path.suffix.lower() in (".yaml", ".yml"):
        return read_layout_file(path)
    known = {layout.name: layout for layout in installed_layouts()}
    if given not in known:
        raise InputError(
            f"layout {given!r}", f"is neither a file nor one of the installed layouts ({listed(known)})", "one of them"
        )
    return known[given]


def fitting_layout(source: TreeSource) -> Layout | None:
    """The first installed layout whose paths the file has; None where there is none."""
    for layout in installed_layouts():
        if all(_there(source, path) for path in layout.signature):
            return layout
    return None


def _there(source: TreeSource, path: str) -> bool:
    """Whether a path leads to a dataset, or to one that is there and cannot be followed: the error names it later."""
    from diptych.ptycho.io.layouts.read import expanded

    try:
        return all(source.header(key) is not None for key in expanded(source, path))
    except InputError:
        return True
