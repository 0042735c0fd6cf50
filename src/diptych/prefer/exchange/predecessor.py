"""Contents of files of the earlier program: features and labels, which become latents and judgements.

It stored ``x = z - anchor`` or ``z`` itself, without recording which, and only the prompt of the frame.
"""

from __future__ import annotations

import hashlib
import lzma
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
from diptych.prefer.judgement import LONGEST, WEIGHTS, Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.ledger.reading import LEGACY
from diptych.prefer.ledger.writing import OFFSET
from diptych.prefer.spaces.sphere import prompt_anchor

Anchor = Literal["prompt"] | None

NEAR = 0.05
"""Relative difference from sqrt(d) within which a norm is taken as that of a latent."""

LARGEST = 4 * 2**30
"""Largest unpacked size of the arrays of a file, bytes."""

LARGEST_ROW = 2**26
"""The same for the file of one row: 8 million float64 values. (Diffusion models have 4,096 to 262,144.)"""

DEFLATE = 1040
"""More than the highest compression ratio of the ZIP format (1,032): what claims more is not what the file holds."""

NAMED = 5
"""Number of left-out rows that a message names, for each reason."""

CHUNK = 64
"""Number of rows per transaction."""


DAMAGE = (
    *(OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What zipfile and NumPy raise for damaged files."""


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
    names : dict of str to list of str
        Names of the rows left out, by reason.
    lengths : Counter
        Number of imported latents of each length d.
    """

    rows: int = 0
    already: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    offsets: int = 0
    names: dict[str, list[str]] = field(default_factory=dict)
    lengths: Counter[int] = field(default_factory=Counter)

    @property
    def dimension(self) -> int | None:
        """The most frequent length d of the imported latents; None if there are none."""
        return self.lengths.most_common(1)[0][0] if self.lengths else None

    def leave_out(self, reason: str, name: str) -> None:
        """Count a row that is left out."""
        self.skipped[reason] += 1
        self.names.setdefault(reason, []).append(name)

    def __str__(self) -> str:
        parts = [f"{self.rows} rows written", f"{self.already} existed already"]
        parts += [f"{self.offsets} imported as offsets from an unknown anchor"] if self.offsets else []
        return "; ".join(
            parts + [f"{n} left out ({reason}{self._named(reason)})" for reason, n in self.skipped.items()]
        )

    def _named(self, reason: str) -> str:
        names = self.names.get(reason, [])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f": {', '.join(names[:NAMED])}{more}" if names else ""


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


def flaw_of(x: NDArray[Any], anchor: Anchor, dimension: int | None) -> str:
    """Why a stored row (d,) cannot be imported; empty if it can."""
    values = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(values)) / math.sqrt(values.size)
    if dimension is not None and values.size != dimension:
        return f"{values.size} values instead of {dimension}"
    if not np.all(np.isfinite(values)):
        return "values that are not finite"
    if length == 0 and anchor is None:
        return "all values are zero"
    return "" if length <= LONGEST - 2 else f"longer than {LONGEST - 2:g} sqrt(d)"


def weight_flaw(label: float) -> str:
    """Why a label cannot be imported; empty if it can."""
    if not np.isfinite(label) or label == 0:
        return "label 0 or not finite"
    low, high = WEIGHTS
    return "" if low <= abs(label) <= high else f"label of absolute value outside {low:g} to {high:g}"


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
            moved.lengths.update(candidate.dimension for candidate in screen)
        waiting.clear()

    for entry in entries:
        waiting.append(entry)
        if len(waiting) == CHUNK:
            flush()
    if waiting:
        flush()


def read_arrays(
    path: Path, names: Sequence[str], optional: Sequence[str] = (), largest: int = LARGEST
) -> dict[str, NDArray[Any]]:
    """Arrays of an NPZ file, read without pickle. Memory is allocated after their headers were compared with the file.

    Raises
    ------
    InputError
        If the file is damaged, pickled or larger than ``largest`` bytes unpacked, a header claims another size than the
        file has, or there is no array of one of ``names``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = {f"{name}.npy" for name in (*names, *optional)}
            members = [member for member in archive.infolist() if member.filename in wanted]
            size = sum(member.file_size for member in members)
            if size > largest:
                raise InputError(path, f"unpacks to {size} bytes", f"at most {largest}")
            for member in members:
                _check_header(path, archive, member)
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                found = ", ".join(file.files) or "no arrays"
                raise InputError(path, f"has {found}", f"an array {missing[0]!r}")
            return {name: file[name] for name in (*names, *optional) if name in file.files}
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(path, f"cannot be read ({error})", "an NPZ file of plain numbers") from None


def _check_header(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise InputError if an array of an NPZ file claims another size than the file has, or has no plain numbers."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise InputError(path, f"{member.filename} has Python objects", "an NPZ file of plain numbers")
    if size != member.file_size or member.file_size > DEFLATE * member.compress_size:
        claim = f"{member.filename} claims {dtype} of shape {shape}, {size} bytes"
        raise InputError(path, claim, f"the {member.file_size} bytes it has in the file")
