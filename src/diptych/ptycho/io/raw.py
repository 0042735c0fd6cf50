"""A scan as a file stores it, and the conversion of every format to a :class:`Scan`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho import validation
from diptych.ptycho.io import convert
from diptych.ptycho.io.load_table import load_table
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.positions.join import joined
from diptych.ptycho.io.positions.table import UNITS, unit_named
from diptych.ptycho.io.stated import as_stated
from diptych.ptycho.scan import Canvas, Geometry, Scan


@dataclass(frozen=True)
class RawScan:
    """A scan as stored, as the reader of a format returns it.

    Parameters
    ----------
    where, name : str
        Names of the file and of the scan in messages.
    values : (M, N, N)
        Stored patterns, counts or amplitudes as ``domain`` says.
    y, x : (M,)
        Stored coordinates, in the unit that the options state.
    scale : float
        See :func:`diptych.ptycho.io.convert.counts_from`.
    said : list of str
        Conversions made so far, one sentence each.
    first : int
        Number of the first pattern in the whole scan, where this is a part of it.
    numbers : (M,), optional
        Numbers of the frames, where they are not 0, 1, 2, ...: what positions of another file are joined by.
    sources : dict of str to str
        Which dataset each part comes from: ``patterns``, ``positions``, ``probe``, ``mask``, ``background``,
        ``energy``, ``distance``, ``detector pixel``.
    order : str
        Order of the coordinates as they are stored, and of the axes of the patterns.
    unit : str
        Unit of the positions as they are stored.
    placed : bool
        The coordinates are in object pixels, whatever unit the options state.
    signs : (float, float), optional
        Signs of y and x that turned the stored positions into those of the scan.
    mask_means : {"", "valid", "bad"}
        What values other than 0 were taken to mean in the stored mask; empty where there is none.
    true_slices : (S, H, W), optional
        Slices of the true object.
    """

    where: str
    name: str
    values: NDArray[Any]
    y: NDArray[Any]
    x: NDArray[Any]
    domain: convert.Domain
    scale: float = 1.0
    probe: NDArray[Any] | None = None
    mask: NDArray[np.bool_] | None = None
    background: NDArray[Any] | None = None
    geometry: Geometry | None = None
    truth: Canvas | None = None
    true_probe: NDArray[Any] | None = None
    calibrated: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    first: int = 0
    numbers: NDArray[np.int64] | None = None
    sources: dict[str, str] = field(default_factory=dict)
    order: str = ""
    unit: str = ""
    placed: bool = False
    photons_per_count: float | None = None
    read_noise: float | None = None
    signs: tuple[float, float] | None = None
    mask_means: str = ""
    true_slices: NDArray[Any] | None = None


def finish(raw: RawScan, options: LoadOptions) -> Scan:
    """The scan: invalid values masked, values converted to counts, frames oriented, positions in object pixels, all
    checked.

    Raises
    ------
    InputError
        If a check of :class:`Scan` fails; the error names the file.
    """
    asked = options
    raw = as_stated(raw, options)
    if options.positions is not None:
        raw = joined(raw, options)
        options = options.with_changes(positions=None, position_unit="px")
    elif raw.placed and raw.unit != "px":
        options = options.with_changes(position_unit="px")
    frames = to_counts(raw, options)
    size = int(frames.values.shape[-1])
    positions, placed = convert.pixel_positions(raw.y, raw.x, options, frames.geometry, size, raw.where)
    metadata = dict(raw.metadata)
    if said := [*frames.said, *placed]:
        metadata["conversions"] = [*metadata.get("conversions", []), *said]
    with naming(raw):
        scan = Scan(
            counts=frames.values,
            positions=positions,
            probe=raw.probe,
            mask=frames.mask,
            geometry=frames.geometry,
            background=frames.background,
            truth=raw.truth,
            true_probe=raw.true_probe,
            true_slices=raw.true_slices,
            probe_calibrated=raw.calibrated,
            scale=1.0 if options.scale is not None and raw.domain == "counts" else raw.photons_per_count,
            read_noise=convert.read_noise(options.read_noise or raw.read_noise, raw.domain, raw.scale, raw.where),
            name=raw.name,
            metadata=metadata,
        )
    return replace(scan, metadata={**metadata, "load": load_table(raw, scan, asked)})


def to_counts(raw: RawScan, options: LoadOptions) -> RawScan:
    """The part of :func:`finish` that treats each pattern by itself: mask invalid values, convert to counts, orient
    the frames.
    """
    values, mask, settled = convert.mask_invalid(raw.values, raw.mask, options)
    validation.refuse_sentinel(values, mask, raw.where, raw.first)
    counts, counted = convert.counts_from(values, raw.domain, raw.scale, raw.where)
    frames, turned = _turn_frames(replace(raw, values=counts, mask=mask), options)
    return replace(frames, said=[*raw.said, *settled, *counted, *turned])


@contextmanager
def naming(raw: RawScan) -> Iterator[None]:
    """Name the file in the errors of a scan's checks, and the option that loads it without the part at fault."""
    try:
        yield
    except InputError as error:
        if not f"{error.where}:".startswith(f"{raw.name}:"):
            raise error.changed(where=f"{raw.where}: {error.where}") from None
        part = error.where[len(raw.name) :].removeprefix(": ")
        where = f"{raw.where}: {part}" if part else raw.where
        way_on = _WITHOUT.get(part, "")
        if part == "positions" and raw.placed and raw.unit != "px":
            way_on = f"They were read in {raw.unit}; --position-unit states another unit{_units_that_fit(raw)}."
        if part == "mask" and raw.mask_means:
            opposite = "valid" if raw.mask_means == "bad" else "bad"
            way_on = f"Values other than 0 were read as {raw.mask_means}; --mask-means {opposite} states the opposite."
        raise error.changed(where=where, remedy=f"{error.remedy} {way_on}".strip()) from None


