"""Diagnostics of predicted patches: statistics, detection of collapse, and a dump of one group with all its arrays.

Patches are complex (..., N, N), as arrays or as tensors on any device. The global phase of a group is not determined by
the data, and no number here depends on it.
"""

from __future__ import annotations

import errno
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
from diptych.ptycho.neural.protocols import NetworkFigures
from diptych.runtime.files import is_full, replacing, write_text
from diptych.runtime.run_directory import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Phase = Literal["train", "validation", "inference"]

FOLDER = "analysis"
"""Where :meth:`PatchStatistics.write` puts its files."""

TILES = 8
"""Patches in a figure."""

PER_PATCH = 4
"""Patches of a batch whose statistics are also written individually."""

FLAT = 1e-3
"""Patches whose complex values vary by less than this fraction of their rms (a phase object of 1 mrad) are flat."""

ALIKE = 0.9999
"""Patches whose mean pairwise correlation exceeds this are identical."""

DARK = 1e-4
"""Objects with a smaller modulus are dark: they transmit one of 1e8 photons, which no pattern can show."""

DIFFERENT = 6.0
"""Patterns differ when their distance exceeds that of equal ones by this many standard deviations of shot noise."""

_COMPARED = 64
_REMEDY = "try a lower learning_rate, stronger clipping (clip), or more epochs"


def to_array(values: Tensor | NDArray[Any]) -> NDArray[Any]:
    """A tensor on any device, with or without gradient, as an array; an array is returned unchanged."""
    return (
        values.detach().cpu().resolve_conj().resolve_neg().numpy() if isinstance(values, Tensor) else np.asarray(values)
    )


def patch_statistics(patches: Tensor | NDArray[Any]) -> dict[str, Any]:
    """Statistics of complex patches (..., N, N): of all, and of each of the first :data:`PER_PATCH`.

    Parameters
    ----------
    patches : (..., N, N) complex
        Predicted patches.

    Returns
    -------
    dict
        ``patches`` (number); ``amplitude_mean``, ``_std``, ``_min``, ``_max``; ``var_zero_mean``, the mean over all
        pixels of (amplitude - mean of the patch)^2; ``relative_variance``, the same divided by ``amplitude_mean``^2 and
        so independent of scale (NaN when the mean is 0); ``phase_std_rad``, the circular standard deviation about the
        mean phase of each patch; and ``per_patch``, a list of the same with the number ``patch``.
    """
    flat = _flattened(patches)
    alone = [{"patch": i, **_numbers(patch[None])} for i, patch in enumerate(flat[:PER_PATCH])]
    return {"patches": len(flat), **_numbers(flat), "per_patch": alone}


class PatchStatistics:
    """Statistics of the first batches of each phase and epoch, and the latest patches for a figure.

    Parameters
    ----------
    limit : int
        Batches recorded per phase and epoch.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.records: list[dict[str, Any]] = []
        self._seen: Counter[tuple[str, int]] = Counter()
        self.tiles: list[tuple[str, NDArray[Any]]] = []
        """Titles and values of the latest patches, :data:`TILES` at most."""

    def add(self, phase: Phase, epoch: int, batch: int, patches: Tensor | NDArray[Any]) -> None:
        """Record a batch of patches (..., N, N), unless ``limit`` batches of this phase and epoch are recorded.

        Parameters
        ----------
        phase : {"train", "validation", "inference"}
            What the patches were predicted for.
        epoch, batch : int
            Numbers for the records.
        patches : (..., N, N) complex
            Predicted patches; they are copied.
        """
        if self._seen[phase, epoch] >= self.limit:
            return
        self._seen[phase, epoch] += 1
        flat = _flattened(patches)
        self.records.append({"phase": phase, "epoch": epoch, "batch": batch, **patch_statistics(flat)})
        # Copies, because the caller may reuse its memory. Several small batches share one figure.
        new = [
            (f"{phase}, epoch {epoch}\nbatch {batch}, patch {i}", patch.copy()) for i, patch in enumerate(flat[:TILES])
        ]
        self.tiles = [*self.tiles, *new][-TILES:]

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``analysis/patch_stats.json`` and, if anything was recorded, ``analysis/patch_grid.png``.

        Parameters
        ----------
        folder : path
            Where the folder ``analysis`` is made.

        Raises
        ------
        InputError
            If they cannot be written.
        """
        with _writing(Path(folder) / FOLDER) as inside:
            written = [_write_json(inside / "patch_stats.json", self.records)]
            if self.tiles:
                import diptych

                written.append(write_figure(inside / "patch_grid.png", diptych.plot(self)))
        return written


