"""The desks of a server: one per session folder that is open."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, InputError
from diptych.prefer.judgement import Candidate
from diptych.prefer.ledger.files import storing
from diptych.prefer.ledger.store import NAME
from diptych.prefer.session.folder import SETTINGS, read_settings
from diptych.prefer.session.session import Session
from diptych.studio.context import Studio
from diptych.studio.state.confine import confined_session
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.feed import Feed
from diptych.studio.state.prefer.keys import Mode


class Desks:
    """Opens sessions, and closes them when their options change.

    Parameters
    ----------
    studio : Studio
    """

    def __init__(self, studio: Studio) -> None:
        self.studio, self.feed = studio, Feed()
        self._desks: dict[Path, Desk] = {}
        self._lock = threading.RLock()

    def named(self, key: str) -> Desk | None:
        """The desk of a key; None if it is closed."""
        return next((desk for desk in list(self._desks.values()) if desk.key == key), None)

    def is_open(self, folder: Path) -> bool:
        """Whether the session of a folder is open, so that :meth:`open` returns at once."""
        return folder in self._desks

    def folder(self, given: str) -> Path:
        """The folder of a session that a person typed, inside the data folders.

        Raises
        ------
        InputError
            If it lies elsewhere, or is a data folder itself.
        """
        if not given.strip():
            raise InputError("session", "no name is given", "the name of a folder, such as lake")
        path = self.studio.folders.resolve(given.strip())
        if path in self.studio.folders.roots:
            raise InputError("session", "is the data folder itself", "the name of a folder in it, such as lake")
        return path

    def open(self, folder: Path, options: Mapping[str, Any] | None = None, *, new: bool = False) -> Desk:
        """The desk of a session, which is opened, or begun with ``options``. May take long: call it in a thread.

        Raises
        ------
        InputError, UnavailableError
            As :meth:`diptych.prefer.Session.open`; also if there is no session and none was to be begun.
        """
        with self._lock:
            if folder in self._desks:
                return self._desks[folder]
            exists = (folder / NAME).is_file() or (folder / SETTINGS).is_file()
            if not exists and not new:
                raise InputError(folder.name, "has no session", remedy="Begin one under this name.")
            if exists and new:
                raise InputError(folder.name, "has a session", remedy="Open it, or choose another name.")
            given = self._confined(options or {})
            # A session may come from elsewhere: what it stores must not lead out of the data folders either.
            self._confined(read_settings(folder))
            desk = Desk(self.studio.session(folder, lambda: Session.open(folder, **given)))
            _resume(desk)
            self._desks[folder] = desk
            return desk

    def change(self, folder: Path, options: Mapping[str, Any]) -> Desk:
        """Store other options and open the session with them; if that fails, it is opened as before.

        Raises
        ------
        InputError, UnavailableError
            If the options are wrong, or what they name is missing.
        """
        with self._lock:
            given = self._confined(options)
            unset = [name for name, value in given.items() if value is None]
            stored = self._desks[folder].session.options.model_dump(exclude_unset=True)
            before = self._desks[folder]
            self.close(folder)
            try:
                parts = {name: value for name, value in given.items() if value is not None}
                session = Session.open(folder, unset=[name for name in unset if name in stored], **parts)
            except DiptychError:
                self._desks[folder] = self._again(folder, before)
                raise
            desk = self._desks[folder] = Desk(self.studio.session(folder, lambda: session))
            _carry(before, desk)
            return desk

    def close(self, folder: Path) -> None:
        """Close a session; what was acknowledged is on disk."""
        with self._lock:
            desk = self._desks.pop(folder, None)
            if desk is not None:
                desk.close()
            self.studio.close_session(folder)

    def reset(self, folder: Path) -> str:
        """Begin again with the same options; the judgements so far are kept in a folder beside, whose name is returned.

        Raises
        ------
        UnavailableError
            If the folder cannot be renamed or written.
        """
        with self._lock:
            self.close(folder)
            number = 1
            while (kept := folder.with_name(f"{folder.name}-before-reset-{number}")).exists():
                number += 1
            with storing(folder):
                folder.rename(kept)
                folder.mkdir()
                if (kept / SETTINGS).is_file():
                    shutil.copyfile(kept / SETTINGS, folder / SETTINGS)
            self.open(folder, new=not (folder / SETTINGS).is_file())
            return kept.name

    def close_all(self) -> None:
        """Close all sessions."""
        for folder in list(self._desks):
            self.close(folder)

    def _again(self, folder: Path, before: Desk) -> Desk:
        desk = Desk(self.studio.session(folder, lambda: Session.open(folder)))
        _carry(before, desk)
        return desk

    def _confined(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options with the paths in them inside the data folders."""
        return confined_session(self.studio.folders, options)


def _resume(desk: Desk) -> None:
    """Put the screen first, in each mode, that was left there without an answer when the session was last open."""
    modes: dict[int, Mode] = {1: "queue", 2: "pair", desk.session.options.batch: "batch"}
    left: dict[Mode, tuple[Candidate, ...]] = {}
    for screen in desk.session.unanswered:
        own = screen[0].provenance.get("proposal") in ("upload", "match")
        if (mode := "upload" if own else modes.get(len(screen))) is not None:
            left.setdefault(mode, screen)
    for mode, screen in left.items():
        desk.offer(screen, mode).result()


def _carry(before: Desk, desk: Desk) -> None:
    """Keep what the person chose on the page."""
    desk.mode, desk.answers, desk.refresh = before.mode, before.answers, before.refresh
    desk.weight, desk.patient = before.weight, before.patient
    desk.breadcrumbs.extend(before.breadcrumbs)
