"""Options of the study ``overlap``, and its grid of each size."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, PositiveFloat

from diptych.ptycho.simulate.options import ObjectKind
from diptych.ptycho.studies.overlap.generation import SEED_GROUPING, SEED_SIMULATION, SEED_SUBSAMPLING, View
from diptych.ptycho.studies.training import TrainingStudyOptions
from diptych.runtime.options import LocalPath

DENSE_GROUPS = 5216
"""Groups of the full setting; with fewer the study is labelled as scaled."""


class OverlapOptions(TrainingStudyOptions):
    """Options of the study ``overlap``. Without them, ``size`` decides."""

    base: LocalPath = Field(
        None,
        description="Scan file whose object, probe and positions are simulated at each dose; by default a simulated "
        "scan.",
    )
    object: ObjectKind = Field("natural", description="Kind of simulated object, without a base file.")
    patterns: int | None = Field(None, ge=64, description="Patterns of the whole scan, without a base file.")
    step: PositiveFloat | None = Field(None, description="Step of the scan, px, without a base file.")
    pattern_size: int | None = Field(None, ge=16, le=1024, description="Side N of the patterns, px, without a file.")
    doses: tuple[PositiveFloat, ...] | None = Field(
        None, min_length=1, description="Mean detected photons per pattern, one value per dose."
    )
    dense: float = Field(0.7, gt=0, le=1, description="s_img of the dense view: share of each half's patterns.")
    sparse: float = Field(0.2, gt=0, le=1, description="s_img of the sparse view.")
    groups: int | None = Field(
        None, ge=1, description="Groups of neighbours of the dense view; the sparse one has a number in proportion."
    )
    gridsize: int = Field(2, ge=1, le=2, description="g of the physics-informed network; the baseline has 1.")
    neighbours: int = Field(6, ge=3, description="K: nearest neighbours of the overlap metrics and of the groups.")
    probe_diameter: PositiveFloat | None = Field(
        None, description="D of the overlap metrics, px; by default 0.6 N (38.4 at N = 64)."
    )
    simulation_seed: int = Field(SEED_SIMULATION, ge=0, description="Seed of object and noise.")
    grouping_seed: int = Field(SEED_GROUPING, ge=0, description="Seed of the groups.")
    subsampling_seed: int = Field(SEED_SUBSAMPLING, ge=0, description="Seed of the subsamples.")
    ptychi: LocalPath = Field(
        None,
        description="Folder with Pty-Chi results as dose_DOSE/VIEW/SPLIT/ptychi_reconstruction.npz, which join the "
        "comparison as PtyChi; for instance dose_1000/dense/test.",
    )


@dataclass(frozen=True)
class Grid:
    """The values that ``size`` decides."""

    doses: tuple[float, ...]
    patterns: int
    step: float
    pattern_size: int
    groups: int
    epochs: int
    repeats: int


_GRIDS = {
    "quick": Grid((1e4,), 400, 8.0, 64, 96, 3, 1),
    "standard": Grid((1e3, 1e4, 1e5), 1600, 6.0, 64, 700, 15, 3),
    "full": Grid((1e3, 1e4, 1e5), 16384, 4.0, 128, DENSE_GROUPS, 50, 1),
}


def grid_of(options: OverlapOptions) -> Grid:
    """The grid of ``size``, with the options that are set in place of its values."""
    base = _GRIDS[options.size]
    return Grid(**{name: getattr(options, name) or value for name, value in vars(base).items()})


def views(options: OverlapOptions) -> tuple[View, View]:
    """The dense and the sparse view."""
    groups = grid_of(options).groups
    fewer = max(1, round(groups * options.sparse / options.dense))
    return (
        View("dense", options.dense, groups, options.gridsize),
        View("sparse", options.sparse, fewer, options.gridsize),
    )


def setting(options: OverlapOptions) -> str:
    """``dense`` at full size, else ``scaled``."""
    return "dense" if grid_of(options).groups >= DENSE_GROUPS else "scaled"
