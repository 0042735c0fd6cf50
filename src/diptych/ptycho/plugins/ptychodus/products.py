"""Ptychodus' input of a reconstruction as a Scan, and states of a reconstruction as its products."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import ReconstructInput

from diptych.errors import InputError
from diptych.ptycho.scan import Canvas, Geometry, Scan


@dataclass(frozen=True)
class Translation:
    """How lengths of a product relate to object pixels.

    Parameters
    ----------
    pixel : (2,) float
        Object pixel (y, x), m.
    shift : (2,) float
        Position in object pixels less position in metres over the pixel, (y, x).
    """

    pixel: NDArray[np.float64]
    shift: NDArray[np.float64]


def scan_of(given: ReconstructInput) -> tuple[Scan, Translation]:
    """The scan, with the product's probe as initial probe, and its object as ``truth`` where every window lies in it.

    Raises
    ------
    InputError
        If the product describes a near field, has no probe, or the patterns do not have the probe's size.
    """
    product = given.product
    name = product.metadata.name or "product"
    if not product.metadata.far_field:
        raise InputError(name, "declares near-field propagation", "far field, which diptych reconstructs")
    probe = product.probes.get_array()[0]
    side = int(given.diffraction_patterns.shape[-1])
    if probe.shape[-2:] != given.diffraction_patterns.shape[-2:]:
        raise InputError(
            name, f"its probe is {probe.shape[-2]} x {probe.shape[-1]} px", f"{side} px, the size of the patterns"
        )
    side_m = product.probes.get_pixel_geometry()
    pixel = np.array([side_m.height_m, side_m.width_m])
    metres = np.stack([product.probe_positions.get_coordinates_y_m(), product.probe_positions.get_coordinates_x_m()], 1)
    canvas, shift = _canvas(product, pixel, side)
    positions = metres / pixel + shift
    bad = np.asarray(given.bad_pixels, bool)
    scan = Scan(
        counts=np.ascontiguousarray(given.diffraction_patterns),
        positions=positions,
        probe=probe.astype(np.complex64),
        mask=~bad if bad.any() else None,
        geometry=_geometry(product, pixel, side),
        truth=canvas if canvas is not None and _inside(positions, side, canvas) else None,
        name=name,
    )
    return scan, Translation(pixel, shift)


def product_of(
    given: Product,
    translation: Translation,
    canvas: Canvas,
    probe: NDArray[Any],
    positions: NDArray[np.float64] | None,
    losses: list[tuple[int, float]],
) -> Product:
    """The product with this object, probe modes (P, N, N), refined positions (M, 2) in object pixels, and losses."""
    pixel, size = translation.pixel, probe.shape[-1]
    # The index (N // 2, N // 2) of a window is its centre here; there the centres of windows and objects lie at
    # (N - 1) / 2, half a pixel off for even N.
    half = np.asarray(canvas.shape) / 2 - (0.5 if size % 2 else 0.0)
    centre = (np.asarray(canvas.origin) + half - translation.shift) * pixel
    side = PixelGeometry(width_m=float(pixel[1]), height_m=float(pixel[0]))
    places = given.probe_positions
    if positions is not None:
        metres = (positions - translation.shift) * pixel
        counts = places.get_probe_photon_counts()
        places = ProbePositionSequence(
            [
                ProbePosition(int(i), float(x), float(y), None if counts is None else float(counts[k]))
                for k, (i, (y, x)) in enumerate(zip(places.get_indexes(), metres, strict=True))
            ]
        )
    return Product(
        metadata=given.metadata,
        probe_positions=places,
        probes=ProbeSequence(probe[None].astype(np.complex64), None, side),
        object_=Object(
            canvas.values[None].astype(np.complex64), side, ObjectCenter(x_m=float(centre[1]), y_m=float(centre[0]))
        ),
        losses=[LossValue(epoch, value) for epoch, value in losses],
    )


def without_truth(scan: Scan) -> Scan:
    """The scan alone: a product's object is a guess, not a truth."""
    return replace(scan, truth=None)


def _canvas(product: Product, pixel: NDArray[np.float64], size: int) -> tuple[Canvas | None, NDArray[np.float64]]:
    """The product's object, layers multiplied, and the shift that puts its pixels at whole coordinates."""
    image = np.prod(product.object_.get_array(), axis=0)
    if image.size == 0:
        return None, np.zeros(2)
    try:
        centre = product.object_.get_center()
    except ValueError:
        return None, np.zeros(2)
    first = np.array([centre.y_m, centre.x_m]) / pixel - np.asarray(image.shape) / 2 + (0.5 if size % 2 else 0.0)
    origin = np.rint(first)
    return Canvas(image.astype(np.complex64), (int(origin[0]), int(origin[1]))), origin - first


def _inside(positions: NDArray[np.float64], size: int, canvas: Canvas) -> bool:
    corners = np.floor(positions + 0.5) - size // 2
    y0, y1, x0, x1 = canvas.extent
    return bool((corners >= (y0, x0)).all() and (corners + size <= (y1, x1)).all())


def _geometry(product: Product, pixel: NDArray[np.float64], size: int) -> Geometry | None:
    """Energy and distance, with the detector pixel that belongs to the product's object pixel."""
    energy, distance = product.metadata.photon_energy_eV, product.metadata.detector_distance_m
    if not (energy > 0 and distance > 0):
        return None
    wave = Geometry(energy_eV=energy).wavelength_m
    assert wave is not None
    y, x = wave * distance / (size * pixel)
    return Geometry(energy_eV=energy, distance_m=distance, detector_pixel_m=(float(y), float(x)))
