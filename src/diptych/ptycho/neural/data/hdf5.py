"""Patterns that stay in an HDF5 file and are read on request, with the conversions of :func:`diptych.load`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho import validation
from diptych.ptycho.io import LoadOptions, convert, load_scan, scan_group
from diptych.ptycho.io.files import file_kind
from diptych.ptycho.io.raw import RawScan, naming, to_counts
from diptych.ptycho.io.scans.npz import PATTERN_KEYS, coordinates, declaration, read_scan
from diptych.ptycho.io.source import Hdf5Source, Header, open_hdf5
from diptych.ptycho.neural.data.patterns import Patterns, ScanPatterns, pieces
from diptych.ptycho.scan import Scan

log = logging.getLogger("diptych")

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

_FIRST = 16
"""Number of patterns that messages about the content of the file are based on."""


def open_patterns(source: Scan | str | Path, load: LoadOptions | None = None, *, stream: bool) -> Patterns:
    """Open the patterns of a scan in memory, or of a file.

    Parameters
    ----------
    source : Scan or path-like
        A scan, or the file of one.
    load : LoadOptions, optional
        What the file does not declare; not used for a scan in memory.
    stream : bool
        Leave the patterns in the file, if it is HDF5. Other files are loaded into memory, and this is logged.

    Raises
    ------
    InputError
        As from :func:`diptych.load`. A streamed file is read once on opening, so that wrong values are found here.
    """
    if isinstance(source, Scan):
        return ScanPatterns(source)
    path = Path(source)
    elsewhere = load is not None and (load.positions is not None or load.patterns_at is not None)
    if stream and not elsewhere and file_kind(path) == "hdf5" and _has_patterns(path):
        return Hdf5Patterns(path, load)
    if stream:
        log.info("%s: loaded into memory; only HDF5 scans can be streamed.", path)
    return ScanPatterns(load_scan(path, load))


class Hdf5Patterns:
    """A scan whose patterns stay in an HDF5 file; everything else is as :func:`diptych.load` reads it.

    Opening reads the file once and raises the errors that loading would raise. Copies sent to other processes and
    forked processes open the file again.

    Parameters
    ----------
    path : path-like
        HDF5 with the keys of an NPZ scan, or a product that bundles them (``/raw_data``).
    load : LoadOptions, optional
        What the file does not declare.

    Raises
    ------
    InputError
        If the file or the options are wrong.
    """

    def __init__(self, path: str | Path, load: LoadOptions | None = None) -> None:
        self.path = Path(path)
        load = (load or LoadOptions()).in_photons()
        self._opened: tuple[int, Hdf5Source, ExitStack] | None = None
        with open_hdf5(self.path) as file:
            source, self._declared = scan_group(file, self.path)
            about = declaration(source, self.path.stem, self._declared)
            y, x, _ = coordinates(source, load, about.own)
            found = [key for key in PATTERN_KEYS if key in source.headers()]
            shape = source.headers()[found[0]].shape
            order = _order(shape, len(y), about.axes if load.axes == "auto" else load.axes, source.where, found[0])
            axis = 0 if order == "MHW" else 2 if shape[-1] == 1 else len(shape) - 1
            load = load.with_changes(axes=order)
            suffix = "_start" if load.nominal_positions else ""
            self._cut = {key: axis for key in found if source.headers()[key].shape == shape}
            self._lines = {f"ycoords{suffix}": y, f"xcoords{suffix}": x}
            self._kept = {"_metadata": source.read("_metadata")} if "_metadata" in source.headers() else {}
            self._keep_mask(source, len(y))
            self._read_metadata(source, load, y, x)
            self._options = load.with_changes(use_probe=False, probe_key=None, use_truth=False)
            self._whole = True
            self._sweep(source)
            # The sweep has verified that all keys hold the same patterns.
            for key in found[1:]:
                del self._cut[key]

    @property
    def size(self) -> int:
        """N, the side of a pattern."""
        return self._size

    def __len__(self) -> int:
        return len(self.positions)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def read(self, indices: Indices) -> tuple[NDArray[np.float32], Mask | None]:
        """Counts and masks of some patterns; see :meth:`Patterns.read`.

        Raises
        ------
        InputError
            If the file can no longer be read.
        """
        wanted, back = np.unique(indices, return_inverse=True)
        if wanted[0] < 0 or wanted[-1] >= len(self):
            raise IndexError(f"{self.path}: patterns {wanted[0]} to {wanted[-1]} of {len(self)}")
        frames = self._frames(self._source(), wanted)
        counts = frames.values.astype(np.float32, copy=False)
        shown = np.broadcast_to(True if frames.mask is None else frames.mask, counts.shape)
        if not shown.all():
            counts = np.where(shown, counts, np.float32(0))
        varies = shown if self._varies else None
        if len(wanted) == len(indices) and np.array_equal(back, np.arange(len(back))):
            return counts, varies
        return counts[back], None if varies is None else varies[back]

    def _source(self) -> Hdf5Source:
        """The file, opened by this process: HDF5 handles must not be used after a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            stack = ExitStack()
            file = stack.enter_context(open_hdf5(self.path))
            self._opened = (os.getpid(), scan_group(file, self.path)[0], stack)
        return self._opened[1]

    def _frames(self, source: Hdf5Source, indices: Indices) -> RawScan:
        """Some patterns as counts, and their masks."""
        part = self._part(source, indices, alone=True)
        raw = replace(read_scan(part, self._options, self.name, self._declared), first=int(indices[0]))
        if raw.domain == "amplitude" and not self._whole:
            # Squared amplitudes are rounded only if those of the whole scan are integers within the stored precision;
            # in double precision, a few patterns that happen to be integers are not rounded.
            raw = replace(raw, values=raw.values.astype(np.float64))
        return to_counts(raw, self._options)

    def _part(self, source: Hdf5Source, indices: Indices, *, alone: bool) -> _PartSource:
        """The file with some of its patterns; ``alone`` hides all arrays that are not needed for patterns."""
        lines = {key: line[indices] for key, line in self._lines.items()}
        return _PartSource(source, indices, self._cut, {**lines, **self._kept}, alone=alone)

    def _keep_mask(self, source: Hdf5Source, patterns: int) -> None:
        """Read a mask of all patterns now; select from masks of each pattern as from the patterns."""
        header = source.headers().get("mask")
        self._varies = header is not None and len(header.shape) == 3
        if header is None:
            return
        if not self._varies:
            self._kept["mask"] = source.read("mask")
        elif header.shape[0] == patterns:
            self._cut["mask"] = 0
        else:
            side = header.shape[1:]
            raise InputError(source.where, f"the mask has shape {header.shape}", f"{side} or {(patterns, *side)}")

    def _read_metadata(self, source: Hdf5Source, load: LoadOptions, y: NDArray[Any], x: NDArray[Any]) -> None:
        """Read and validate everything but the patterns, as a :class:`Scan` does."""
        first = np.arange(min(len(y), _FIRST))
        raw = read_scan(self._part(source, first, alone=False), load, self.path.stem, self._declared)
        frames = to_counts(raw, load)
        self._size = int(frames.values.shape[-1])
        # Mirroring refers to the centre of the whole scan.
        positions, _ = convert.pixel_positions(y, x, load, frames.geometry, self._size, raw.where)
        with naming(raw):
            self.positions = validation.positions_array(positions, len(y), raw.name)
            validation.canvas_size(self.positions, self._size, raw.name)
            # A valid placeholder: the patterns of the file are checked in the sweep.
            rest = Scan(
                counts=np.ones((1, self._size, self._size), np.uint8),
                positions=self.positions[:1],
                probe=raw.probe,
                geometry=frames.geometry,
                background=frames.background,
                true_probe=raw.true_probe,
                name=raw.name,
            )
            if raw.truth is not None:
                validation.truth_covers(self.positions, self._size, raw.truth, validation.TRUTH, raw.name)
        self.name, self.probe, self.probe_calibrated = raw.name, rest.probe, raw.calibrated
        self.background, self.geometry, self.truth = rest.background, rest.geometry, raw.truth

    def _sweep(self, source: Hdf5Source) -> None:
        """Read all patterns once: check their values, and determine whether one mask holds for all."""
        shape = (self._size, self._size)
        always, ever, masked, lit, whole = np.ones(shape, bool), np.zeros(shape, bool), False, False, True
        for indices in pieces(len(self)):
            with _true_numbers(indices):
                frames = self._frames(source, indices)
                shown = np.broadcast_to(True if frames.mask is None else frames.mask, frames.values.shape)
                if (frames.values != 0)[shown].any():
                    # A piece without photons is valid as long as other pieces have some.
                    validation.counts_values(frames.values, frames.mask, source.where, frames.first)
                    lit = True
            if frames.domain == "amplitude":
                whole = whole and np.array_equal(frames.values, np.rint(frames.values))
            masked = masked or frames.mask is not None
            always &= shown.all(0)
            ever |= shown.any(0)
        with naming(frames):
            validation.mask_array(ever, (len(self), *shape), self.name)
            if not lit:
                validation.counts_values(frames.values, frames.mask, self.name)
        self._whole = whole
        self._varies = self._varies or not np.array_equal(always, ever)
        self.mask: Mask | None = always if masked and not self._varies else None


