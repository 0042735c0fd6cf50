"""Tune by eye: settings of a reconstruction that the person likes best, as YAML for ``reconstruct --config``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import DiptychError, InputError
from diptych.prefer.decoders.protocols import config_of
from diptych.prefer.decoders.reconstruction import SETTINGS, reading_of, shared_of
from diptych.prefer.judgement import Candidate
from diptych.prefer.ledger.files import storing
from diptych.prefer.session.folder import read_settings
from diptych.prefer.session.session import Session
from diptych.runtime.files import write_text
from diptych.studio.state.confine import confined_load, confined_options

if TYPE_CHECKING:
    from diptych.studio.context import Studio

FILE = "tuned.yaml"

LONGEST_FIT = 30.0
"""Most seconds that the winner waits for the fit to the last answer."""


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


def begin(studio: Studio, scan: Path, load: Mapping[str, Any], values: Mapping[str, Any]) -> Path:
    """The folder of the session that tunes the reconstruction of a scan; it is begun where there is none. Slow.

    Parameters
    ----------
    studio : Studio
    scan : Path
    load : mapping
        How the scan is read.
    values : mapping
        Options of ``reconstruct``; those that the session does not search hold for all its pictures.

    Raises
    ------
    InputError, UnavailableError
        If the scan cannot be read, or the folder not written.
    """
    options: dict[str, Any] = {"scan": str(scan)}
    if load:
        options["reading"] = json.dumps(confined_load(studio.folders, load), sort_keys=True)
    if shared := shared_options(confined_options(studio.folders, values)):
        options["shared"] = json.dumps(shared, sort_keys=True)
    root, number = studio.folders.roots[0], 1
    while (folder := root / (f"tune-{scan.stem}" + (f"-{number}" if number > 1 else ""))).exists():
        if _tuned(folder) == options:
            return folder
        number += 1
    with Session.open(folder, decoder="reconstruction", **options):
        return folder


def shared_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that hold for all pictures: neither searched, nor of an engine that lacks what is searched."""
    from diptych.ptycho.engines.options import ReconstructionOptions

    searched = {setting.name for setting in SETTINGS}
    found = {
        name: value
        for name, value in values.items()
        if name not in searched and name != "error_bars" and value != getattr(ReconstructionOptions(), name, None)
    }
    engine = found.get("engine")
    if engine is None:
        return found
    trial = dict.fromkeys(searched & {"alpha", "step", "momentum"}, 0.5)
    try:
        ReconstructionOptions.build({"engine": engine, **trial})
    except InputError:
        known = ReconstructionOptions.model_fields
        return {name: value for name, value in found.items() if name in known and name != "engine"}
    return found


def _tuned(folder: Path) -> dict[str, Any]:
    """Scan, reading and shared options of the session of a folder; empty where it is no such session."""
    try:
        found = read_settings(folder)
    except DiptychError:
        return {}
    return {name: found[name] for name in ("scan", "reading", "shared") if found.get(name)}


def winner(session: Session, name: str | None = None) -> Winner:
    """The judged picture of highest expected utility, after the fit to the last answer, or the picture of an id. Slow.

    Raises
    ------
    InputError
        If nothing was judged yet, or the pictures are not reconstructions.
    UnavailableError
        If the fit failed, or takes longer than :data:`LONGEST_FIT`.
    """
    if name is None:
        session.wait(LONGEST_FIT)
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


def common_text(session: Session) -> str:
    """What all pictures of a session share, as a sentence; empty where all of it is left at the defaults."""
    found = session.options.model_extra or {}
    given = {
        **reading_of(found.get("reading")).model_dump(mode="json", exclude_unset=True),
        **shared_of(found.get("shared")).model_dump(mode="json", exclude_unset=True),
    }
    text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in given.items())
    return f"The same for all: {text}." if text else ""
