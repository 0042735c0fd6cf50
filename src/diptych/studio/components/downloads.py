"""Downloads: written to a file by a thread, and fetched by the browser, so that their size does not matter."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import context, run, ui

from diptych.studio.context import Studio


async def send(studio: Studio, name: str, write: Callable[[Path], Any]) -> None:
    """Let the browser of the page fetch what ``write(path)`` writes; the file is deleted with the page.

    Parameters
    ----------
    studio : Studio
    name : str
        What the browser calls the file.
    write : callable
        Called in a thread; what it raises is raised here.
    """
    client = context.client  # The button that was pressed may be drawn anew meanwhile.
    folder = Path(tempfile.mkdtemp(dir=studio.scratch))
    client.on_delete(lambda: shutil.rmtree(folder, ignore_errors=True))
    path = folder / f"download{Path(name).suffix}"
    await run.io_bound(write, path)
    if path.is_file():  # Else the server is stopping.
        with client:
            ui.download.file(path, name)
