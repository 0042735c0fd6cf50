"""The folder of a session: its settings beside the ledger, and what sessions there are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, InputError
from diptych.prefer.exchange.predecessor import prompt_hash
from diptych.prefer.ledger.files import storing
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.ledger.store import NAME
from diptych.prefer.options import SessionOptions
from diptych.runtime.files import write_text
from diptych.runtime.logging import LOGGER

SETTINGS = "session.json"

ROOT = "IPO_DATA_ROOT"
"""Environment variable that names the folder of all sessions."""


@dataclass(frozen=True)
class About:
    """A session on the disk: where, on what, how many judgements count, and when it was last added to (UTC; empty:
    never).
    """

    folder: Path
    prompt: str
    decoder: str
    rows: int
    last: str


def data_root() -> Path:
    """The folder of all sessions: ``$IPO_DATA_ROOT``, else ``data``."""
    return Path(os.environ.get(ROOT) or "data")


def default_folder(prompt: str) -> Path:
    """Where the session of a prompt is kept when no other place is named: beside the row folders of that prompt."""
    return data_root() / prompt_hash(prompt)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that a session was last opened with; empty for a new one.

    Raises
    ------
    InputError
        The file is damaged.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it and give the settings again.") from None
    return SessionOptions.build(values, origin=str(path)).model_dump(exclude_unset=True)


def write_settings(folder: Path, options: SessionOptions) -> None:
    """Keep the settings, where they are not kept already."""
    values = options.model_dump(mode="json", exclude_unset=True)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SETTINGS).exists() or read_settings(folder) != values:
            write_text(folder / SETTINGS, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def sessions(root: str | Path | None = None) -> list[About]:
    """The sessions in a folder and one level below it, the last one used first."""
    home = data_root() if root is None else Path(root)
    folders = [path.parent for pattern in (NAME, f"*/{NAME}") for path in home.glob(pattern)]
    found = [one for folder in folders if (one := _about(folder)) is not None]
    return sorted(found, key=lambda one: (one.last, str(one.folder)), reverse=True)


def _about(folder: Path) -> About | None:
    """What a folder's session is about; None, and a warning, when it cannot be read."""
    try:
        return about(folder)
    except DiptychError as error:
        LOGGER.warning("%s", error)
        return None


def about(folder: Path) -> About:
    """What a folder's session is about."""
    options = SessionOptions.build(read_settings(folder))
    with Ledger.open(folder, create=False) as ledger:
        events = list(ledger.events(max(ledger.position - 1, 0)))
        return About(folder, options.prompt, options.decoder, ledger.rows, events[-1].time if events else "")


def merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> SessionOptions:
    """Stored settings with those given now laid over them."""
    values = {**stored, **given}
    return SessionOptions.build(
        {name: value for name, value in values.items() if value is not None}, origin="Session.open"
    )
