"""Objects that can be shifted exactly: band-limited and periodic on a canvas larger than what is compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.ptycho.scan import Canvas, Reconstruction, Scan

Field = NDArray[np.complex128]
SIDE = 128
MARGIN = 20


def band_limited(side: int, limit: float, rng: np.random.Generator) -> Field:
    """1 + a complex Gaussian random field without frequencies above ``limit`` cycles per pixel."""
    f = np.fft.fftfreq(side)
    kept = np.hypot(f[:, None], f) < limit
    field = np.fft.ifft2(
        np.where(kept, np.fft.fft2(rng.normal(size=(side, side)) + 1j * rng.normal(size=(side, side))), 0)
    )
    return 1 + 0.25 * field / field.std()


def displaced(
    field: Field, shift: tuple[float, float], ramp: tuple[float, float] = (0.0, 0.0), scale: complex = 1.0
) -> Field:
    """scale * exp(i ramp . r) * field(r - shift), r counted from pixel [0, 0]; exact for periodic band-limited
    fields."""
    fy, fx = (np.fft.fftfreq(n) for n in field.shape)
    moved = np.fft.ifft2(np.fft.fft2(field) * np.exp(-2j * np.pi * (fy[:, None] * shift[0] + fx * shift[1])))
    y, x = (np.arange(n) for n in field.shape)
    return scale * moved * np.exp(1j * ramp[0] * y)[:, None] * np.exp(1j * ramp[1] * x)


@pytest.fixture(scope="session")
def field() -> Field:
    return band_limited(SIDE, 0.18, np.random.default_rng(3))


@pytest.fixture(scope="session")
def displace() -> Callable[..., Field]:
    return displaced


@pytest.fixture(scope="session")
def truth(field: Field) -> Canvas:
    return Canvas(field, origin=(-7, 11))


@pytest.fixture(scope="session")
def box(truth: Canvas) -> tuple[int, int, int, int]:
    y0, y1, x0, x1 = truth.extent
    return y0 + MARGIN, y1 - MARGIN, x0 + MARGIN, x1 - MARGIN


@pytest.fixture(scope="session")
def positions(box: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """A raster whose bounding box is ``box``."""
    y, x = np.meshgrid(np.linspace(box[0], box[1], 9), np.linspace(box[2], box[3], 9), indexing="ij")
    return np.stack([y.ravel(), x.ravel()], axis=1)


@pytest.fixture(scope="session")
def probe() -> NDArray[np.complex64]:
    y, x = np.mgrid[:16, :16] - 8
    # Wide enough to leave no gap between the positions of the raster.
    return (20 * np.exp(-(y**2 + x**2) / 98 + 0.1j * x * y)).astype(np.complex64)


@pytest.fixture(scope="session")
def as_result(positions: NDArray[np.float64], probe: NDArray[np.complex64]) -> Callable[..., Reconstruction]:
    """Makes a Reconstruction of a canvas; ``treatment`` is what its provenance says of the probe."""

    def make(canvas: Canvas, treatment: str | None = "refine", **fields: object) -> Reconstruction:
        provenance = {} if treatment is None else {"options": {"probe": treatment}}
        return Reconstruction(canvas, probe, positions, provenance=provenance, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def scan(truth: Canvas, positions: NDArray[np.float64], probe: NDArray[np.complex64]) -> Scan:
    """Poisson counts of the band-limited object on whole-pixel positions."""
    whole = np.rint(positions)
    corners = (whole - 8 - np.array(truth.origin)).astype(int)
    windows = np.stack([truth.values[y : y + 16, x : x + 16] for y, x in corners])
    far = np.fft.fftshift(np.fft.fft2(windows * probe, norm="ortho"), axes=(-2, -1))
    counts = np.random.default_rng(5).poisson(np.abs(far) ** 2).astype(np.uint16)
    return Scan(counts, whole, probe, truth=truth, true_probe=probe, name="little scan")
