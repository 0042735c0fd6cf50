"""Two halves of one scan, for the resolution without a truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.evaluate.align import Alignment, align
from diptych.ptycho.evaluate.gauge import resolve_gauge
from diptych.ptycho.evaluate.options import Gauge
from diptych.ptycho.evaluate.resolution import RingCorrelation, fourier_ring_correlation
from diptych.ptycho.physics.measured import compared_box, scan_light
from diptych.ptycho.scan import Reconstruction, Scan

Split = Literal["positions", "thinning"]

SHARED_START = (
    "both halves start from the same initial probe, which correlates them: the resolution may be overestimated"
)
_SPLIT_NOTES = {
    "positions": "halves: a checkerboard of the scan positions, so each half has half the overlap",
    "thinning": "halves: every photon given to one of them at random, so each has half the dose at full overlap",
}
_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class HalfScanResult:
    """Two reconstructions of one sample from separate data, and their correlation.

    Parameters
    ----------
    alignment : Alignment
        The second half (``result``) on the first (``truth``).
    halves : (Reconstruction, Reconstruction)
        The reconstructions, as returned by the engine.
    gauge : str
        What was removed between the halves, and why.
    note : str
        How the data were split, and what correlates the halves.
    pixel_m : (float, float), optional
        Object pixel (y, x) in metres.
    """

    alignment: Alignment
    halves: tuple[Reconstruction, Reconstruction]
    gauge: str
    note: str
    pixel_m: tuple[float, float] | None = None

    @cached_property
    def curve(self) -> RingCorrelation:
        """Ring correlation of the two aligned complex objects; the threshold for it is 1/7.

        Raises UndefinedMetricError when they are flat.
        """
        first, second = self.alignment.truth.values, self.alignment.result.values
        return fourier_ring_correlation(
            first, second, mask=self.alignment.mask, pixel_m=self.pixel_m, label="half against half"
        )


def half_scan_frc(
    scan: Scan,
    reconstruct: Callable[[Scan], Reconstruction] | None = None,
    *,
    split: Split = "positions",
    gauge: Gauge | Literal["auto"] = "auto",
    crop: Literal["scan", "all"] = "scan",
    max_shift: int = 16,
    seed: int = 0,
) -> HalfScanResult:
    """Fourier ring correlation of two reconstructions, each from one half of the data.

    Parameters
    ----------
    scan : Scan
        M patterns of N x N counts.
    reconstruct : callable, optional
        Turns a scan into a Reconstruction; :func:`diptych.reconstruct` without options by default.
    split : {"positions", "thinning"}
        Checkerboard of the positions, or binomial thinning of integer counts.
    gauge : {"auto", "full", "scale", "phase", "none"}
        What is removed between the halves; auto removes what the data leave undetermined.
    crop : {"scan", "all"}
        Compare the illuminated part of the scanned area, or the whole area that both halves cover.
    max_shift : int
        Largest shift searched between the halves, object pixels.
    seed : int
        Seed of the thinning.

    Returns
    -------
    HalfScanResult
        With the ``curve`` and the aligned halves.

    Raises
    ------
    InputError
        If the scan has under 4 positions, or counts to be thinned are not whole numbers.
    """
    if reconstruct is None:
        from diptych.ptycho.reconstruct import reconstruct as reconstruct_default

        reconstruct = reconstruct_default
    scans = checkerboard(scan) if split == "positions" else thin(scan, np.random.default_rng(seed))
    first, second = reconstruct(scans[0]), reconstruct(scans[1])
    chosen, why = resolve_gauge(gauge, first)
    # That of the whole scan: halves of a scan with little overlap may be lit in different places.
    light = scan_light(scan, first.probe) if crop == "scan" else None
    box = compared_box(scan.positions, light) if crop == "scan" else None
    alignment = align(second.object, first.object, box, chosen, max_shift, light)
    note = f"{_SPLIT_NOTES[split]}; {SHARED_START}"
    return HalfScanResult(alignment, (first, second), why, note, first.object.pixel_m or scan.pixel_m)


def checkerboard(scan: Scan) -> tuple[Scan, Scan]:
    """Two halves of a scan whose positions interleave like the colours of a checkerboard.

    Raises
    ------
    InputError
        If the scan has under 4 positions.
    """
    if len(scan) < 4:
        raise InputError(f"scan {scan.name!r}", f"has {len(scan)} positions", "at least 4 to split it into two scans")
    colour = two_colours(scan.positions)
    return _part(scan, np.flatnonzero(colour), 1), _part(scan, np.flatnonzero(~colour), 2)


def two_colours(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Balanced two-colouring of points that gives neighbours different colours as far as possible.

    Parameters
    ----------
    positions : (M, 2) float64
        (y, x).

    Returns
    -------
    (M,) bool
        Colour of each point; the two colours differ by at most one point in number.

    Notes
    -----
    Greedy descent of an Ising antiferromagnet with coupling exp(-2 (d / a)^2), a the mean spacing: exact on a raster,
    near the optimum on jittered rasters and spirals. Deterministic.
    """
    from scipy.spatial import cKDTree

    count = len(positions)
    spans = np.maximum(np.ptp(positions, axis=0), 1e-9)
    spacing = max(float(np.sqrt(spans.prod() / count)), float(spans.max()) / count)
    tree = cKDTree(positions)
    near = min(count, 13)
    distance, neighbour = tree.query(positions, k=near)
    coupling = np.exp(-2 * (distance / spacing) ** 2)
    # A point is among its own neighbours, but not always the first one where positions repeat.
    coupling[neighbour == np.arange(count)[:, None]] = 0
    order = np.lexsort((positions[:, 1], np.floor((positions[:, 0] - positions[:, 0].min()) / spacing + 0.5)))
    spin = np.zeros(count)
    for sweep in range(20):
        changed = False
        for i in order:
            field = float(coupling[i] @ spin[neighbour[i]])
            new = 1.0 if field < 0 or (field == 0 and (sweep == 0 or spin[i] > 0)) else -1.0
            changed |= new != spin[i]
            spin[i] = new
        if not changed:
            break
    excess = int(spin.sum()) // 2 if spin.sum() > 0 else -(int(-spin.sum()) // 2)
    if excess:
        # Flip the points of the larger colour whose flip raises the energy least.
        local = (coupling * spin[neighbour]).sum(axis=1) * spin
        larger = np.flatnonzero(spin == np.sign(excess))
        spin[larger[np.argsort(-local[larger], kind="stable")[: abs(excess)]]] *= -1
    return np.asarray(spin > 0)