def collapsed(patches: Tensor | NDArray[Any], counts: Tensor | NDArray[Any] | None = None) -> str | None:
    """Detect a collapsed network: patches that show no object, or the same one for different patterns.

    Patches have collapsed if they are not finite or dark, if none of them varies (deviation of the complex values from
    their mean, relative to the rms), or if all of them are identical although their patterns differ. The measures do
    not depend on scale or global phase. A weak object passes: one of 0.02 rad varies by 0.02.

    Parameters
    ----------
    patches : (..., N, N) complex
        Predicted patches of several patterns.
    counts : (..., N, N), optional
        The patterns, in the same order, 0 at masked pixels. Without them they are assumed to differ.

    Returns
    -------
    str or None
        None if nothing is wrong, else a sentence with the measured number and what to try.
    """
    flat = _flattened(patches)[:_COMPARED].astype(np.complex128)
    wrong = _broken(flat) or _flat(flat)
    if wrong is None and (counts is None or _patterns_differ(_flattened(counts)[:_COMPARED])):
        wrong = _alike(flat)
    return None if wrong is None else f"The network has collapsed: {wrong}; {_REMEDY}."


def parity_dump(
    folder: str | Path,
    patches: Tensor | NDArray[Any],
    positions: NDArray[np.float64],
    canvas: Tensor | NDArray[Any],
    origin: tuple[int, int],
    figures: NetworkFigures | None = None,
) -> list[Path]:
    """Write all arrays of one group, for comparison with other programs.

    ``stats.json`` holds statistics of the amplitudes, ``offsets.json`` the offsets r_i - mean(r), (y, x), object
    pixels, ``canvas.json`` the sizes, ``parity.npz`` the arrays (``patches``, ``positions``, ``offsets``, ``canvas``,
    ``origin``), ``patches.png`` a figure.

    Parameters
    ----------
    folder : str or Path
        Where to write; it is created if needed.
    patches : (C, N, N) complex
        The members' patches.
    positions : (C, 2) float
        Their positions, (y, x), object pixels.
    canvas : (H, W) complex
        The average of the patches on the canvas of the group.
    origin : (int, int)
        Coordinate of canvas[0, 0].
    figures : NetworkFigures, optional
        Draws ``patches.png``; without it there is no figure.

    Raises
    ------
    InputError
        If the shapes disagree, or the files cannot be written.
    """
    patches, canvas, positions = to_array(patches), to_array(canvas), np.asarray(positions, np.float64)
    if patches.ndim != 3 or canvas.ndim != 2 or positions.shape != (len(patches), 2):
        raise InputError(
            "parity dump",
            f"patches {patches.shape}, positions {positions.shape}, canvas {canvas.shape}",
            "(C, N, N), (C, 2) and (H, W) of one group",
            "Pass one group of the batch.",
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
    moments = {"offsets": offsets, "mean": offsets.mean(0), "std": offsets.std(0)}
    sizes = {"patch_size": patches.shape[-1], "canvas_size": canvas.shape, "origin": origin, "members": len(patches)}
    titles = [f"member {i}\n({y:+.2f}, {x:+.2f}) px" for i, (y, x) in enumerate(offsets)]
    with _writing(Path(folder)) as inside:
        written = [
            _write_json(inside / "stats.json", stats),
            _write_json(
                inside / "offsets.json",
                {"count": len(offsets), "meaning": "r_i - mean(r), (y, x), object px", **moments},
            ),
            _write_json(inside / "canvas.json", {**sizes, "max_abs_dy": far[0], "max_abs_dx": far[1]}),
            _write_arrays(inside / "parity.npz", arrays),
        ]
        if figures is not None:
            written.append(write_figure(inside / "patches.png", figures.patches(patches, titles)))
    return written


def _flattened(patches: Tensor | NDArray[Any]) -> NDArray[Any]:
    """(n, N, N)."""
    values = to_array(patches)
    return values.reshape(-1, *values.shape[-2:])


def _numbers(patches: NDArray[Any]) -> dict[str, float]:
    """Statistics of (n, N, N) patches."""
    amplitude = _amplitude(np.abs(patches))
    mean, var = amplitude["mean"], amplitude["var_zero_mean"]
    # Rounding may make the mean of unit vectors longer than 1.
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
        f"no patch has an rms amplitude above {largest:.2g}; that of a transparent object is 1"
        if largest < DARK
        else None
    )


