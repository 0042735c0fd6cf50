"""Contents of files of the earlier program: features and labels, which become latents and judgements.

It stored ``x = z - anchor`` or ``z`` itself, without recording which, and only the prompt of the frame.
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
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.ledger.reading import LEGACY
from diptych.prefer.ledger.writing import OFFSET
from diptych.prefer.spaces.sphere import prompt_anchor

Anchor = Literal["prompt"] | None

NEAR = 0.05
"""Relative difference from sqrt(d) within which a norm is taken as that of a latent."""

LARGEST = 4 * 2**30
"""Largest unpacked size of the arrays of a file, bytes."""

CHUNK = 64
"""Number of rows per transaction."""


@dataclass
class Moved:
    """Result of an import or export.

    Attributes
    ----------
    rows : int
        Rows written.
    already : int
        Rows that existed already.
    skipped : Counter
        Number of rows left out, by reason.
    offsets : int
        Rows that were imported but are not latents: differences from an anchor that was not recorded.
    """

    rows: int = 0
    already: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    offsets: int = 0

    def __str__(self) -> str:
        parts = [f"{self.rows} rows written", f"{self.already} existed already"]
        parts += [f"{self.offsets} imported as offsets from an unknown anchor"] if self.offsets else []
        return "; ".join(parts + [f"{count} left out ({reason})" for reason, count in self.skipped.items()])


def prompt_hash(prompt: str) -> str:
    """Name of the folder of a prompt: the first ten hexadecimal digits of its SHA-1."""
    return hashlib.sha1(prompt.encode(), usedforsecurity=False).hexdigest()[:10]


def check_anchor(anchor: str | None) -> None:
    """Raise InputError for an anchor that is neither ``"prompt"`` nor None."""
    if anchor not in (None, "prompt"):
        raise InputError("anchor", f"is {anchor!r}", "'prompt', or none")


def candidate_of(x: NDArray[Any], frame: Frame, name: str, anchor: Anchor, provenance: dict[str, Any]) -> Candidate:
    """The candidate of a stored row (d,): x itself if its norm is near sqrt(d), otherwise anchor + x, or x marked as an
    offset if there is no anchor.
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
    """Good for a label above 0, bad below; its absolute value is the weight."""
    return Judgement("rate", (candidate.id,), int(label > 0), abs(float(label)), time)


def store(ledger: Ledger, entries: Iterable[tuple[Sequence[Candidate], Judgement]], moved: Moved) -> None:
    """Store imported entries in chunks and count them."""
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
    """Arrays of an NPZ file, read without pickle.

    Raises
    ------
    InputError
        If the file is damaged, pickled or excessively large, or has no array of one of ``names``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = {f"{name}.npy" for name in (*names, *optional)}
            size = sum(member.file_size for member in archive.infolist() if member.filename in wanted)
        if size > LARGEST:
            raise InputError(path, f"unpacks to {size} bytes", f"at most {LARGEST}")
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                found = ", ".join(file.files) or "no arrays"
                raise InputError(path, f"has {found}", f"an array {missing[0]!r}")
            return {name: file[name] for name in (*names, *optional) if name in file.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(path, f"cannot be read ({error})", "an NPZ file of plain numbers") from None
