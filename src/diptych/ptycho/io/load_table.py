"""The table of a load: what each part of a scan was taken to be, which dataset it comes from, what was derived."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.ptycho.scan import Scan

if TYPE_CHECKING:
    from diptych.ptycho.io.options import LoadOptions
    from diptych.ptycho.io.raw import RawScan

NOT_STATED = "not stated"
GIVEN = "given as an option"


def load_table(raw: RawScan, scan: Scan, options: LoadOptions) -> list[dict[str, Any]]:
    """Rows of ``part``, ``read as`` and ``from``, JSON values.

    Parameters
    ----------
    raw : RawScan
        What the reader of the format returned.
    scan : Scan
        The scan made of it.
    options : LoadOptions
        What the user stated.
    """
    rows: list[dict[str, Any]] = []

    def row(part: str, read_as: str, source: str) -> None:
        # Names only: a result is passed on, and folders of this machine are nobody's business.
        rows.append({"part": part, "read as": read_as, "from": _bare(source)})

    sources = raw.sources
    layout = str(raw.metadata.get("layout", "diptych"))
    row("format", layout, raw.where)
    row(
        "patterns",
        f"{raw.domain}, {' x '.join(map(str, scan.counts.shape))} {raw.values.dtype}",
        sources.get("patterns", layout),
    )
    row("axis order", raw.order or "patterns (pattern, y, x), positions (y, x)", layout)
    row("centring", _centring(options), GIVEN if options.corner_centred or options.move_y or options.move_x else layout)
    row("orientation", f"{options.orientation} of 0 to 7", GIVEN if options.orientation else "as stored")
    elsewhere = options.positions
    unit = raw.unit or (options.position_unit if elsewhere is None else "as that file states")
    row("positions", f"{len(scan)}, stored in {unit}", elsewhere or sources.get("positions", layout))
    row("position signs", _signs(raw, options), "derived" if raw.signs is not None else layout)
    row("scan rotation", f"{options.rotation:g} degrees", GIVEN if options.rotation else "as stored")
    row("mask", "none, all pixels are valid" if scan.mask is None else _mask(scan), sources.get("mask", layout))
    row("probe", "none" if scan.probe is None else f"{len(scan.probe)} modes", sources.get("probe", layout))
    _light(scan, options, sources, layout, row)
    return rows


def _bare(source: str) -> str:
    """A source without the folders of a path of this machine; paths inside a file are kept."""
    return Path(source).name if Path(source).is_absolute() and Path(source).exists() else source


def _light(scan: Scan, options: LoadOptions, sources: dict[str, str], layout: str, row: Any) -> None:
    """Particle, energy, wavelength, distance and pixels."""
    geometry = scan.geometry
    if geometry is None:
        row("geometry", "not known, lengths are in object pixels", NOT_STATED)
        return
    row("particle", geometry.particle, GIVEN if options.particle is not None else layout)
    for part, value, unit, option, key in (
        ("energy", geometry.energy_eV, "eV", options.energy_eV, "energy"),
        ("distance", geometry.distance_m, "m", options.distance_m, "distance"),
    ):
        text = "not known" if value is None else f"{value:.6g} {unit}"
        row(part, text, NOT_STATED if value is None else GIVEN if option is not None else sources.get(key, layout))
    pixel = geometry.detector_pixel_m
    source = (
        NOT_STATED
        if pixel is None
        else GIVEN
        if options.detector_pixel_m is not None
        else sources.get("detector pixel", layout)
    )
    row("detector pixel", "not known" if pixel is None else f"{pixel[0]:.4g} x {pixel[1]:.4g} m", source)
    if geometry.wavelength_m is not None:
        row("wavelength", f"{geometry.wavelength_m:.6g} m", "derived from particle and energy")
    if (side := scan.pixel_m) is not None:
        row("object pixel", f"{side[0]:.4g} x {side[1]:.4g} m", "derived: wavelength * distance / (N * detector pixel)")


def _centring(options: LoadOptions) -> str:
    if options.corner_centred:
        return "zero frequency at pixel [0, 0], moved to the centre"
    if options.move_y or options.move_x:
        return f"patterns moved by {options.move_y}, {options.move_x} px (y, x)"
    return "zero frequency at [N // 2, N // 2]"


def _signs(raw: RawScan, options: LoadOptions) -> str:
    y, x = raw.signs or (1.0, 1.0)
    signs = f"y {'-' if y < 0 else '+'}, x {'-' if x < 0 else '+'}"
    changes = [name for name in ("swap_xy", "flip_y", "flip_x") if getattr(options, name)]
    return signs + (f", then {', '.join(changes)}" if changes else "")


def _mask(scan: Scan) -> str:
    assert scan.mask is not None
    return f"True where valid; {1 - float(scan.mask.mean()):.2%} masked"
