"""Patterns that stay in an HDF5 file and are read when they are asked for, by the road that :func:`diptych.load`
takes.
"""

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
"""How many patterns a message about what the file holds is made from."""


def open_patterns(source: Scan | str | Path, load: LoadOptions | None = None, *, stream: bool) -> Patterns:
    """The patterns of a scan in memory, or of a file.

    Parameters
    ----------
    source : Scan or path-like
        A scan, or the file of one.
    load : LoadOptions, optional
        What the file does not state itself; a scan in memory has no use for it.
    stream : bool
        Leave the patterns in the file, which takes HDF5; others are loaded, and the log says so.

    Raises
    ------
    InputError
        As :func:`diptych.load` does. A file that is streamed is gone through once, so that bad values are found now.
    """
    if isinstance(source, Scan):
        return ScanPatterns(source)
    path = Path(source)
    if stream and file_kind(path) == "hdf5" and _has_patterns(path):
        return Hdf5Patterns(path, load)
    if stream:
        log.info("%s: loaded into memory; only the patterns of a scan in HDF5 can be read in parts.", path)
    return ScanPatterns(load_scan(path, load))


class Hdf5Patterns:
    """A scan whose patterns stay in an HDF5 file; all else is what :func:`diptych.load` makes of it.

    Opening goes through the file once and refuses what loading would refuse. Copies that are sent to other processes,
    and processes that are forked, open the file for themselves.

    Parameters
    ----------
    path : path-like
        HDF5 with the keys of an NPZ scan, or a product that bundles them (``/raw_data``).
    load : LoadOptions, optional
        What the file does not state itself.

    Raises
    ------
    InputError
        If the file or the options are wrong.
    """

    def __init__(self, path: str | Path, load: LoadOptions | None = None) -> None:
        self.path = Path(path)
        load = load or LoadOptions()
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
            self._settle(source, load, y, x)
            self._options = load.with_changes(use_probe=False, probe_key=None, use_truth=False)
            self._whole = True
            self._sweep(source)
            # Both keys hold the same patterns, as is known by now.
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
        """Counts (n, N, N), zero frequency centred, 0 at masked pixels; and their masks where these vary.

        Raises
        ------
        InputError
            If the file cannot be read any more.
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
        """The file, opened by this process: what a parent opened is not for its children to read through."""
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
            # Squares are made whole where all are, within the stored precision: a few patterns must not pass for whole
            # by themselves.
            raw = replace(raw, values=raw.values.astype(np.float64))
        return to_counts(raw, self._options)

    def _part(self, source: Hdf5Source, indices: Indices, *, alone: bool) -> _PartSource:
        """The file with some of its patterns, and what is known of it; ``alone`` hides the rest, which a pattern has no
        use for.
        """
        lines = {key: line[indices] for key, line in self._lines.items()}
        return _PartSource(source, indices, self._cut, {**lines, **self._kept}, alone=alone)

    def _keep_mask(self, source: Hdf5Source, patterns: int) -> None:
        """A stored mask of each pattern is cut with the patterns, another is kept."""
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

    def _settle(self, source: Hdf5Source, load: LoadOptions, y: NDArray[Any], x: NDArray[Any]) -> None:
        """All that is no pattern, checked as a :class:`Scan` checks it."""
        first = np.arange(min(len(y), _FIRST))
        raw = read_scan(self._part(source, first, alone=False), load, self.path.stem, self._declared)
        frames = to_counts(raw, load)
        self._size = int(frames.values.shape[-1])
        # Mirroring is about the middle of the whole scan.
        positions, _ = convert.pixel_positions(y, x, load, frames.geometry, self._size, raw.where)
        with naming(raw):
            self.positions = validation.positions_array(positions, len(y), raw.name)
            validation.canvas_size(self.positions, self._size, raw.name)
            # A bright pattern stands for those in the file, which are checked one after the other.
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
                validation.windows_inside(self.positions, self._size, raw.truth, validation.TRUTH, raw.name)
        self.name, self.probe, self.probe_calibrated = raw.name, rest.probe, raw.calibrated
        self.background, self.geometry, self.truth = rest.background, rest.geometry, raw.truth

    def _sweep(self, source: Hdf5Source) -> None:
        """Go through all patterns once: check their values, and find the one mask of all, or that it varies."""
        shape = (self._size, self._size)
        always, ever, masked, lit, whole = np.ones(shape, bool), np.zeros(shape, bool), False, False, True
        for indices in pieces(len(self)):
            with _true_numbers(indices):
                frames = self._frames(source, indices)
                shown = np.broadcast_to(True if frames.mask is None else frames.mask, frames.values.shape)
                if (frames.values != 0)[shown].any():
                    # Patterns without a photon have nothing to check, and are wrong only where there are no others.
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
    """The arrays of a file, those in ``cut`` (key: axis of the patterns) cut down to some patterns, those in ``kept``
    from memory.

    ``alone`` hides all others.
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
        """Shape and type of every array that is shown."""
        return self._headers

    def read(self, key: str) -> NDArray[Any]:
        """The array under ``key``, of the chosen patterns only."""
        if key in self._cut:
            return self._source.read_part(key, self._indices, self._cut[key])
        return self._kept[key] if key in self._kept else self._source.read(key)


def _has_patterns(path: Path) -> bool:
    """Whether :func:`diptych.load_scan` would find patterns under their keys in the HDF5 file."""
    with open_hdf5(path) as file:
        source, declared = scan_group(file, path)
        result = declared is None and ("object" in file or "probe" in file)
        return not result and any(key in source.headers() for key in PATTERN_KEYS)


def _order(shape: tuple[int, ...], patterns: int, axes: str, where: str, key: str) -> str:
    """MHW or HWM: the judgement of :func:`convert.arrange_axes` on the smallest array whose axes are equal where the
    file's are.
    """
    small = {0: 0, 1: 1} | {length: 2 + i for i, length in enumerate(sorted({*shape, patterns} - {0, 1}))}
    try:
        _, said = convert.arrange_axes(
            np.empty([small[length] for length in shape], bool), small[patterns], axes, where, key
        )
    except InputError:
        # What is refused is refused before anything is copied: once more, for a message with the true numbers.
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
