"""What the patches of a network look like in numbers: statistics, signs of collapse, and one group written out whole.

Patches are complex (..., N, N); tensors on any device are as welcome as arrays. The global phase of a group is free, so
no number here depends on it. Pictures are drawn by :mod:`diptych.ptycho.figures.network`, which loads matplotlib and is
imported when it is needed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import InputError
from diptych.runtime.files import replacing, write_text
from diptych.runtime.run_directory import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Phase = Literal["train", "validation", "inference"]

FOLDER = "analysis"
"""Where :meth:`PatchStatistics.write` puts its files."""

TILES = 8
"""Patches in a picture grid."""

PER_PATCH = 4
"""Patches of a batch whose statistics are also written one by one."""

FLAT = 1e-3
"""Patches whose complex values vary by less than this part of their rms show no object: a phase object of 1 mrad."""

ALIKE = 0.9999
"""Patches whose structures correlate better than this, on average over all pairs, are one and the same picture."""

DARK = 1e-4
"""Of 1e8 photons one comes through an object of this modulus: no pattern could show it."""

DIFFERENT = 6.0
"""Patterns differ when they are further apart than equal ones by this many standard deviations of shot noise."""

_COMPARED = 64
_MEND = "try a lower learning_rate, stronger clipping (clip), or more epochs"


def to_array(values: Tensor | NDArray[Any]) -> NDArray[Any]:
    """A tensor of any device, with or without gradient, as an array; an array as it is."""
    return (
        values.detach().cpu().resolve_conj().resolve_neg().numpy() if isinstance(values, Tensor) else np.asarray(values)
    )


def patch_statistics(patches: Tensor | NDArray[Any]) -> dict[str, Any]:
    """Statistics of complex patches (..., N, N), together and, for the first :data:`PER_PATCH`, one by one.

    Returns
    -------
    dict
        ``patches`` (how many); ``amplitude_mean``, ``_std``, ``_min``, ``_max``; ``var_zero_mean``, the mean over all
        pixels of (amplitude - the patch's mean)^2; ``relative_variance``, that over ``amplitude_mean``^2, which no
        scale changes (NaN when the mean is 0); ``phase_std_rad``, circular, about each patch's own mean phase; and
        ``per_patch``, a list of the same with the ``patch``'s number.
    """
    flat = _flattened(patches)
    alone = [{"patch": i, **_numbers(patch[None])} for i, patch in enumerate(flat[:PER_PATCH])]
    return {"patches": len(flat), **_numbers(flat), "per_patch": alone}


class PatchStatistics:
    """Statistics of the first batches of every phase of every epoch, and the last patches, for a picture.

    Parameters
    ----------
    limit : int
        Batches recorded per phase and epoch.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.records: list[dict[str, Any]] = []
        self._seen: Counter[tuple[str, int]] = Counter()
        self._tiles: list[tuple[str, NDArray[Any]]] = []

    def add(self, phase: Phase, epoch: int, batch: int, patches: Tensor | NDArray[Any]) -> None:
        """Record a batch of patches (..., N, N), unless ``limit`` batches of this phase and epoch are recorded
        already.
        """
        if self._seen[phase, epoch] >= self.limit:
            return
        self._seen[phase, epoch] += 1
        flat = _flattened(patches)
        self.records.append({"phase": phase, "epoch": epoch, "batch": batch, **patch_statistics(flat)})
        # Copies, because a caller may go on writing into its patches; batches smaller than the grid share it.
        new = [
            (f"{phase}, epoch {epoch}\nbatch {batch}, patch {i}", patch.copy()) for i, patch in enumerate(flat[:TILES])
        ]
        self._tiles = [*self._tiles, *new][-TILES:]

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``analysis/patch_stats.json`` and, when anything was recorded, ``analysis/patch_grid.png`` under
        ``folder``.

        Raises
        ------
        InputError
            If they cannot be written.
        """
        with _writing(Path(folder) / FOLDER) as inside:
            written = [_write_json(inside / "patch_stats.json", self.records)]
            if self._tiles:
                from diptych.ptycho.figures.network import patch_grid

                titles, patches = zip(*self._tiles, strict=True)
                written.append(_write_figure(inside / "patch_grid.png", patch_grid(patches, titles)))
        return written


def collapsed(patches: Tensor | NDArray[Any], counts: Tensor | NDArray[Any] | None = None) -> str | None:
    """What is wrong with patches that show no object, or all the same one; None when they are well.

    Patches have collapsed when they are not finite or dark, when none of them varies (its complex values about their
    mean, over its rms), or when all of them vary in the same way though their patterns differ. The measures know no
    scale and no global phase, and a weak object passes: one of 0.02 rad varies by 0.02.

    Parameters
    ----------
    patches : (..., N, N) complex
        Predicted patches of several patterns.
    counts : (..., N, N), optional
        The patterns, in the same order, 0 at masked pixels; without them they are taken to differ.

    Returns
    -------
    str or None
        A sentence with the measured number, and what to try.
    """
    flat = _flattened(patches)[:_COMPARED].astype(np.complex128)
    wrong = _broken(flat) or _flat(flat)
    if wrong is None and (counts is None or _patterns_differ(_flattened(counts)[:_COMPARED])):
        wrong = _alike(flat)
    return None if wrong is None else f"The network has collapsed: {wrong}; {_MEND}."


def parity_dump(
    folder: str | Path,
    patches: Tensor | NDArray[Any],
    positions: NDArray[np.float64],
    canvas: Tensor | NDArray[Any],
    origin: tuple[int, int],
) -> list[Path]:
    """Write one group out whole, for comparison with other programs.

    ``stats.json`` holds statistics of the amplitudes, ``offsets.json`` the offsets r_i - mean(r), (y, x), object
    pixels, ``canvas.json`` the sizes, ``parity.npz`` the arrays (``patches``, ``positions``, ``offsets``, ``canvas``,
    ``origin``), ``patches.png`` a picture.

    Parameters
    ----------
    folder : str or Path
        Where to; made if need be.
    patches : (C, N, N) complex
        The members' patches.
    positions : (C, 2) float
        Their positions, (y, x), object pixels.
    canvas : (H, W) complex
        What they were merged to.
    origin : (int, int)
        Coordinate of canvas[0, 0].

    Raises
    ------
    InputError
        If the shapes disagree, or the files cannot be written.
    """
    patches, canvas, positions = to_array(patches), to_array(canvas), np.asarray(positions, np.float64)
    if patches.ndim != 3 or canvas.ndim != 2 or positions.shape != (len(patches), 2):
        raise InputError(
            f"parity dump: patches {patches.shape}, positions {positions.shape}, canvas {canvas.shape}; "
            "expected (C, N, N), (C, 2) and (H, W) of one group; take one of the batch."
        )
    offsets = positions - positions.mean(0)
    far = np.abs(offsets).max(0)
    arrays = {
        "patches": patches,
        "positions": positions,
        "offsets": offsets,
        "canvas": canvas,
        "origin": np.asarray(origin, np.int64),
    }
    stats = {"patch_amplitude": _amplitude(np.abs(patches)), "canvas_amplitude": _amplitude(np.abs(canvas)[None])}
    places = {"offsets": offsets, "mean": offsets.mean(0), "std": offsets.std(0)}
    sizes = {"patch_size": patches.shape[-1], "canvas_size": canvas.shape, "origin": origin, "members": len(patches)}
    from diptych.ptycho.figures.network import patch_grid

    titles = [f"member {i}\n({y:+.2f}, {x:+.2f}) px" for i, (y, x) in enumerate(offsets)]
    with _writing(Path(folder)) as inside:
        return [
            _write_json(inside / "stats.json", stats),
            _write_json(
                inside / "offsets.json",
                {"count": len(offsets), "meaning": "r_i - mean(r), (y, x), object px", **places},
            ),
            _write_json(inside / "canvas.json", {**sizes, "max_abs_dy": far[0], "max_abs_dx": far[1]}),
            _write_arrays(inside / "parity.npz", arrays),
            _write_figure(inside / "patches.png", patch_grid(patches, titles)),
        ]


def _flattened(patches: Tensor | NDArray[Any]) -> NDArray[Any]:
    """(n, N, N)."""
    values = to_array(patches)
    return values.reshape(-1, *values.shape[-2:])


def _numbers(patches: NDArray[Any]) -> dict[str, float]:
    """Statistics of (n, N, N) patches."""
    amplitude = _amplitude(np.abs(patches))
    mean, var = amplitude["mean"], amplitude["var_zero_mean"]
    # Rounding may lift the length of a mean of unit vectors above 1.
    order = np.abs(np.exp(1j * np.angle(patches.astype(np.complex128))).mean((-1, -2))).mean()
    spread = np.sqrt(-2 * np.log(np.clip(order, np.finfo(float).tiny, 1.0)))
    return {
        **{f"amplitude_{name}": amplitude[name] for name in ("mean", "std", "min", "max")},
        "var_zero_mean": var,
        "relative_variance": var / mean**2 if mean else float("nan"),
        "phase_std_rad": float(spread),
    }


def _amplitude(values: NDArray[Any]) -> dict[str, float]:
    """Mean, std, min and max of amplitudes (n, H, W), and the variance about each one's own mean."""
    values = values.astype(np.float64)
    about = values - values.mean((-1, -2), keepdims=True)
    return {
        **{name: float(getattr(values, name)()) for name in ("mean", "std", "min", "max")},
        "var_zero_mean": float(np.mean(about**2)),
    }


def _broken(patches: NDArray[np.complex128]) -> str | None:
    finite = np.isfinite(patches)
    if not finite.all():
        return f"{(~finite).mean():.3g} of the patches' pixels are not finite"
    largest = float(_rms(patches).max())
    return (
        f"no patch has an rms amplitude above {largest:.2g}, where a transparent object has 1"
        if largest < DARK
        else None
    )


def _flat(patches: NDArray[np.complex128]) -> str | None:
    varies = float((_rms(_structure(patches)) / _rms(patches).clip(min=DARK)).max())
    return (
        f"no patch varies by more than {varies:.2g} of its amplitude, and a weak object by {FLAT:g} or more"
        if varies < FLAT
        else None
    )


def _alike(patches: NDArray[np.complex128]) -> str | None:
    vectors = _structure(patches).reshape(len(patches), -1)
    # Flat patches among others have no structure to compare, and are unlike all.
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(length > 0, length, 1.0)
    pairs = np.abs(vectors @ vectors.conj().T)[np.triu_indices(len(vectors), 1)]
    found = float(pairs.mean()) if len(pairs) else 0.0
    return (
        f"the patches of different patterns are alike, with a mean correlation of {found:.6f}"
        if found > ALIKE
        else None
    )


def _structure(patches: NDArray[np.complex128]) -> NDArray[np.complex128]:
    about: NDArray[np.complex128] = patches - patches.mean((-1, -2), keepdims=True)
    return about


def _rms(patches: NDArray[np.complex128]) -> NDArray[np.float64]:
    rms: NDArray[np.float64] = np.sqrt(np.mean(np.abs(patches) ** 2, axis=(-1, -2)))
    return rms


def _patterns_differ(counts: NDArray[Any]) -> bool:
    """Whether patterns (n, N, N) are further apart than shot noise explains: each of the first half and its like in the
    second.

    Of the n = k + l photons that two equal patterns have at a pixel, k is binomial with probability 1/2. So (k - l)^2 /
    n has the mean 1 and the variance 2 (1 - 1 / n), exactly, at any dose.
    """
    counts = counts.astype(np.float64)
    half = len(counts) // 2
    first, second = counts[:half], counts[half : 2 * half]
    total, change = first + second, first - second
    seen = total > 0
    excess = change[seen] ** 2 / total[seen] - 1
    variance = 2 * np.clip(1 - 1 / total[seen], 0, None)
    return float(excess.sum()) > DIFFERENT * float(np.sqrt(variance.sum()))


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """The folder, made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise InputError(
            f"{folder}: the diagnostics cannot be written ({error.strerror or error}); name another folder."
        ) from None


def _write_json(path: Path, values: Mapping[str, Any] | list[dict[str, Any]]) -> Path:
    write_text(path, json.dumps(plain(values), indent=2, allow_nan=False) + "\n")
    return path


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    return path


def _write_figure(path: Path, figure: Figure) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path