PLAUSIBLE_SPAN = 2.0, 2e4
"""Object pixels over which positions of a scan extend."""


def _units_that_fit(raw: RawScan) -> str:
    """The units in which the positions, which are in object pixels, would extend over a plausible range."""
    read = UNITS.get(unit_named(raw.unit) or "px")
    if read is None:
        return ""
    spans = {unit: max(np.ptp(raw.y), np.ptp(raw.x)) * metres / read for unit, metres in convert.LENGTHS.items()}
    fitting = {unit: span for unit, span in spans.items() if PLAUSIBLE_SPAN[0] <= span <= PLAUSIBLE_SPAN[1]}
    if not fitting:
        return ""
    return f" (object pixels that they extend over: {', '.join(f'{s:.3g} in {unit}' for unit, s in fitting.items())})"


_WITHOUT = {
    validation.TRUTH: "If objectGuess is only a guess, pass use_truth=False (--no-use-truth).",
    validation.PROBE: "To load the scan without its probe, pass use_probe=False (--no-use-probe).",
}


def reread(scan: Scan, options: LoadOptions) -> Scan:
    """The scan as loaded with these ``options`` in addition to those it was loaded with, without its truth."""
    raw = RawScan(
        where=scan.name,
        name=scan.name,
        values=scan.counts,
        y=scan.positions[:, 0],
        x=scan.positions[:, 1],
        domain="counts",
        probe=scan.probe,
        mask=scan.mask,
        background=scan.background,
        geometry=scan.geometry,
        calibrated=scan.probe_calibrated,
        metadata=scan.metadata,
        read_noise=scan.read_noise,
    )
    return replace(finish(raw, options), scale=scan.scale)


def _turn_frames(raw: RawScan, options: LoadOptions) -> tuple[RawScan, list[str]]:
    """Patterns, mask and background with zero frequency in the centre and in the orientation of the options."""

    def each(change: Callable[[NDArray[Any]], NDArray[Any]]) -> RawScan:
        mask = None if raw.mask is None else change(raw.mask)
        background = raw.background if raw.background is None or raw.background.ndim < 2 else change(raw.background)
        return replace(raw, values=change(raw.values), mask=mask, background=background)

    said: list[str] = []
    if options.corner_centred:
        raw = each(lambda frames: np.fft.fftshift(frames, (-2, -1)))
        said.append("zero frequency moved from pixel [0, 0] to the centre")
    if options.move_y or options.move_x:
        raw = each(lambda frames: np.roll(frames, (options.move_y, options.move_x), (-2, -1)))
        entered = convert.entered(raw.values.shape[-2:], options.move_y, options.move_x)
        raw = replace(raw, mask=~entered if raw.mask is None else raw.mask & ~entered)
        said.append(
            f"patterns moved by {options.move_y}, {options.move_x} px (y, x); pixels entering at the edges are masked"
        )
    if options.orientation:
        raw = each(lambda frames: convert.turn(frames, options.orientation))
        if raw.geometry is not None:
            pixel = raw.geometry.detector_pixel_m
            raw = replace(
                raw,
                geometry=replace(
                    raw.geometry,
                    orientation=convert.compose_turns(raw.geometry.orientation, options.orientation),
                    detector_pixel_m=pixel if pixel is None or not options.orientation & 4 else pixel[::-1],
                ),
            )
        said.append(f"patterns turned by orientation {options.orientation}")
    return raw, said
