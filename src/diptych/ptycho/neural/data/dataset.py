"""Batches of groups. An item of the dataset is a batch, and its key determines everything random about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from diptych.errors import InputError
from diptych.ptycho.neural.data.neighbours import Groups
from diptych.ptycho.neural.data.patterns import Patterns
from diptych.ptycho.physics.forward import AXES
from diptych.ptycho.physics.patches import cut

Key = tuple[int, NDArray[np.int64], int]
"""Index of the scan, rows of its groups, and epoch."""

MAX_DEVIATIONS = 3.0
"""Random displacements are clipped to this many standard deviations along each axis."""

NOISELESS_COUNTS = 1e4
"""With more mean counts per pixel than this no photons are withheld: noise is far below the error of a network."""


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """B groups of C members, all of one scan.

    Parameters
    ----------
    scan : int
        Index of the scan.
    counts : (B, C, N, N) float32 tensor
        Corner-centred, 0 at masked pixels.
    valid : (B, C, N, N) bool tensor or None
        The mask of each pattern, if masks differ between patterns.
    positions : (B, C, 2) float64
        (y, x) in object pixels, displaced by ``jitter``.
    members : (B, C) int64
        Indices of the patterns in their scan.
    labels : (B, C, N, N) complex64 tensor or None
        True patches, in the windows at floor(r + 0.5) of the undisplaced positions.
    target : (B, C, N, N) float32 tensor or None
        Counts for the loss, if other than ``counts``; their mean is the same.
    """

    scan: int
    counts: Tensor
    valid: Tensor | None
    positions: NDArray[np.float64]
    members: NDArray[np.int64]
    labels: Tensor | None
    target: Tensor | None = None

    def to(self, device: torch.device | str) -> GroupBatch:
        """A copy with its tensors on ``device``."""
        valid, labels, target = (
            None if each is None else each.to(device) for each in (self.valid, self.labels, self.target)
        )
        return replace(self, counts=self.counts.to(device), valid=valid, labels=labels, target=target)


class GroupDataset(Dataset[GroupBatch]):
    """Groups of several scans. Patterns are read when a batch is requested: ``dataset[scan, rows, epoch]``.

    Parameters
    ----------
    patterns : sequence of Patterns
        The scans.
    groups : sequence of Groups
        Of each scan.
    labels : bool
        Add the true patches to each batch.
    jitter : float
        Standard deviation of Gaussian displacements of the positions, object pixels, clipped at
        :data:`MAX_DEVIATIONS` of it. Members are displaced independently, and anew in each epoch.
    seed : int
        Determines, with scan, group and epoch, the displacements and the withheld photons.
    withheld : float
        Share of the photons that is held out from the input and used only in the loss. Each photon is drawn
        independently, so the two parts of Poisson counts are independent, and fitting the noise of the input does not
        lower the loss.

    Raises
    ------
    InputError
        If ``labels`` is set and a scan has no true object.
    """

    def __init__(
        self,
        patterns: Sequence[Patterns],
        groups: Sequence[Groups],
        *,
        labels: bool,
        jitter: float,
        seed: int,
        withheld: float = 0.0,
    ) -> None:
        for scan in patterns:
            if labels and scan.truth is None:
                raise InputError(
                    scan.name,
                    "has no true object, which supervision by labels needs",
                    "a simulated scan, or an objectGuess that is the truth (use_truth)",
                    "Pass such a scan, or train from counts alone with supervision='physics' (--supervision physics).",
                )
        self.patterns, self.groups = tuple(patterns), tuple(groups)
        self._labels, self._jitter, self._seed, self._withheld = labels, jitter, seed, withheld

    def __getitem__(self, key: Key) -> GroupBatch:
        """The groups ``rows`` of a scan in an epoch."""
        scan, rows, epoch = key
        patterns, members = self.patterns[scan], self.groups[scan].members[rows]
        counts, valid = (
            None if frames is None else _corner(frames, members) for frames in patterns.read(members.reshape(-1))
        )
        assert counts is not None
        positions = patterns.positions[members]
        labels = _true_patches(patterns, positions) if self._labels else None
        if self._jitter:
            positions = positions + self._displacements(scan, rows, epoch, members.shape[1])
        target = None
        if self._withheld and not self._labels:
            counts, target = self._split_counts(counts, scan, rows, epoch)
        return GroupBatch(scan, counts, valid, positions, members, labels, target)

    def _split_counts(
        self, counts: Tensor, scan: int, rows: NDArray[np.int64], epoch: int
    ) -> tuple[Tensor, Tensor | None]:
        """Counts for the input and counts for the loss, each scaled to the mean of all."""
        whole = counts.numpy().astype(np.int64)
        if counts.mean() > NOISELESS_COUNTS or (whole != counts.numpy()).any():
            return counts, None
        rngs = (np.random.default_rng([self._seed, epoch, scan, int(row), 1]) for row in rows)
        drawn = [rng.binomial(group, self._withheld) for rng, group in zip(rngs, whole, strict=True)]
        target = torch.from_numpy(np.stack(drawn).astype(np.float32))
        return (counts - target) / (1 - self._withheld), target / self._withheld

    def _displacements(self, scan: int, rows: NDArray[np.int64], epoch: int, members: int) -> NDArray[np.float64]:
        """(B, C, 2), object pixels. Those of a group do not depend on the batch it is in."""
        seeds = ([self._seed, epoch, scan, int(row)] for row in rows)
        normal = np.stack([np.random.default_rng(seed).standard_normal((members, 2)) for seed in seeds])
        return self._jitter * normal.clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)


class GroupSampler(Sampler[Key]):
    """Keys of batches: each group of each scan once per epoch; a batch holds groups of one scan.

    Several processes share each batch, so that an update is that of a single process. A batch with fewer groups than
    there are processes uses some of them twice.

    Parameters
    ----------
    group_counts : sequence of int
        Groups of each scan.
    groups_per_batch : int
        B, over all processes; the last batch of a scan may be smaller.
    shuffle : bool
        Shuffle the groups of each scan and the batches of all scans, depending on seed and epoch only.
    seed : int
        Seed of the order.
    rank, world : int
        Number of this process and number of processes. Process r gets the groups r, r + world, ... of each batch.
    """

    def __init__(
        self,
        group_counts: Sequence[int],
        groups_per_batch: int,
        *,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._group_counts, self._per_batch = tuple(group_counts), groups_per_batch
        self._shuffle, self._seed, self._rank, self._world = shuffle, seed, rank, world
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self._epoch = epoch

    def __len__(self) -> int:
        return sum(-(-count // self._per_batch) for count in self._group_counts)

    def __iter__(self) -> Iterator[Key]:
        rng = np.random.default_rng([self._seed, self._epoch])
        batches: list[Key] = []
        for scan, count in enumerate(self._group_counts):
            rows = rng.permutation(count) if self._shuffle else np.arange(count)
            batches += [
                (scan, rows[start : start + self._per_batch], self._epoch) for start in range(0, count, self._per_batch)
            ]
        order = rng.permutation(len(batches)) if self._shuffle else np.arange(len(batches))
        for number in order:
            scan, rows, epoch = batches[number]
            yield scan, np.resize(rows, max(len(rows), self._world))[self._rank :: self._world], epoch


def make_loader(dataset: GroupDataset, sampler: GroupSampler, workers: int) -> DataLoader[GroupBatch]:
    """Batches in the sampler's order, read ahead by ``workers`` processes (0: read by this one)."""
    return DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)


def _corner(frames: NDArray[np.generic], members: NDArray[np.int64]) -> Tensor:
    """Centred frames (B * C, N, N) as a corner-centred tensor (B, C, N, N)."""
    return torch.from_numpy(np.fft.ifftshift(frames, AXES).reshape(*members.shape, *frames.shape[1:]))


def _true_patches(patterns: Patterns, positions: NDArray[np.float64]) -> Tensor:
    """Windows (B, C, N, N) of the true object at positions (B, C, 2), rounded to whole pixels."""
    truth = patterns.truth
    assert truth is not None
    patches = cut(torch.from_numpy(truth.values), positions.reshape(-1, 2), patterns.size, origin=truth.origin)
    return patches.reshape(*positions.shape[:2], patterns.size, patterns.size).to(torch.complex64)
