"""What the pages of one server share."""

from __future__ import annotations

import tempfile
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.runtime.jobs import JobQueue
from diptych.studio.components.viewer.store import ImageStore
from diptych.studio.data import DataFolders
from diptych.studio.options import StudioOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from diptych.prefer import Session


class Studio:
    """Data folders, jobs and open sessions of one server; passed to every page.

    Parameters
    ----------
    options : StudioOptions
        Folders, address, token.
    """

    def __init__(self, options: StudioOptions) -> None:
        self.options = options
        self.folders = DataFolders(options.folders)
        self.jobs = JobQueue()
        self.images = ImageStore()
        self._sessions: dict[Path, Session] = {}
        self._lock = threading.Lock()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def session(self, folder: Path, opened: Callable[[], Session]) -> Session:
        """The open session of a folder, one for all tabs; ``opened()`` opens it the first time.

        May take long (a pipeline is loaded): call it in a thread.
        """
        with self._lock:
            if folder not in self._sessions:
                self._sessions[folder] = opened()
            return self._sessions[folder]

    def close_session(self, folder: Path) -> None:
        """Close the session of a folder, if it is open."""
        with self._lock:
            session = self._sessions.pop(folder, None)
        if session is not None:
            session.close()

    @cached_property
    def scratch(self) -> Path:
        """A folder for files that are made to be downloaded."""
        self._scratch = tempfile.TemporaryDirectory(prefix="diptych-studio-", ignore_cleanup_errors=True)
        return Path(self._scratch.name)

    def close(self) -> None:
        """End what runs: jobs are cancelled (their best state is saved), sessions closed."""
        self.jobs.close()
        if self._scratch is not None:
            self._scratch.cleanup()
        for folder in list(self._sessions):
            self.close_session(folder)