def _flat(patches: NDArray[np.complex128]) -> str | None:
    varies = float((_rms(_structure(patches)) / _rms(patches).clip(min=DARK)).max())
    return (
        f"no patch varies by more than {varies:.2g} of its amplitude; a weak object varies by {FLAT:g} or more"
        if varies < FLAT
        else None
    )


def _alike(patches: NDArray[np.complex128]) -> str | None:
    vectors = _structure(patches).reshape(len(patches), -1)
    # Flat patches have no structure to compare; their correlation with others counts as 0.
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(length > 0, length, 1.0)
    pairs = np.abs(vectors @ vectors.conj().T)[np.triu_indices(len(vectors), 1)]
    found = float(pairs.mean()) if len(pairs) else 0.0
    return f"the patches of different patterns have a mean correlation of {found:.6f}" if found > ALIKE else None


def _structure(patches: NDArray[np.complex128]) -> NDArray[np.complex128]:
    about: NDArray[np.complex128] = patches - patches.mean((-1, -2), keepdims=True)
    return about


def _rms(patches: NDArray[np.complex128]) -> NDArray[np.float64]:
    rms: NDArray[np.float64] = np.sqrt(np.mean(np.abs(patches) ** 2, axis=(-1, -2)))
    return rms


def _patterns_differ(counts: NDArray[Any]) -> bool:
    """Whether patterns (n, N, N) differ by more than shot noise; pairs of the first and the second half are compared.

    If two patterns have the same rates, then of the n = k + l photons of both at a pixel k is binomial with probability
    1/2, and (k - l)^2 / n has mean 1 and variance 2 (1 - 1 / n), exactly, at any dose.
    """
    counts = counts.astype(np.float64)
    half = len(counts) // 2
    first, second = counts[:half], counts[half : 2 * half]
    total, change = first + second, first - second
    seen = total > 0
    excess = change[seen] ** 2 / total[seen] - 1
    variance = 2 * np.clip(1 - 1 / total[seen], 0, None)
    return float(excess.sum()) > DIFFERENT * float(np.sqrt(variance.sum()))


def write_figure(path: Path, figure: Figure, dpi: int = 110) -> Path:
    """Write a figure to a file in one step; its folder is created if needed. Raises InputError if that fails."""
    with _writing(path.parent), replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return path


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """The folder, created if needed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        if is_full(error) or error.errno == errno.EIO:
            raise
        raise InputError(
            folder, f"diagnostics cannot be written ({error.strerror or error})", remedy="Choose another folder."
        ) from None


def _write_json(path: Path, values: Mapping[str, Any] | list[dict[str, Any]]) -> Path:
    write_text(path, json.dumps(plain(values), indent=2, allow_nan=False) + "\n")
    return path


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    return path
