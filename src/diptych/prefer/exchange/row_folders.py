"""Row folders of the earlier program: ``<prompt hash>/<000001>/{sample.npz, image.png}``, one row each with X (1, d)
and y (1,).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from diptych.errors import InputError
from diptych.prefer.exchange.predecessor import (
    LARGEST_ROW,
    Anchor,
    Moved,
    candidate_of,
    check_anchor,
    flaw_of,
    label_of,
    prompt_hash,
    read_arrays,
    store,
    weight_flaw,
)
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.files import storing, sync_folder
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.ledger.reading import LEGACY, JudgementRecord
from diptych.runtime.files import replacing
from diptych.runtime.logging import LOGGER

SAMPLE, IMAGE = "sample.npz", "image.png"


def import_rows(
    ledger: Ledger, folder: str | Path, prompt: str, *, anchor: Anchor = None, dimension: int | None = None
) -> Moved:
    """Import the rows of a prompt into a ledger; those that it has are skipped, and those that are damaged, excessive
    or of another length are left out and named.

    Parameters
    ----------
    ledger : Ledger
    folder : path
        The data root, or the folder of the prompt in it.
    prompt : str
        Its hash is the name of the folder.
    anchor : "prompt" or None
        What rows are differences from, if their norm is not within 5 % of sqrt(d). With None they are imported, but not
        used in fits.
    dimension : int, optional
        Length d of the latents of the session; rows of every length are imported if None.

    Raises
    ------
    InputError
        If the folder belongs to another prompt, or does not exist.
    """
    check_anchor(anchor)
    home = _prompt_folder(Path(folder), prompt)
    moved = Moved()
    store(ledger, _entries(ledger, home, prompt, (anchor, dimension), moved), moved)
    LOGGER.info("[data] imported %s: %s", home, moved)
    return moved


def export_rows(ledger: Ledger, folder: str | Path, prompt: str) -> Moved:
    """Write the judgements of a prompt that count as row folders below ``folder/<prompt hash>``.

    Imported rows are written byte for byte, under their own numbers if these are free. Good and bad become y = 1 and -1
    times the weight; in a choice or a pair the best gets 1 and each other -1. Stars, ties and skips cannot be
    represented and are counted.

    Raises
    ------
    UnavailableError
        If the folder cannot be written or the disk is full.
    """
    home = Path(folder) / prompt_hash(prompt)
    moved = Moved()
    with storing(home):
        home.mkdir(parents=True, exist_ok=True)
        there = Counter(_hash(path.read_bytes()) for path in home.glob(f"*/{SAMPLE}"))
        # Imported rows come first, so that their numbers are free.
        for said in sorted(ledger.judgements(), key=lambda said: said.source != LEGACY):
            for sample, image, number in _rows(ledger, said, prompt, moved):
                if there[_hash(sample)] > 0:
                    there[_hash(sample)] -= 1
                    moved.already += 1
                else:
                    _write_row(home, number, sample, image)
                    moved.rows += 1
    LOGGER.info("[data] wrote %s: %s", home, moved)
    return moved


def _prompt_folder(folder: Path, prompt: str) -> Path:
    expected = prompt_hash(prompt)
    named = folder.resolve().name
    home = folder if named == expected else folder / expected
    if home.is_dir():
        return home
    if re.fullmatch(r"[0-9a-f]{10}", named):
        raise InputError(folder, "belongs to another prompt", f"the folder {expected}, the hash of {prompt!r}")
    raise InputError(
        folder,
        f"has no folder {expected}, the hash of {prompt!r}",
        "the data root",
        "Check the exact text of the prompt.",
    )


def _entries(
    ledger: Ledger, home: Path, prompt: str, rule: tuple[Anchor, int | None], moved: Moved
) -> Iterator[tuple[Sequence[Candidate], Judgement]]:
    rows = sorted(
        (path for path in home.iterdir() if re.fullmatch(r"\d{6,}", path.name)), key=lambda path: int(path.name)
    )
    for row in rows:
        try:
            yield _entry(ledger, row, prompt, rule, moved)
        except _LeftOut as reason:
            moved.leave_out(str(reason), row.name)
        except OSError as error:
            moved.leave_out(f"cannot be read, {error.strerror}", row.name)


class _LeftOut(Exception):
    """Why a row is not imported."""


def _entry(
    ledger: Ledger, row: Path, prompt: str, rule: tuple[Anchor, int | None], moved: Moved
) -> tuple[Sequence[Candidate], Judgement]:
    path = row / SAMPLE
    if row.is_symlink() or path.is_symlink():
        raise _LeftOut("symbolic link")
    if not path.is_file():
        raise _LeftOut(f"without {SAMPLE}")
    try:
        arrays = read_arrays(path, ("X", "y"), largest=LARGEST_ROW)
    except InputError:
        raise _LeftOut(f"unreadable {SAMPLE}") from None
    x, y = arrays["X"], arrays["y"]
    plain = all(
        np.issubdtype(array.dtype, np.number) and np.all(np.isfinite(array)) and np.isrealobj(array) for array in (x, y)
    )
    if not plain or x.ndim != 2 or len(x) != 1 or x.size == 0 or y.shape != (1,) or y[0] == 0:
        raise _LeftOut("X is not (1, d) or y not (1,) finite and nonzero")
    if flaw := flaw_of(x[0], *rule) or weight_flaw(float(y[0])):
        raise _LeftOut(flaw)
    data = path.read_bytes()
    name = f"{LEGACY}-{prompt_hash(prompt)}-{row.name}-{_hash(data)[:8]}"
    with storing(ledger.folder):
        provenance = {"row": row.name, "sample": ledger.files.put(data, ".npz")}
    candidate = candidate_of(x[0], Frame(prompt), name, rule[0], provenance)
    candidate = _with_image(ledger, candidate, row / IMAGE, moved)
    time = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (candidate,), label_of(candidate, y[0], time)


def _with_image(ledger: Ledger, candidate: Candidate, path: Path, moved: Moved) -> Candidate:
    """The candidate with its image, if there is a readable one: the earlier program did not always write it."""
    if path.is_symlink() or not path.is_file():
        return candidate
    try:
        if path.stat().st_size > LARGEST_ROW:
            raise InputError(path, f"has {path.stat().st_size} bytes", f"at most {LARGEST_ROW}")
        image = ledger.adopt_image(path.read_bytes(), str(path))
    except (InputError, OSError):
        moved.leave_out(f"{IMAGE} unreadable, row imported without it", path.parent.name)
        return candidate
    return Candidate(candidate.latent, candidate.frame, image, candidate.id, provenance=candidate.provenance)


def _rows(
    ledger: Ledger, said: JudgementRecord, prompt: str, moved: Moved
) -> Iterator[tuple[bytes, bytes | None, str]]:
    """Rows of a judgement: sample, image, and preferred number."""
    judgement = said.judgement
    signs = {"rate": [2 * judgement.value - 1], "best": [1, *[-1] * (len(judgement.ids) - 1)], "pair": [1, -1]}.get(
        judgement.kind
    )
    candidates = [ledger.candidate(name, image=False) for name in judgement.ids]
    if candidates[0].frame.prompt != prompt:
        moved.skipped["other prompt"] += 1
        return
    if signs is None:
        moved.skipped[f"{judgement.kind} cannot be represented in this layout"] += 1
        return
    for candidate, sign in zip(candidates, signs, strict=True):
        imported = candidate.provenance.get("sample") if said.source == LEGACY else None
        sample = ledger.files.get(imported) if imported else _sample(candidate, sign * judgement.weight)
        path = ledger.image_file(candidate.id)
        image = ledger.files.get(path.name) if path else None
        yield sample, image, str(candidate.provenance.get("row", "")) if imported else ""


def _sample(candidate: Candidate, label: float) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, X=np.asarray(candidate.latent)[None], y=np.array([label]))
    return buffer.getvalue()


def _write_row(home: Path, wanted: str, sample: bytes, image: bytes | None) -> None:
    """Reserve a number by creating its folder. The sample is written last, because readers skip folders without one."""
    row = _claim(home, wanted)
    for name, data in ((IMAGE, image), (SAMPLE, sample)):
        if data is not None:
            with replacing(row / name) as temporary:
                temporary.write_bytes(data)
    sync_folder(row)
    sync_folder(home)


def _claim(home: Path, wanted: str) -> Path:
    taken = [int(path.name) for path in home.iterdir() if path.name.isdecimal()]
    number = max(taken, default=0) + 1
    name = wanted if re.fullmatch(r"\d{6,}", wanted) else f"{number:06d}"
    while True:
        try:
            (home / name).mkdir()
        except FileExistsError:
            name, number = f"{number:06d}", number + 1
            continue
        return home / name


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
