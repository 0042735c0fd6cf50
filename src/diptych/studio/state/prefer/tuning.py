"""Tune by eye: settings of a reconstruction that the person likes best, as YAML for ``reconstruct --config``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import InputError
from diptych.prefer.decoders.protocols import config_of
from diptych.prefer.judgement import Candidate
from diptych.prefer.ledger.files import storing
from diptych.prefer.session.session import Session
from diptych.runtime.files import write_text

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
