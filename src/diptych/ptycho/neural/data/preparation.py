"""Preparation of scans for training: patterns, training and validation split, groups, scale of the network input."""

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
from diptych.ptycho.neural.data.grouping import make_groups
from diptych.ptycho.neural.data.hdf5 import open_patterns
from diptych.ptycho.neural.data.neighbours import Groups
from diptych.ptycho.neural.data.patterns import PIECE, Patterns, ScanPatterns
from diptych.ptycho.neural.data.split import split_by_blocks
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.physics.probe import probe_diameter
from diptych.ptycho.prepare.photons import usable
from diptych.ptycho.scan import Scan

log = logging.getLogger("diptych")

STREAM_ABOVE = 10_000
"""Scans with more groups than this are read from their file batch by batch, if it is HDF5."""

SCALED_FROM = 512
"""Training patterns of each scan that the input scale is computed from."""

Source = Scan | str | Path


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan with its split and its groups.

    Parameters
    ----------
    patterns : Patterns
        The scan.
    train, validation : int64 arrays
        Sorted indices of the patterns of each set.
    groups, validation_groups : Groups
        Members are indices into the whole scan. ``validation_groups`` may be empty.
    """

    patterns: Patterns
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    groups: Groups
    validation_groups: Groups

    def summary(self) -> dict[str, Any]:
        """Numbers of patterns and groups, as JSON values."""
        return {
            "scan": self.patterns.name,
            "patterns": len(self.patterns),
            "train": len(self.train),
            "validation": len(self.validation),
            "groups": len(self.groups.members),
            "validation_groups": len(self.validation_groups.members),
        }

    def indices(self) -> dict[str, Any]:
        """Indices of the patterns of each set, as JSON values."""
        return {
            "scan": self.patterns.name,
            "patterns": len(self.patterns),
            "train": self.train.tolist(),
            "validation": self.validation.tolist(),
            "subsample": self.groups.sample.tolist(),
        }

    def identity(self) -> dict[str, Any]:
        """Size, and SHA-256 of positions, probe and first patterns, by which a resumed run recognises the scan."""
        digest = hashlib.sha256()
        counts, _ = self.patterns.read(np.arange(min(PIECE, len(self.patterns))))
        for array in (self.patterns.positions, self.patterns.probe, counts):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).data)
        return {"patterns": len(self.patterns), "size": self.patterns.size, "sha256": digest.hexdigest()}


def prepare_scans(
    sources: Sequence[Source], options: TrainingOptions, trainer: TrainerOptions, load: LoadOptions | None
) -> tuple[PreparedScan, ...]:
    """Open scans, split their patterns and form groups.

    Parameters
    ----------
    sources : sequence of Scan or path
        The scans.
    options : TrainingOptions
        Split, groups and seed.
    trainer : TrainerOptions
        ``streaming``, and what is left out.
    load : LoadOptions, optional
        What the files do not declare.

    Raises
    ------
    InputError
        If there is no scan, one has no probe, their patterns differ in size, or the groups cannot be formed.
    """
    if not sources:
        raise InputError("train", "no scan to train on", "one or several scans or their files")
    for source in sources:
        if not isinstance(source, Scan | str | Path):
            raise InputError(
                "train", f"got {type(source).__name__}", "scans or their files", "diptych.load(path) makes a Scan."
            )
    patterns = [
        _cleaned(open_patterns(source, load, stream=_stream(source, options, trainer)), trainer) for source in sources
    ]
    for each in patterns:
        if each.size != patterns[0].size:
            raise InputError(
                "train",
                f"{patterns[0].name} has patterns of {patterns[0].size} px and {each.name} of {each.size} px",
                "one size",
                "Crop or pad the patterns to one size, or train on one scan at a time.",
            )
        if each.probe is None:
            raise InputError(
                each.name,
                "has no probe",
                "a probe, for the forward model of the network",
                "Reconstruct the scan with probe='estimate' (--probe estimate) and save it with the resulting probe.",
            )
    return tuple(_prepare_scan(each, options) for each in patterns)


def _cleaned(patterns: Patterns, trainer: TrainerOptions) -> Patterns:
    """The patterns without bad frames and saturated counts, in photons; those left in their file as they are."""
    if not isinstance(patterns, ScanPatterns):
        log.info("%s: read from its file batch by batch; bad frames and pixels are not looked for", patterns.name)
        return patterns
    saturated = "auto" if trainer.saturated == "censor" else trainer.saturated
    found = usable(patterns.scan, bad_frames=trainer.bad_frames, auto_mask=trainer.auto_mask, saturated=saturated)
    for flag in found.flags:
        log.warning("%s: %s", patterns.name, flag)
    return ScanPatterns(found.scan) if found.scan is not patterns.scan else patterns


def input_scale(scans: Sequence[PreparedScan], probe_models: Sequence[ProbeModel], seed: int) -> float:
    """Compute c of the network input: 1 / rms of sqrt(k / sum |P|^2) over valid pixels of some training patterns.

    Parameters
    ----------
    scans : sequence of PreparedScan
        The scans; :data:`SCALED_FROM` patterns of each are read.
    probe_models : sequence of ProbeModel
        One per scan.
    seed : int
        Selects the patterns.
    """
    total = pixels = 0.0
    for scan, probe_model in zip(scans, probe_models, strict=True):
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(scan.groups.sample)[:SCALED_FROM])
        counts, valid = scan.patterns.read(chosen)
        seen = scan.patterns.mask if valid is None else valid
        total += float(counts.sum(dtype=np.float64)) / probe_model.power
        pixels += counts.size if seen is None else float(np.broadcast_to(seen, counts.shape).sum())
    if total == 0:
        names = ", ".join(each.patterns.name for each in scans)
        raise InputError("train", f"the patterns of {names} contain no photons", "patterns with counts")
    return float((pixels / total) ** 0.5)


def _stream(source: Source, options: TrainingOptions, trainer: TrainerOptions) -> bool:
    """Whether to leave the patterns of a scan in their file."""
    if trainer.streaming != "auto" or isinstance(source, Scan):
        return trainer.streaming == "on"
    return (
        (options.n_groups or _patterns_in(Path(source))) > STREAM_ABOVE if file_kind(Path(source)) == "hdf5" else False
    )


def _patterns_in(path: Path) -> int:
    """Number of patterns in an HDF5 scan, without reading them; 0 if it has none under the usual keys."""
    with open_hdf5(path) as file:
        headers = scan_group(file, path)[0].headers()
        if "xcoords" not in headers or not any(key in headers for key in PATTERN_KEYS):
            return 0
        return int(headers["xcoords"].shape[0])


def _prepare_scan(patterns: Patterns, options: TrainingOptions) -> PreparedScan:
    assert patterns.probe is not None
    gap = probe_diameter(patterns.probe, 0.9)
    train, validation = split_by_blocks(patterns.positions, fraction=options.validation, gap=gap, seed=options.seed)
    if options.n_subsample is not None and len(train) < options.n_subsample <= len(patterns):
        raise InputError(
            patterns.name,
            f"n_subsample is {options.n_subsample:,}, but of {len(patterns):,} patterns {len(train):,} are left for "
            f"training after {len(validation):,} for validation and those close to them",
            f"at most {len(train):,} (--n-subsample)",
            "Lower n_subsample, or the fraction for validation (--validation).",
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
    validation_groups = _validation_groups(patterns, validation, options)
    return PreparedScan(patterns, train, validation, _within(groups, train), validation_groups)


def _validation_groups(patterns: Patterns, validation: NDArray[np.int64], options: TrainingOptions) -> Groups:
    """One group per validation pattern; none if there are fewer patterns than members of a group."""
    members = options.gridsize**2
    if len(validation) < members:
        if len(validation):
            log.warning(
                "%s: no validation, because its %d validation patterns are too few for a group of %d",
                patterns.name,
                len(validation),
                members,
            )
        return Groups(np.empty((0, members), np.int64), np.empty(0, np.int64))
    groups = make_groups(
        patterns.positions[validation], gridsize=options.gridsize, neighbours=options.neighbours, seed=options.seed
    )
    return _within(groups, validation)


def _within(groups: Groups, part: NDArray[np.int64]) -> Groups:
    """Groups of a part of the patterns, with members as indices into the whole scan."""
    return Groups(part[groups.members], part[groups.sample])
