"""Download and upload of a session."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.exchange.pictures import load_image, save_picture
from diptych.prefer.exchange.predecessor import prompt_hash
from diptych.prefer.exchange.state_file import export_state, import_state
from diptych.prefer.exchange.tables import to_csv
from diptych.prefer.session.session import Session


def state_name(session: Session) -> str:
    """Name of the state file of a session."""
    return f"latent_state_{prompt_hash(session.frame.prompt)}.npz"


def state_file(session: Session, target: Path) -> None:
    """Write the state of a session: latents and labels as NPZ, see ``prefer export --layout state``."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        path, _ = export_state(session.ledger, scratch, session.frame, session.dimension)
        path.replace(target)


def read_state(session: Session, file: Path) -> str:
    """Take the rows of a state file into a session; returns what was done.


    Raises
    ------
    InputError
        If the file is not a state file, or one of another prompt or dimension.
    """
    if file.suffix != ".npz":
        raise InputError(file.name, "is no state file", "latent_state_<hash>.npz, as Download state writes it")
    try:
        moved = import_state(session.ledger, file, session.frame.prompt, dimension=session.dimension)
    except InputError as error:
        raise error.changed(where=file.name) from None  # Without the folder, which is a temporary one.
    used = "" if session.options.use_legacy else " Fits use them with the option use_legacy (see Settings)."
    return f"{moved}.{used}"


def table(session: Session, target: Path) -> None:
    """Write all judgements as CSV beside their PNG files, in a ZIP archive."""
    with tempfile.TemporaryDirectory() as scratch:
        to_csv(session.ledger, scratch)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(Path(scratch).iterdir()):
                archive.write(path, path.name)


def picture(session: Session, name: str) -> bytes:
    """The PNG file of a picture, with its latent and settings in it."""
    with tempfile.TemporaryDirectory() as scratch:
        return save_picture(session.ledger.candidate(name), Path(scratch) / "picture.png").read_bytes()


def read_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of an uploaded PNG, JPEG or WebP file.

    Raises
    ------
    InputError
        If it is none of these, or excessively large; the message names the file.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "upload"
        path.write_bytes(data)
        try:
            return load_image(path)
        except InputError as error:
            raise error.changed(where=Path(name).name) from None
