"""Parts of NeXus files (NXptycho, PtyREX, Diamond): lengths with units, positions as separate ``x`` and ``y``, and what
CXI and NeXus state of the beam and the detector.

``x`` and ``y`` stand beside the patterns, one number for each pattern, or one for each column and each row of a raster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import real_from
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import ENERGY_UNITS, energy_unit, photon_energy_eV, wavelength_energy_eV
from diptych.ptycho.io.positions.table import UNITS, unit_named
from diptych.ptycho.io.source import TreeSource

ENERGIES = (
    "entry_1/instrument_1/beam_1/energy",
    "entry_1/instrument_1/source_1/energy",
    "entry_1/instrument/beam/energy",
    "entry_1/instrument_1/beam_1/incident_beam_energy",
)
WAVELENGTHS = (
    "entry_1/instrument_1/source_1/wavelength",
    "entry_1/instrument_1/beam_1/incident_wavelength",
    "entry_1/instrument_1/beam_1/wavelength",
)
PARTICLES = ("entry_1/instrument_1/source_1/probe", "entry_1/instrument/source/probe")


def first(source: TreeSource, paths: tuple[str, ...]) -> str | None:
    """The first of ``paths`` that is an array."""
    return next((path for path in paths if source.header(path) is not None), None)


def lengths_m(source: TreeSource, path: str, said: list[str]) -> NDArray[np.float64]:
    """The numbers at ``path`` in metres, by the attribute ``units``; without one they are metres.

    Raises
    ------
    InputError
        If the unit is stated and is no length.
    """
    values = real_from(source, path, "lengths").astype(np.float64)
    stated = source.attributes(path).get("units")
    if stated in (None, ""):
        return values
    scale = UNITS.get(unit_named(stated) or "px")
    if scale is None:
        raise InputError(f"{source.where}: {path}", f"has the unit {stated!r}", "a length: m, mm, um, nm")
    if scale != 1.0:
        said.append(f"{path} converted from {stated} to m")
    return values * scale


def one_number(source: TreeSource, path: str, values: NDArray[np.float64], said: list[str]) -> float:
    """The number at ``path``; of one for each frame, the median, where they agree to 1e-3.

    Raises
    ------
    InputError
        If there is none, or they differ.
    """
    found = np.ravel(values)
    found = found[np.isfinite(found)]
    if not found.size or np.ptp(found) > 1e-3 * abs(float(np.median(found))):
        span = f" and values from {found.min():.6g} to {found.max():.6g}" if found.size else ""
        text = f"has shape {values.shape}{span}"
        raise InputError(f"{source.where}: {path}", text, "one number, or the same for each frame")
    if found.size > 1:
        said.append(f"{path} holds {found.size} numbers that agree; their median is read")
    return float(np.median(found))


def wavelength_m(source: TreeSource, path: str, said: list[str]) -> float:
    """The wavelength at ``path`` in metres, by its ``units``; without them, numbers above 1e-6 are angstroms."""
    values = lengths_m(source, path, said)
    value = one_number(source, path, values, said)
    if source.attributes(path).get("units") in (None, "") and value > 1e-6:
        said.append(f"{path} states no unit: {value:.6g} is read in angstroms, as NeXus prescribes")
        return value * 1e-10
    return value


def axes_beside(source: TreeSource, patterns: str) -> tuple[str, str] | None:
    """Paths of ``y`` and ``x`` in the group of the patterns; None where they are not both there."""
    group = patterns.rpartition("/")[0]
    paths = f"{group}/y", f"{group}/x"
    return paths if all(source.header(path) is not None for path in paths) else None


def positions_m(
    source: TreeSource, axes: tuple[str, str], scan_shape: tuple[int, ...], said: list[str]
) -> NDArray[np.float64]:
    """Positions (M, 3), (x, y, 0) in metres, from the datasets ``axes`` (y, x) of patterns that were taken in
    ``scan_shape``, (M,) or (rows, columns).

    Raises
    ------
    InputError
        If they are neither one for each pattern nor the axes of the raster.
    """
    y, x = (np.squeeze(lengths_m(source, path, said)) for path in axes)
    count = int(np.prod(scan_shape))
    if y.size == x.size == count:
        y, x = y.ravel(), x.ravel()
    elif (y.size, x.size) == scan_shape or (len(scan_shape) == 1 and y.size * x.size == count):
        y, x = (line.ravel() for line in np.meshgrid(y.ravel(), x.ravel(), indexing="ij"))
        said.append("y and x are the axes of a raster, x fastest")
    else:
        raise InputError(
            source.where,
            f"{axes[0]} has {y.size} numbers, {axes[1]} {x.size}, and there are {count} patterns",
            "one of each for each pattern, or the axes of the raster",
        )
    said.append(f"positions read from {axes[0]} and {axes[1]}")
    return np.stack([x, y, np.zeros(count)], axis=1)


def particle_of(source: TreeSource) -> str | None:
    """Particle that the file names as the ``probe`` of its source (a NeXus word), if that is the electron."""
    for path in PARTICLES:
        header = source.header(path)
        if header is not None and header.dtype.kind in "OSU" and int(np.prod(header.shape)) == 1:
            found = np.ravel(source.read(path))[0]
            text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
            if text.strip().lower() == "electron":
                return "electron"
    return None


def stated_geometry(source: TreeSource, detector: str, options: LoadOptions, said: list[str]) -> dict[str, Any]:
    """What the file states of particle, energy, propagation, distances and detector pixel: arguments of
    :func:`diptych.ptycho.io.physical.geometry_of`. ``detector`` is the path of its group.

    Raises
    ------
    InputError
        If a number is none or has another unit, or the energy is implausible.
    """

    def number(path: str) -> float | None:
        if source.header(path) is None:
            return None
        return one_number(source, path, lengths_m(source, path, said), said)

    stated: dict[str, Any] = {"distance_m": number(f"{detector}/distance")}
    stated["detector_pixel_m"] = _pixels([number(f"{detector}/{each}pixel_size") for each in ("y_", "x_", "")], said)
    about = source.attributes(detector)
    if "propagation" in about:
        stated["propagation"] = str(about["propagation"])
        said.append(f"propagation: {stated['propagation']} field, from {detector}")
    if "focus_distance_m" in about:
        stated["focus_distance_m"] = float(about["focus_distance_m"])
    # NeXus files keep the energy of the storage ring, in GeV, where others keep that of the photons.
    texts = {path: source.attributes(path).get("units") for path in ENERGIES if source.header(path) is not None}
    units = {path: energy_unit(text) for path, text in texts.items() if not text or energy_unit(text) is not None}
    path = next(iter(units), None)
    if (particle := particle_of(source)) is not None:
        stated["particle"] = particle
        said.append(f"particle: {particle}")
    if options.energy_eV is None and path is not None and "electron" in (particle, options.particle):
        value = one_number(source, path, real_from(source, path, "energies").astype(np.float64), said)
        stated["energy_eV"] = value * ENERGY_UNITS[units[path] or "J"]
        said.append(f"kinetic energy read in {units[path] or 'J'} from {path}")
    elif options.energy_eV is None and path is not None:
        where = f"{source.where}: {path}"
        value = one_number(source, path, real_from(source, path, "energies").astype(np.float64), said)
        stated["energy_eV"], how = photon_energy_eV(value, units[path], where)
        said.append(how)
    elif options.energy_eV is None and particle is None and (path := first(source, WAVELENGTHS)) is not None:
        stated["energy_eV"] = wavelength_energy_eV(wavelength_m(source, path, said))
        said.append(f"energy derived from the wavelength in {path}")
    return stated


def _pixels(stated: list[float | None], said: list[str]) -> tuple[float, float] | None:
    """Detector pixel (y, x) from ``y_pixel_size``, ``x_pixel_size`` and ``pixel_size``; one of them is that of both."""
    y, x, both = stated
    known = next((side for side in (y, x, both) if side is not None), None)
    if known is None:
        return None
    if y is None or x is None:
        said.append("the file states one side of a detector pixel: it is read as square")
    return (known if y is None else y), (known if x is None else x)
