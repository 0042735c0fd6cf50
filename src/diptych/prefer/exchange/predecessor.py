"""What files of the older program hold: features and labels, which become latents and judgements where that can be
told.

It stored ``x = z - anchor`` or ``z`` itself, without saying which, and no more of the frame than the prompt.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import OFFSET, Ledger
from diptych.prefer.ledger.reading import LEGACY
from diptych.prefer.spaces.sphere import prompt_anchor

Anchor = Literal["prompt"] | None

NEAR = 0.05
"""Relative difference from sqrt(d) within which a norm is that of a latent."""

LARGEST = 4 * 2**30
"""Bytes that the arrays of a file may unpack to."""

CHUNK = 64
"""Rows that are stored at once."""


@dataclass
class Moved:
    """What an import or export did.

    Attributes
    ----------
    rows : int
        Rows written.
    already : int
        Rows that were there.
    skipped : Counter
        How many were left out, by reason.
    offsets : int
        Rows that were kept but are no latents: differences from an anchor that nobody recorded.
    """

    rows: int = 0
    already: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    offsets: int = 0

    def __str__(self) -> str:
        parts = [f"{self.rows} rows written", f"{self.already} there already"]
        parts += [f"{self.offsets} kept as offsets from an unknown anchor"] if self.offsets else []
        return "; ".join(parts + [f"{count} left out ({reason})" for reason, count in self.skipped.items()])


def prompt_hash(prompt: str) -> str:
    """The name of a prompt's folder: the first ten hexadecimal digits of its SHA-1."""
    return hashlib.sha1(prompt.encode(), usedforsecurity=False).hexdigest()[:10]


def check_anchor(anchor: str | None) -> None:
    """Refuse an anchor that is neither ``"prompt"`` nor None."""
    if anchor not in (None, "prompt"):
        raise InputError(f"--anchor {anchor}: expected 'prompt', or nothing.")


def candidate_of(x: NDArray[Any], frame: Frame, name: str, anchor: Anchor, provenance: dict[str, Any]) -> Candidate:
    """The candidate of a stored row (d,): a latent when its norm is near sqrt(d), else anchor + x, else x marked as an
    offset.
    """
    values = np.asarray(x, dtype=np.float64)
    if abs(np.linalg.norm(values) / math.sqrt(values.size) - 1) > NEAR:
        if anchor == "prompt":
            values = prompt_anchor(frame.prompt, values.size) + values
            provenance = {**provenance, "anchor": anchor}
        else:
            provenance = {**provenance, OFFSET: True}
    return Candidate(values.astype(np.float32), frame, id=name, provenance={"source": LEGACY, **provenance})


def label_of(candidate: Candidate, label: float, time: str) -> Judgement:
    """Good for a label above 0 and bad below, its size as weight."""
    return Judgement("rate", (candidate.id,), int(label > 0), abs(float(label)), time)


def store(ledger: Ledger, entries: Iterable[tuple[Sequence[Candidate], Judgement]], moved: Moved) -> None:
    """Record imported entries in chunks and count them."""
    waiting: list[tuple[Sequence[Candidate], Judgement]] = []

    def flush() -> None:
        for screen in ledger.record(waiting, source=LEGACY):
            moved.rows += bool(screen)
            moved.already += not screen
            moved.offsets += any(OFFSET in candidate.provenance for candidate in screen)
        waiting.clear()

    for entry in entries:
        waiting.append(entry)
        if len(waiting) == CHUNK:
            flush()
    if waiting:
        flush()


def read_arrays(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays of an NPZ file, without pickles.

    Raises
    ------
    InputError
        The file is damaged, pickled or absurdly large, or lacks one of ``names``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = {f"{name}.npy" for name in (*names, *optional)}
            size = sum(member.file_size for member in archive.infolist() if member.filename in wanted)
        if size > LARGEST:
            raise InputError(f"{path}: unpacks to {size} bytes; expected at most {LARGEST}.")
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                raise InputError(f"{path}: has no array {missing[0]!r}, only {', '.join(file.files) or 'nothing'}.")
            return {name: file[name] for name in (*names, *optional) if name in file.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is no readable NPZ file of plain numbers ({error}).") from None
