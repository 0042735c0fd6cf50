"""From scans to what training needs: patterns, a split, groups, and the scale of the network's input."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io import LoadOptions, scan_group
from diptych.ptycho.io.files import file_kind
from diptych.ptycho.io.scans.npz import PATTERN_KEYS
from diptych.ptycho.io.source import open_hdf5
from diptych.ptycho.neural.data.grouping import Groups, make_groups
from diptych.ptycho.neural.data.hdf5 import open_patterns
from diptych.ptycho.neural.data.patterns import PIECE, Patterns
from diptych.ptycho.neural.data.split import energy_diameter, split_by_blocks
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.ptycho.neural.probe_model import Beam
from diptych.ptycho.scan import Scan

log = logging.getLogger("diptych")

STREAM_ABOVE = 10_000
"""Scans with more groups than this are read from their file, where that is possible."""

SCALED_FROM = 512
"""Training patterns that the input scale is measured on."""

Source = Scan | str | Path


@dataclass(frozen=True, eq=False)
class Lesson:
    """One scan, and what of it is used for what.

    Parameters
    ----------
    patterns : Patterns
        The scan.
    train, validation : int64 arrays
        Patterns on either side of the split, sorted.
    groups, trials : Groups
        To train on and to validate with, members counted in the whole scan. ``trials`` may be empty.
    """

    patterns: Patterns
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    groups: Groups
    trials: Groups

    def indices(self) -> dict[str, Any]:
        """Which patterns were drawn, as JSON values."""
        return {
            "scan": self.patterns.name,
            "patterns": len(self.patterns),
            "train": self.train.tolist(),
            "validation": self.validation.tolist(),
            "subsample": self.groups.sample.tolist(),
        }

    def identity(self) -> dict[str, Any]:
        """What tells this scan from another one: its size, and the SHA-256 of its positions, probe and first
        patterns.
        """
        digest = hashlib.sha256()
        counts, _ = self.patterns.read(np.arange(min(PIECE, len(self.patterns))))
        for array in (self.patterns.positions, self.patterns.probe, counts):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).data)
        return {"patterns": len(self.patterns), "size": self.patterns.size, "sha256": digest.hexdigest()}


def prepare(
    sources: Sequence[Source], options: TrainingOptions, trainer: TrainerOptions, load: LoadOptions | None
) -> tuple[Lesson, ...]:
    """Open, split and group scans.

    Raises
    ------
    InputError
        If there are none, one has no probe, their patterns differ in size, or the groups asked for cannot be made.
    """
    if not sources:
        raise InputError("train: no scan to train on; give one or several scans or their files.")
    for source in sources:
        if not isinstance(source, Scan | str | Path):
            raise InputError(
                f"train: expected scans or their files, got {type(source).__name__}; diptych.load(path) makes a Scan."
            )
    patterns = [open_patterns(source, load, stream=_stream(source, options, trainer)) for source in sources]
    for each in patterns:
        if each.size != patterns[0].size:
            raise InputError(
                f"train: {patterns[0].name} has patterns of {patterns[0].size} px and {each.name} of {each.size} px; "
                f"expected one size: "
                "crop or pad them to it, or train on one at a time."
            )
        if each.probe is None:
            raise InputError(
                f"{each.name}: holds no probe, which the network's physics needs; reconstruct the scan with "
                f"probe='estimate' "
                "(--probe estimate), and save it with the probe of the result."
            )
    return tuple(_lesson(each, options) for each in patterns)


def input_scale(lessons: Sequence[Lesson], beams: Sequence[Beam], seed: int) -> float:
    """The c of the network's input: 1 / rms of sqrt(k / sum |P|^2), over the valid pixels of some training patterns of
    each scan.
    """
    total = pixels = 0.0
    for lesson, beam in zip(lessons, beams, strict=True):
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(lesson.groups.sample)[:SCALED_FROM])
        counts, valid = lesson.patterns.read(chosen)
        seen = lesson.patterns.mask if valid is None else valid
        total += float(counts.sum(dtype=np.float64)) / beam.power
        pixels += counts.size if seen is None else float(np.broadcast_to(seen, counts.shape).sum())
    if total == 0:
        raise InputError(
            f"train: the patterns of {', '.join(each.patterns.name for each in lessons)} hold no photon; nothing can "
            f"be learned."
        )
    return float((pixels / total) ** 0.5)


def _stream(source: Source, options: TrainingOptions, trainer: TrainerOptions) -> bool:
    """Whether to leave the patterns of a scan in their file."""
    if trainer.streaming != "auto" or isinstance(source, Scan):
        return trainer.streaming == "on"
    return (
        (options.n_groups or _patterns_in(Path(source))) > STREAM_ABOVE if file_kind(Path(source)) == "hdf5" else False
    )


def _patterns_in(path: Path) -> int:
    """Patterns in an HDF5 scan, without reading them; 0 where there are none under their usual keys."""
    with open_hdf5(path) as file:
        headers = scan_group(file, path)[0].headers()
        if "xcoords" not in headers or not any(key in headers for key in PATTERN_KEYS):
            return 0
        return int(headers["xcoords"].shape[0])


def _lesson(patterns: Patterns, options: TrainingOptions) -> Lesson:
    assert patterns.probe is not None
    gap = energy_diameter(patterns.probe, 0.9)
    train, validation = split_by_blocks(patterns.positions, fraction=options.validation, gap=gap, seed=options.seed)
    if options.n_subsample is not None and len(train) < options.n_subsample <= len(patterns):
        raise InputError(
            f"{patterns.name}: n_subsample is {options.n_subsample:,}, but of {len(patterns):,} patterns "
            f"{len(train):,} are left for "
            f"training beside {len(validation):,} for validation and those next to them; expected at most "
            f"{len(train):,} "
            "(--n-subsample), or a smaller fraction for validation (--validation)."
        )
    groups = make_groups(
        patterns.positions[train],
        gridsize=options.gridsize,
        n_groups=options.n_groups,
        n_subsample=options.n_subsample,
        neighbours=options.neighbours,
        pool=options.pool,
        oversample=options.oversample,
        sequential=options.sequential,
        seed=options.seed,
    )
    return Lesson(patterns, train, validation, _within(groups, train), _trials(patterns, validation, options))


def _trials(patterns: Patterns, validation: NDArray[np.int64], options: TrainingOptions) -> Groups:
    """One validation group per validation pattern; none where these are fewer than a group has members."""
    members = options.gridsize**2
    if len(validation) < members:
        if len(validation):
            log.warning(
                "%s: no validation: its %d validation patterns make no group of %d",
                patterns.name,
                len(validation),
                members,
            )
        return Groups(np.empty((0, members), np.int64), np.empty(0, np.int64))
    trials = make_groups(
        patterns.positions[validation], gridsize=options.gridsize, neighbours=options.neighbours, seed=options.seed
    )
    return _within(trials, validation)


def _within(groups: Groups, part: NDArray[np.int64]) -> Groups:
    """Groups of some patterns, with members counted in the whole scan."""
    return Groups(part[groups.members], part[groups.sample])
