"""State files ``latent_state_<prompt hash>.npz`` of the earlier program.

Its arrays: width, height, d, mu (d,), sigma, w (d,), step, X (n, d), y (n,), z_pairs (m, 2, d), choices (m,), mu_hist
(k, d), and in later files prompt, created_at, app_version. A choice of 1 is for the first of a pair, of -1 for the
second; each pair is in X too, as a difference.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych import __version__
from diptych.errors import InputError
from diptych.prefer.exchange.predecessor import (
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
from diptych.prefer.ledger.files import storing
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.ledger.reading import LEGACY
from diptych.runtime.files import replacing
from diptych.runtime.logging import LOGGER
from diptych.runtime.provenance import utc_now

Arrays = dict[str, NDArray[Any]]


def import_state(
    ledger: Ledger, path: str | Path, prompt: str, *, anchor: Anchor = None, dimension: int | None = None
) -> Moved:
    """Import the labels and pairs of a state file into a ledger; those that it has are skipped.

    Parameters
    ----------
    ledger, prompt, anchor, dimension
        As for :func:`diptych.prefer.exchange.row_folders.import_rows`.
    path : path
        ``latent_state_<hash>.npz``, or ``latent_state.npz`` in the folder of the prompt.

    Raises
    ------
    InputError
        If the file is of another prompt or dimension, or not a state file.
    """
    check_anchor(anchor)
    path = Path(path)
    arrays = read_arrays(path, ("width", "height", "d"), ("X", "y", "z_pairs", "choices", "prompt"))
    d, frame = _check(path, arrays, prompt)
    if dimension not in (None, d):
        raise InputError(
            path, f"has latents of {d} values", f"{dimension}, as the session has", "Choose another session."
        )
    with storing(ledger.folder):
        provenance = {"state": ledger.files.put(path.read_bytes(), ".npz")}
    moved = Moved()
    store(ledger, _entries(arrays, d, frame, anchor, provenance, moved), moved)
    LOGGER.info("[data] imported %s: %s", path, moved)
    return moved


def export_state(
    ledger: Ledger, folder: str | Path, frame: Frame, dimension: int, *, mean: ArrayLike | None = None
) -> tuple[Path, Moved]:
    """Write ``latent_state_<prompt hash>.npz`` with the labels and pairs of a prompt that count.

    Imported rows are written unchanged. Stars, choices among several, ties and skips cannot be represented and are
    counted.

    Parameters
    ----------
    ledger : Ledger
    folder : path
    frame : Frame
        Its prompt and size.
    dimension : int
        Length d of the latents; rows of other lengths are counted.
    mean : (d,), optional
        The latent to continue from (``mu``); zeros by default.

    Returns
    -------
    path : Path
    moved : Moved
    """
    path = Path(folder) / f"latent_state_{prompt_hash(frame.prompt)}.npz"
    features, labels, pairs, moved = _collect(ledger, frame.prompt, dimension)
    zero = np.zeros(dimension)
    empty = np.zeros((0, dimension))
    with storing(path), replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            width=frame.width,
            height=frame.height,
            d=dimension,
            mu=zero if mean is None else np.asarray(mean, dtype=np.float64),
            sigma=1.0,
            w=zero,
            step=len(labels) + len(pairs),
            X=np.stack(features) if features else empty,
            y=np.array(labels, dtype=np.float64),
            z_pairs=np.stack(pairs) if pairs else np.zeros((0, 2, dimension)),
            choices=np.ones(len(pairs)),
            mu_hist=empty,
            prompt=frame.prompt,
            created_at=utc_now(),
            app_version=__version__,
        )
    LOGGER.info("[data] wrote %s: %s", path, moved)
    return path, moved


def _check(path: Path, arrays: Arrays, prompt: str) -> tuple[int, Frame]:
    """Dimension and frame of a state file. Raises InputError if it is of another prompt or its shapes disagree."""
    expected = prompt_hash(prompt)
    named = re.fullmatch(r"latent_state_([0-9a-f]{10})\.npz", path.name)
    found = str(arrays["prompt"]) if "prompt" in arrays else None
    if (named and named[1] != expected) or (found is not None and found != prompt):
        whose = repr(found) if found is not None else f"the prompt with the hash {named[1] if named else ''}"
        raise InputError(path, f"is the state of {whose}", f"the state of {prompt!r} (hash {expected})")
    try:
        width, height, d = (int(arrays[name]) for name in ("width", "height", "d"))
    except (TypeError, ValueError):
        raise InputError(path, "width, height and d are not integers", "a state file") from None
    arrays.setdefault("X", np.zeros((0, d)))
    arrays.setdefault("y", np.zeros(0))
    arrays.setdefault("z_pairs", np.zeros((0, 2, d)))
    arrays.setdefault("choices", np.zeros(0))
    n, m = len(np.atleast_1d(arrays["y"])), len(np.atleast_1d(arrays["choices"]))
    for name, shape in {"X": (n, d), "y": (n,), "z_pairs": (m, 2, d), "choices": (m,)}.items():
        array = arrays[name]
        if array.shape != shape or not np.issubdtype(array.dtype, np.number) or not np.isrealobj(array):
            raise InputError(path, f"{name} is {array.dtype} of shape {array.shape}", f"numbers of shape {shape}")
    return d, Frame(prompt, width=width, height=height)


def _entries(
    arrays: Arrays, d: int, frame: Frame, anchor: Anchor, provenance: dict[str, Any], moved: Moved
) -> Iterator[tuple[Sequence[Candidate], Judgement]]:
    prefix, now = f"{LEGACY}-{prompt_hash(frame.prompt)}", utc_now()

    def candidate(x: NDArray[Any], array: str, *index: int) -> Candidate:
        # Named by content: from a later copy of the same file with more rows, only the new rows are imported.
        name = "-".join([prefix, array, *map(str, index), hashlib.sha256(x.astype("<f8").tobytes()).hexdigest()[:8]])
        return candidate_of(x, frame, name, anchor, {**provenance, "array": array, "index": list(index)})

    pairs = arrays["z_pairs"]
    differences = pairs[:, 0] - pairs[:, 1]
    for index, (x, label) in enumerate(zip(arrays["X"], arrays["y"], strict=True)):
        if flaw := flaw_of(x, anchor, None) or weight_flaw(float(label)):
            moved.leave_out(flaw, f"X[{index}]")
        elif any(
            np.allclose(x, differences[row])
            for row in np.flatnonzero(np.isclose(differences[:, :8], x[:8]).all(axis=1))
        ):
            moved.leave_out("difference of a pair, which is imported itself", f"X[{index}]")
        else:
            rated = candidate(x, "X", index)
            yield (rated,), label_of(rated, label, now)
    for index, (pair, choice) in enumerate(zip(pairs, arrays["choices"], strict=True)):
        if flaw := flaw_of(pair[0], anchor, None) or flaw_of(pair[1], anchor, None):
            moved.leave_out(flaw, f"z_pairs[{index}]")
            continue
        if choice not in (1, -1) or np.array_equal(*pair):
            moved.leave_out("pair of two equal latents, or without choice", f"z_pairs[{index}]")
            continue
        first, second = candidate(pair[0], "z_pairs", index, 0), candidate(pair[1], "z_pairs", index, 1)
        ids = (first.id, second.id) if choice > 0 else (second.id, first.id)
        yield (first, second), Judgement("pair", ids, time=now)


def _collect(ledger: Ledger, prompt: str, d: int) -> tuple[list[NDArray[Any]], list[float], list[NDArray[Any]], Moved]:
    """Features, labels, and pairs (winner first) of the judgements that count."""
    features: list[NDArray[Any]] = []
    labels: list[float] = []
    pairs: list[NDArray[Any]] = []
    moved, originals = Moved(), _Originals(ledger)
    for said in ledger.judgements():
        judgement = said.judgement
        candidates = [ledger.candidate(name, image=False) for name in judgement.ids]
        if candidates[0].frame.prompt != prompt or any(candidate.dimension != d for candidate in candidates):
            moved.skipped["other prompt or dimension"] += 1
        elif judgement.kind == "rate":
            features.append(originals.feature(candidates[0]))
            labels.append((2 * judgement.value - 1) * judgement.weight)
        elif len(candidates) == 2 and judgement.kind in ("pair", "best"):
            pairs.append(np.stack([originals.feature(candidate) for candidate in candidates]))
        else:
            moved.skipped[f"{judgement.kind} cannot be represented in this file"] += 1
    moved.rows = len(labels) + len(pairs)
    return features, labels, pairs, moved


class _Originals:
    """Features as they were imported, in float64."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: dict[tuple[str, str], NDArray[Any]] = {}

    def feature(self, candidate: Candidate) -> NDArray[Any]:
        """The features (d,) that the earlier program stored for a candidate, or its latent."""
        about = candidate.provenance
        if about.get("source") != LEGACY:
            return np.asarray(candidate.latent, dtype=np.float64)
        if "sample" in about:
            return np.asarray(self._read(about["sample"], "X")[0])
        key = about["state"], about["array"]
        if key not in self._open:
            self._open[key] = self._read(*key)
        return np.asarray(self._open[key][tuple(about["index"])])

    def _read(self, name: str, array: str) -> NDArray[Any]:
        with np.load(io.BytesIO(self._ledger.files.get(name)), allow_pickle=False) as file:
            return np.asarray(file[array])
