"""The folder of a session: its options beside the ledger, and lists of sessions."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, InputError
from diptych.prefer.decoders.registry import DECODERS
from diptych.prefer.exchange.environment import data_root
from diptych.prefer.exchange.predecessor import prompt_hash
from diptych.prefer.ledger.files import storing
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.ledger.store import NAME
from diptych.prefer.options import SessionOptions, without_replaced
from diptych.runtime.files import write_text
from diptych.runtime.logging import LOGGER

SETTINGS = "session.json"


@dataclass(frozen=True)
class About:
    """A session on disk.

    Attributes
    ----------
    folder : Path
    prompt, decoder : str
    rows, skips : int
        Number of judgements that count, and of the skips among them.
    last : str
        Time of the last event, UTC; empty if there is none.
    """

    folder: Path
    prompt: str
    decoder: str
    rows: int
    skips: int
    last: str


def default_folder(prompt: str | None) -> Path:
    """Default folder of the session of a prompt: that of the row folders of the prompt.

    Raises
    ------
    InputError
        If there is no prompt.
    """
    if prompt is None:
        raise InputError(
            "session", "neither a folder nor a prompt is given", "one of them", "Pass the folder, or --prompt."
        )
    return data_root() / prompt_hash(prompt)


def read_settings(folder: Path) -> dict[str, Any]:
    """The options that a session stores; empty for a new one.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            path, f"cannot be read ({error})", "JSON", "Delete the file and give the options again."
        ) from None
    return SessionOptions.build(values, origin=str(path)).model_dump(exclude_unset=True)


def write_settings(folder: Path, options: SessionOptions) -> None:
    """Store the options, if they changed."""
    values = options.model_dump(mode="json", exclude_unset=True)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SETTINGS).exists() or read_settings(folder) != values:
            write_text(folder / SETTINGS, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def without(stored: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Stored options without some of them; options of a decoder, utility or proposal go with its name.

    Raises
    ------
    InputError
        If one is not stored.
    """
    names = [name.replace("-", "_") for name in names]
    if unknown := [name for name in names if name not in stored]:
        known = ", ".join(stored) or "none"
        raise InputError("unset", f"{', '.join(unknown)} is not stored", f"some of those that are: {known}")
    gone = set(names)
    for field, registry in SessionOptions.registries.items():
        if field in names and stored[field] in registry:
            gone |= set(registry[stored[field]].options.model_fields)
    return {key: value for key, value in stored.items() if key not in gone}


def change_settings(folder: Path, given: Mapping[str, Any], unset: Sequence[str] = ()) -> SessionOptions:
    """Set, and forget, options that a session stores; returns those that are stored now.

    Raises
    ------
    InputError
        If there is no session, an option is wrong, or one to forget is not stored. Nothing is changed then.
    """
    if not (folder / NAME).is_file() and not (folder / SETTINGS).is_file():
        raise InputError(folder, f"has no session (neither {NAME} nor {SETTINGS} exists)", "the folder of a session")
    options = merged(without(read_settings(folder), unset), given)
    if given or unset:
        write_settings(folder, options)
    return options


def write_or_note(folder: Path, options: SessionOptions, *, remember: bool) -> None:
    """Store the options of a session, or log which of them hold for this run only, because it stores others."""
    if remember:
        write_settings(folder, options)
        return
    stored, now = read_settings(folder), options.model_dump(mode="json", exclude_unset=True)
    changed = [f"{key} = {value!r}" for key, value in now.items() if stored.get(key) != value]
    if changed:
        LOGGER.warning(
            "%s: %s for this run only. To store that in the session:\n  diptych prefer settings %s%s",
            folder,
            ", ".join(changed),
            shlex.quote(str(folder)),
            flags_of(now, stored),
        )


def flags_of(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """The flags of the options in which ``now`` differs from ``before``; empty, or a space first."""
    flags = ""
    for name, value in now.items():
        if name in before and before[name] == value:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags += f" --{flag}" if value else f" --no-{flag}"
        elif value is not None:
            flags += f" --{flag} {shlex.quote(json.dumps(value) if isinstance(value, dict | list) else str(value))}"
    return flags


def sessions(root: str | Path | None = None) -> list[About]:
    """The sessions in a folder and one level below it; the last one used comes first."""
    home = data_root() if root is None else Path(root)
    folders = [path.parent for pattern in (NAME, f"*/{NAME}") for path in home.glob(pattern)]
    found = [one for folder in folders if (one := _readable(folder)) is not None]
    return sorted(found, key=lambda one: (one.last, str(one.folder)), reverse=True)


def _readable(folder: Path) -> About | None:
    """The session in a folder; None, and a warning, if it cannot be read."""
    try:
        return about(folder)
    except DiptychError as error:
        LOGGER.warning("%s", error)
        return None


def about(folder: Path) -> About:
    """The session in a folder."""
    options = SessionOptions.build(read_settings(folder))
    with Ledger.open(folder, read_only=True) as ledger:
        events = list(ledger.events(max(ledger.position - 1, 0)))
        prompt = prompt_of(ledger, options) or ""
        last = events[-1].time if events else ""
        return About(folder, prompt, options.decoder, ledger.rows, ledger.skips, last)


def prompt_of(ledger: Ledger, options: SessionOptions) -> str | None:
    """The prompt of a session: that of its options, otherwise that of the image shown last; None without either."""
    if options.prompt is not None:
        return options.prompt
    name = ledger.last_shown()
    return None if name is None else ledger.candidate(name, image=False).frame.prompt


def merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> SessionOptions:
    """Stored options, overridden by those given now, with absolute paths. None means not given."""
    given = {name: value for name, value in given.items() if value is not None}
    return SessionOptions.build({**without_replaced(stored, given), **given}, origin="Session.open").normalised()


def with_dimension(options: SessionOptions, dimension: int | None) -> SessionOptions:
    """The options with the length d of imported latents, if their decoder has that option and none is given."""
    known = options.own("decoder")
    if dimension is None or "dimension" not in type(known).model_fields or "dimension" in known.model_fields_set:
        return options
    return options.with_changes(dimension=dimension)


def with_last_prompt(home: Path, options: SessionOptions) -> SessionOptions:
    """The options of a session that was stored without a prompt, with the prompt of its images (unless its decoder
    provides one).
    """
    named = options.decoder in DECODERS and DECODERS[options.decoder].prompt != "own"
    if options.prompt is not None or not named or not (home / NAME).is_file():
        return options
    with Ledger.open(home, read_only=True) as ledger:
        prompt = prompt_of(ledger, options)
    return options if prompt is None else options.with_changes(prompt=prompt)
