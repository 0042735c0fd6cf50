"""Tune by eye: settings of a reconstruction that the person likes best, as YAML for ``reconstruct --config``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import DiptychError, InputError
from diptych.prefer.decoders.protocols import config_of
from diptych.prefer.judgement import Candidate
from diptych.prefer.ledger.files import storing
from diptych.prefer.session.folder import read_settings
from diptych.prefer.session.session import Session
from diptych.runtime.files import write_text

if TYPE_CHECKING:
    from diptych.studio.context import Studio

FILE = "tuned.yaml"


@dataclass(frozen=True)
class Winner:
    """The picture that is thought best, and its settings.

    Attributes
    ----------
    candidate : Candidate
    settings : dict
        Options of ``reconstruct``.
    """

    candidate: Candidate
    settings: dict[str, Any]

    @property
    def yaml(self) -> str:
        """The settings as YAML."""
        import yaml

        return yaml.safe_dump(self.settings, sort_keys=False)


def tunes(session: Session) -> bool:
    """Whether the pictures of a session are reconstructions, whose settings are judged."""
    return session.decoder.space == "cube"


def begin(studio: Studio, scan: Path) -> Path:
    """The folder of the session that tunes the reconstruction of a scan; it is begun where there is none. Slow.

    Raises
    ------
    InputError, UnavailableError
        If the scan cannot be read, or the folder not written.
    """
    root, number = studio.folders.roots[0], 1
    while (folder := root / (f"tune-{scan.stem}" + (f"-{number}" if number > 1 else ""))).exists():
        if _tuned(folder) == str(scan):
            return folder
        number += 1
    with Session.open(folder, decoder="reconstruction", scan=str(scan)):
        return folder


def _tuned(folder: Path) -> str:
    """The scan that the session of a folder tunes; empty where it is no such session."""
    try:
        return str(read_settings(folder).get("scan") or "")
    except DiptychError:
        return ""


def winner(session: Session, name: str | None = None) -> Winner:
    """The judged picture of highest expected utility, or the picture of an id.

    Raises
    ------
    InputError
        If nothing was judged yet, or the pictures are not reconstructions.
    """
    candidate = session.best(seen=True) if name is None else session.ledger.candidate(name)
    settings = config_of(session.decoder, candidate.latent)
    if not settings:
        raise InputError("session", "its pictures are not reconstructions", "a session of the decoder reconstruction")
    return Winner(candidate, settings)


def save(session: Session, best: Winner) -> Path:
    """Write the settings beside the ledger; returns the file.

    Raises
    ------
    UnavailableError
        If the disk is full.
    """
    path = session.ledger.folder / FILE
    with storing(path):
        write_text(path, best.yaml)
    return path


def scan_of(session: Session) -> str:
    """The file of the scan that is tuned."""
    return str((session.options.model_extra or {}).get("scan") or "")
