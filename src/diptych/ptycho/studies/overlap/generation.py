"""Phases A to D: the scan at each dose, its disjoint halves along y, and what a view keeps of a half."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.studies.overlap.metrics import (
    EPSILON,
    centre_overlap,
    geometry_bound,
    group_overlap,
    image_overlap,
)

if TYPE_CHECKING:
    from diptych.ptycho.scan import Scan

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

METRICS_VERSION = "1.0"
SEED_SIMULATION, SEED_GROUPING, SEED_SUBSAMPLING = 42, 123, 456


@dataclass(frozen=True)
class View:
    """What is used of a half of the scan.

    Parameters
    ----------
    name : str
        For instance ``dense``.
    fraction : float
        s_img: share of the half's patterns that are kept.
    groups : int or None
        Groups of neighbours; None for one per pattern.
    gridsize : int
        g.
    """

    name: str
    fraction: float
    groups: int | None
    gridsize: int


def at_dose(base: Scan, dose: float, seed: int) -> Scan:
    """The base scan simulated again with ``dose`` detected photons per pattern."""
    from diptych.ptycho.simulate import simulate

    if base.truth is None or (base.probe is None and base.true_probe is None):
        raise InputError(
            base.name, "has no object or no probe to simulate from", "a scan with its true object and a probe"
        )
    probe = base.probe if base.true_probe is None else base.true_probe
    return simulate(object=base.truth, probe=probe, positions=base.positions, dose=dose, seed=seed)


def halves(positions: NDArray[np.float64], size: int) -> dict[Split, NDArray[np.int64]]:
    """Indices of the patterns of two halves along y whose windows share no pixel of the object.

    Raises
    ------
    InputError
        If the scan is not higher than a window.
    """
    y = positions[:, 0]
    middle = float(np.median(y))
    found: dict[Split, NDArray[np.int64]] = {
        "train": np.flatnonzero(y <= middle - size / 2),
        "test": np.flatnonzero(y >= middle + size / 2),
    }
    if min(map(len, found.values())) < 4:
        raise InputError(
            "overlap: split along y",
            f"{[len(each) for each in found.values()]} patterns are left on the two sides: the scan is "
            f"{np.ptp(y):.0f} px high and a window {size} px",
            "a scan that is at least twice as high as a window",
        )
    return found


def part(scan: Scan, index: NDArray[np.int64], name: str) -> Scan:
    """Some patterns of a scan, with its object and probe."""
    mask = scan.mask[index] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
    return replace(scan, counts=scan.counts[index], positions=scan.positions[index], mask=mask, name=name, metadata={})


def subsample(count: int, fraction: float, seed: int) -> NDArray[np.int64]:
    """Sorted indices of floor(fraction * count) patterns, drawn without replacement.

    Raises
    ------
    InputError
        If none is left.
    """
    kept = int(np.floor(fraction * count))
    if kept < 1:
        raise InputError("overlap: s_img", f"{fraction:g} of {count} patterns leaves none", "a larger share")
    return np.sort(np.random.default_rng(seed).choice(count, kept, replace=False)).astype(np.int64)


def overlap_metrics(
    positions: NDArray[np.float64], total: int, view: View, diameter: float, neighbours: int, seed: int
) -> dict[str, Any]:
    """The three overlap metrics of a view, its parameters and counts, and the geometry bound (JSON values).

    Parameters
    ----------
    positions : (M, 2)
        Of the patterns that the view keeps.
    total : int
        Patterns before the subsample.
    """
    from diptych.ptycho.neural.data.grouping import make_groups

    count = view.groups or len(positions)
    grouped = make_groups(
        positions,
        gridsize=view.gridsize,
        n_groups=count,
        neighbours=neighbours if view.gridsize > 1 else None,
        oversample=count > len(positions),
        seed=seed,
    )
    bound = geometry_bound(positions, diameter)
    return {
        "metrics_version": METRICS_VERSION,
        "s_img": view.fraction,
        "neighbours": neighbours,
        "probe_diameter_px": diameter,
        "overlap_group": group_overlap(positions, grouped.members, diameter, neighbours) if view.gridsize > 1 else None,
        "overlap_image": image_overlap(positions, diameter, neighbours),
        "overlap_centre": centre_overlap(positions, grouped.members, diameter),
        "n_images_total": total,
        "n_images_subsampled": len(positions),
        "n_unique_images": len(np.unique(positions, axis=0)),
        "n_groups_actual": len(grouped.members),
        "geometry_acceptance_bound": bound,
        "effective_min_acceptance": max(bound, EPSILON),
    }