def thin(scan: Scan, rng: np.random.Generator) -> tuple[Scan, Scan]:
    """Split a scan by photons into two scans with independent Poisson counts of half the dose.

    Each photon of the original is in exactly one of them.

    Parameters
    ----------
    scan : Scan
        With integer counts at valid pixels.
    rng : numpy.random.Generator
        Random numbers of the binomial thinning.

    Returns
    -------
    (Scan, Scan)
        At valid pixels, their counts add up to the original ones; masked pixels are 0. A known background and the
        photons of a calibrated probe are halved.

    Raises
    ------
    InputError
        If a valid count is not a whole number.
    """
    first, second = np.zeros_like(scan.counts), np.zeros_like(scan.counts)
    step = max(1, _CHUNK_BYTES // (8 * scan.size**2))
    for start in range(0, len(scan), step):
        part = slice(start, start + step)
        counts = scan.counts[part]
        if scan.mask is not None:
            counts = np.where(scan.mask if scan.mask.ndim == 2 else scan.mask[part], counts, 0)
        whole = counts if np.issubdtype(counts.dtype, np.integer) else np.rint(counts)
        if scan.read_noise is not None:
            raise InputError(
                f"scan {scan.name!r}",
                "holds readings with read noise, which cannot be thinned",
                "photon counts",
                "Split by positions instead (split='positions', --split positions).",
            )
        if not np.array_equal(whole, counts):
            fractional = counts[whole != counts]
            raise InputError(
                f"scan {scan.name!r}",
                f"{fractional.size} counts of patterns {start}..{start + len(counts) - 1} are not whole numbers "
                f"(first: {fractional[0]})",
                "photon counts, for thinning",
                "Split by positions instead (split='positions', --split positions).",
            )
        photons = whole.astype(np.int64)
        kept = rng.binomial(photons, 0.5)
        first[part], second[part] = kept, photons - kept
    half = np.float32(np.sqrt(0.5))
    halved = replace(
        scan,
        background=None if scan.background is None else scan.background * np.float32(0.5),
        probe=scan.probe * half if scan.probe is not None and scan.probe_calibrated else scan.probe,
        true_probe=None if scan.true_probe is None else scan.true_probe * half,
    )
    return (
        replace(halved, counts=first, name=f"{scan.name}, half of the photons 1"),
        replace(halved, counts=second, name=f"{scan.name}, half of the photons 2"),
    )


def _part(scan: Scan, index: NDArray[np.intp], number: int) -> Scan:
    mask = scan.mask[index] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
    return replace(
        scan, counts=scan.counts[index], positions=scan.positions[index], mask=mask, name=f"{scan.name}, half {number}"
    )
