"""Options that name files: every one of them must lie in the data folders, however it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import InputError
from diptych.ptycho.prepare.preparation_options import PrepareOptions, preparation_of
from diptych.studio.data import DataFolders

WORDS = {"probe": ("refine", "fixed", "estimate"), "start": ("flat",)}
"""Options that may name a file, and the values that are not names of files."""

OPTICS = "optics:"
"""Begins a probe that is computed."""

INSIDE = ("dark", "flat", "mask_file")
"""Options of a preparation that name FILE or FILE:PATH."""


def confined_load(folders: DataFolders, load: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``load`` with the files they name as absolute paths.

    Raises
    ------
    InputError
        If one lies outside the data folders.
    """
    found = dict(load)
    if value := found.get("positions"):
        found["positions"] = _place(folders, str(value))
    if value := found.get("layout"):
        found["layout"] = _layout(folders, str(value))
    return found


def confined_options(folders: DataFolders, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``reconstruct`` likewise; the file of a preparation is replaced by what it says.

    Raises
    ------
    InputError
        If a file lies outside the data folders, or that of a preparation cannot be read.
    """
    found = dict(options)
    for name, words in WORDS.items():
        value = found.get(name)
        if value and value not in words and not str(value).startswith(OPTICS):
            found[name] = _place(folders, str(value))
    if value := found.get("prepare"):
        found["prepare"] = _preparation(folders, value)
    return found


def confined_session(folders: DataFolders, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a session likewise: scan, model, how the scan is read, and what all its reconstructions share.

    Raises
    ------
    InputError
        If a file lies outside the data folders.
    """
    from diptych.prefer.decoders.reconstruction import reading_of, shared_of

    found = dict(options)
    if scan := found.get("scan"):
        found["scan"] = str(folders.resolve(str(scan)))
    model = found.get("model")
    # Other names are those of a registry; the loader takes no file that does not exist.
    if isinstance(model, str) and model and (Path(model).expanduser().exists() or model.startswith(("/", ".", "~"))):
        found["model"] = str(folders.resolve(model))
    for name, read, confined in (
        ("reading", reading_of, confined_load),
        ("shared", shared_of, confined_options),
    ):
        if value := found.get(name):
            text = value if not isinstance(value, str) or value.lstrip().startswith("{") else _file(folders, value)
            given = read(text).model_dump(mode="json", exclude_unset=True)
            found[name] = json.dumps(confined(folders, given))
    return found


def _place(folders: DataFolders, given: str) -> str:
    """FILE or FILE:PATH, with FILE inside the data folders: as the readers do, the first part that is a file."""
    for end in [len(given), *(place for place, letter in enumerate(given) if letter == ":" and place)]:
        path = folders.resolve(given[:end])
        if path.is_file():
            if ".." in given[end:].split("/"):
                raise InputError(given, "has '..' after the name of the file", "FILE:PATH")
            return f"{path}{given[end:]}"
    # The reader says what is missing, and looks for it inside the data folders only.
    return f"{folders.resolve(given)}"


def _layout(folders: DataFolders, given: str) -> str:
    """The file of a layout inside the data folders, or the name of an installed one."""
    path = folders.resolve(given)
    if path.is_file():
        return str(path)
    if "/" in given or given.startswith((".", "~")) or Path(given).suffix.lower() in (".yaml", ".yml"):
        raise InputError(given, "there is no such file", "a layout (.yaml) in the data folders, or the name of one")
    if Path(given).exists():
        raise InputError(given, "lies outside the data folders", "a layout in the data folders")
    return given


def _preparation(folders: DataFolders, given: Any) -> str:
    if isinstance(given, str):
        options = preparation_of(given if given.lstrip().startswith("{") else _file(folders, given))
    else:
        options = PrepareOptions.build(dict(given), "prepare")
    values = options.model_dump(mode="json", exclude_unset=True)
    for name in INSIDE:
        if value := values.get(name):
            values[name] = _place(folders, str(value))
    return json.dumps(values)


def _file(folders: DataFolders, given: str) -> str:
    return str(folders.resolve(given))