class _PartSource:
    """The arrays of a file with some of its patterns.

    Parameters
    ----------
    source : Hdf5Source
        The file.
    indices : int64 array
        The patterns.
    cut : mapping of str to int
        Keys of arrays with one entry per pattern, and the axis of the patterns.
    kept : mapping of str to array
        Arrays in memory, which replace those of the file.
    alone : bool
        Hide all other arrays.
    """

    def __init__(
        self,
        source: Hdf5Source,
        indices: Indices,
        cut: Mapping[str, int],
        kept: Mapping[str, NDArray[Any]],
        *,
        alone: bool,
    ) -> None:
        self.where = source.where
        self._source, self._indices, self._cut, self._kept = source, indices, cut, kept
        stored = source.headers()
        self._headers = {} if alone else dict(stored)
        for key, axis in cut.items():
            shape, dtype = stored[key]
            self._headers[key] = Header((*shape[:axis], len(indices), *shape[axis + 1 :]), dtype)
        self._headers |= {key: Header(array.shape, array.dtype) for key, array in kept.items()}

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every visible array."""
        return self._headers

    def read(self, key: str) -> NDArray[Any]:
        """The array under ``key``, of the selected patterns only."""
        if key in self._cut:
            return self._source.read_part(key, self._indices, self._cut[key])
        return self._kept[key] if key in self._kept else self._source.read(key)


def _has_patterns(path: Path) -> bool:
    """Whether the HDF5 file is a scan with patterns under one of the usual keys."""
    with open_hdf5(path) as file:
        source, declared = scan_group(file, path)
        result = declared is None and ("object" in file or "probe" in file)
        return not result and any(key in source.headers() for key in PATTERN_KEYS)


def _order(shape: tuple[int, ...], patterns: int, axes: str, where: str, key: str) -> str:
    """MHW or HWM: result of :func:`convert.arrange_axes` for the smallest array with the same equalities of axes."""
    small = {0: 0, 1: 1} | {length: 2 + i for i, length in enumerate(sorted({*shape, patterns} - {0, 1}))}
    try:
        _, said = convert.arrange_axes(
            np.empty([small[length] for length in shape], bool), small[patterns], axes, where, key
        )
    except InputError:
        # Once more with the true shape, for a message with the true numbers; it fails before anything is copied.
        convert.arrange_axes(np.broadcast_to(np.False_, shape), patterns, axes, where, key)
        raise
    return "HWM" if said else "MHW"


@contextmanager
def _true_numbers(indices: Indices) -> Iterator[None]:
    """Name the patterns ``indices``, which are consecutive, in the error of a wrong value."""
    try:
        yield
    except InputError as error:
        raise error.changed(found=f"in patterns {int(indices[0])} to {int(indices[-1])}, {error.found}") from None
