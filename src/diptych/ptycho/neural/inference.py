"""Inference: patches predicted group by group, aligned in phase, and stitched on one canvas.

The counts do not determine the global phase of a group. Each group is therefore multiplied by the phase factor that
aligns it, where they overlap, with the groups placed before it; groups are placed in order of their distance from the
centre of the scan, so that each overlaps earlier ones. Without this, slow phase variations of the stitched object are
lost. Memory holds the canvas and one batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.neural.canvas import CanvasLikelihood, refine
from diptych.ptycho.neural.clock import Clock
from diptych.ptycho.neural.data.covering import cover_groups
from diptych.ptycho.neural.data.patterns import Patterns, ScanPatterns, pieces
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.physics.forward import AXES, intensity
from diptych.ptycho.physics.groups import Layout
from diptych.ptycho.physics.illumination import illumination, settle_unlit
from diptych.ptycho.physics.likelihood import fit_sums
from diptych.ptycho.physics.patches import canvas_box, gather, scatter_add, split, spread
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from diptych.ptycho.neural.diagnostics import PatchStatistics
    from diptych.ptycho.neural.model import Model

ITERATIONS = 5
"""Iterations of the phase alignment of a few groups with each other and with the canvas."""

BATCH_SHARE = 16
"""Groups are aligned together if they are at most 1 / this number of the groups already placed."""

SELF_OVERLAP = 0.95
"""Fraction of a group's overlap with itself that is subtracted in the alignment."""

MIN_WEIGHT = 1e-6
"""Canvas pixels with less than this fraction of the largest weight are set to 1."""

Weights = Literal["probe", "uniform"]


@dataclass(eq=False)
class Stitcher:
    """The canvas that patches are placed on.

    Parameters
    ----------
    weighted_sum : (H, W) complex tensor
        Sum of the patches times their weights.
    weight_sum : (H, W) tensor
        Sum of the weights.
    origin : (int, int)
        Coordinate of pixel [0, 0].
    groups : int
        Number of groups placed so far.
    """

    weighted_sum: Tensor
    weight_sum: Tensor
    origin: tuple[int, int]
    groups: int = 0

    @classmethod
    def around(cls, positions: NDArray[np.float64], size: int, device: torch.device) -> Stitcher:
        """An empty canvas that holds the windows of all positions."""
        origin, shape = canvas_box(positions, size)
        return cls(torch.zeros(shape, dtype=torch.complex64, device=device), torch.zeros(shape, device=device), origin)

    def add(self, patches: Tensor, weights: Tensor, positions: NDArray[np.float64], *, align_phase: bool) -> None:
        """Place groups of patches on the canvas.

        Parameters
        ----------
        patches : (B, C, N, N) complex tensor
            B groups of C patches.
        weights : (B, C, N, N) tensor
            Weights of their pixels in the average.
        positions : (B, C, 2) float64
            (y, x), object pixels.
        align_phase : bool
            Align the phase of each group with the patches already placed. Only a small fraction of their number is
            aligned at a time: many groups at once could form domains with different phases.
        """
        size = patches.shape[-1]
        start = 0
        while start < len(patches):
            few = slice(start, start + max(1, self.groups // BATCH_SHARE) if align_phase else len(patches))
            corners = split(positions[few].reshape(-1, 2))[0] - np.asarray(self.origin) - size // 2
            weighted = patches[few] * weights[few]
            if align_phase:
                weighted = (
                    weighted
                    * self._phase_factors(weighted, corners, Layout.of(positions[few], size))[:, None, None, None]
                )
            scatter_add(self.weighted_sum, corners, weighted.flatten(0, 1))
            scatter_add(self.weight_sum, corners, weights[few].flatten(0, 1))
            self.groups += len(weighted)
            start = few.stop

    def _phase_factors(self, weighted: Tensor, corners: NDArray[np.int64], layout: Layout) -> Tensor:
        """Phase factors (B,) that align the groups, where they overlap, with the canvas and with each other."""
        low, high = corners.min(0), corners.max(0) + layout.size
        inner, shape = corners - low, (int(high[0] - low[0]), int(high[1] - low[1]))
        before = self.weighted_sum[low[0] : high[0], low[1] : high[1]]
        # The overlap of a group with itself slows convergence and is subtracted, except for a small part that prevents
        # oscillation of pairs.
        alone = spread(weighted.flatten(0, 1), layout.corners, layout.shape)
        own = SELF_OVERLAP * (weighted.conj() * gather(alone, layout.corners, layout.size).reshape(weighted.shape)).sum(
            (1, 2, 3)
        )
        factor = torch.ones_like(own)
        for _ in range(ITERATIONS):
            local = before + spread((weighted * factor[:, None, None, None]).flatten(0, 1), inner, shape)
            there = gather(local, inner, layout.size).reshape(weighted.shape)
            product = (weighted.conj() * there).sum((1, 2, 3)) - own * factor
            size = product.abs()
            factor = torch.where(size > 0, product / size.clamp(min=torch.finfo(size.dtype).tiny), factor)
        return factor

    def image(self) -> Tensor:
        """The weighted mean of all patches; 1 where there are none."""
        seen = self.weight_sum > MIN_WEIGHT * self.weight_sum.max()
        return torch.where(seen, self.weighted_sum / torch.where(seen, self.weight_sum, 1.0), 1.0)


@torch.no_grad()
def infer(
    model: Model,
    scan: Scan | Patterns,
    *,
    device: torch.device,
    batch: int = 64,
    weights: Weights = "probe",
    canvas_passes: int = 0,
    prior: bool = False,
    progress: ProgressCallback | None = None,
    statistics: PatchStatistics | None = None,
    clock: Clock | None = None,
) -> Reconstruction:
    """Predict the object of a scan with a trained network.

    Parameters
    ----------
    model : Model
        A trained network.
    scan : Scan or Patterns
        Any number of patterns. Patterns of a file are read batch by batch.
    device : torch.device
        Where to compute.
    batch : int
        Patterns per step. It affects the result only by rounding and by the order of the phase alignment.
    weights : {"probe", "uniform"}
        Weights of the pixels of a patch on the canvas: the illumination, or 1.
    canvas_passes : int
        Most likelihood steps on the whole stitched image (:mod:`diptych.ptycho.neural.canvas`).
    prior : bool
        Penalise differences from the network's image as strongly as held-out pixels confirm.
    progress : callable, optional
        Called after each step.
    statistics : PatchStatistics, optional
        Records the patches of the first steps.
    clock : Clock, optional
        Counts the seconds of the stages "network", "stitching" and "canvas".

    Returns
    -------
    Reconstruction
        ``provenance`` has the seconds, those of each stage, patterns per second (reading and stitching included),
        groups, and fit.

    Raises
    ------
    InputError
        If the scan has no probe, or fewer patterns than a group has members.
    """
    patterns = _with_probe(scan)
    began, clock = time.perf_counter(), clock or Clock()
    probe_model = ProbeModel.of(patterns).to(device)
    groups = cover_groups(patterns.positions, gridsize=model.options.gridsize)
    members = _from_the_centre(groups.members, patterns.positions)
    stitcher = _stitched(model, probe_model, patterns, members, batch, weights, progress, statistics, clock)
    probe = (probe_model.modes() * probe_model.power**0.5).cpu().numpy()
    image, choice = _improved(stitcher, probe_model, patterns, canvas_passes, prior, progress, clock)
    lit = illumination(probe, patterns.positions, stitcher.origin, (image.shape[0], image.shape[1]))
    image = torch.from_numpy(settle_unlit(image.cpu().numpy(), lit)).to(device)
    seconds = time.perf_counter() - began
    fit = _fit(probe_model, patterns, image, stitcher.origin)
    provenance: dict[str, Any] = {
        "engine": "network",
        "network": model.options.network,
        "seconds": seconds,
        "seconds_of_stages": dict(clock.seconds),
        "patterns_per_second": len(patterns) / seconds,
        "groups": len(members),
        "fit": fit,
        "device": str(device),
        "scan": patterns.name,
        "options": {"engine": "network", "probe": "fixed"},
        "inference": {"network_batch": batch, "network_weights": weights, "network_prior": prior}
        | {"canvas_passes": canvas_passes, **choice},
    }
    pixel = patterns.geometry.object_pixel_m(patterns.size) if patterns.geometry is not None else None
    return Reconstruction(
        object=Canvas(image.cpu().numpy(), stitcher.origin, pixel),
        probe=probe,
        positions=patterns.positions,
        flags=(
            f"predicted by a network only, with fit {fit:.3g}; an engine that starts from it (model=...) reaches a "
            f"better fit",
        ),
        provenance=provenance,
        name=patterns.name,
        geometry=patterns.geometry,
        illumination=lit,
    )


def _with_probe(scan: Scan | Patterns) -> Patterns:
    """The patterns of a scan; refused without a probe."""
    patterns = ScanPatterns(scan) if isinstance(scan, Scan) else scan
    if patterns.probe is None:
        raise InputError(
            patterns.name,
            "has no probe",
            "a probe, for the forward model of the network",
            "Pass one with probe='FILE' (--probe FILE).",
        )
    return patterns


def _improved(
    stitcher: Stitcher,
    probe_model: ProbeModel,
    patterns: Patterns,
    canvas_passes: int,
    prior: bool,
    progress: ProgressCallback | None,
    clock: Clock,
) -> tuple[Tensor, dict[str, Any]]:
    """The stitched image after likelihood steps on the whole canvas, and the record of :func:`refine`; as it is, and
    an empty record, without steps.
    """
    image = stitcher.image()
    if not canvas_passes:
        return image, {}
    _report(progress, "whole canvas", 0, 1)
    with clock.stage("canvas"):
        likelihood = CanvasLikelihood(patterns, probe_model, stitcher.origin, (image.shape[0], image.shape[1]))
        image, record = refine(likelihood, image, canvas_passes, prior=prior)
    _report(progress, "whole canvas", 1, 1)
    return image, record


def _stitched(
    model: Model,
    probe_model: ProbeModel,
    patterns: Patterns,
    members: NDArray[np.int64],
    batch: int,
    weights: Weights,
    progress: ProgressCallback | None,
    statistics: PatchStatistics | None,
    clock: Clock,
) -> Stitcher:
    """The canvas with the patches of all groups (G, C), predicted a batch of patterns at a time."""
    device = probe_model.probe.device
    network = model.network.to(device).eval()
    stitcher = Stitcher.around(patterns.positions, patterns.size, device)
    step = max(1, batch // members.shape[1])
    for start in range(0, len(members), step):
        part = members[start : start + step]
        with clock.stage("network"):
            patches, light = predict(network, probe_model, patterns, part)
        if statistics is not None:
            statistics.add("inference", 0, start // step, patches)
        with clock.stage("stitching"):
            placed = light if weights == "probe" else torch.ones_like(light)
            stitcher.add(patches, placed.expand(patches.shape), patterns.positions[part], align_phase=True)
        _report(progress, "network", min(start + step, len(members)), len(members))
    return stitcher


def _report(progress: ProgressCallback | None, stage: str, done: int, total: int) -> None:
    if progress is not None:
        progress(Progress(stage, done, total))


def predict(
    network: torch.nn.Module, probe_model: ProbeModel, patterns: Patterns, members: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Predict patches (B, C, N, N) of groups (B, C); also return the illumination (B or 1, C or 1, N, N)."""
    counts, valid = read_groups(patterns, members, probe_model.probe.device)
    exposure = probe_model.expose(counts, patterns.positions[members], valid)
    patches: Tensor = network(exposure)
    return patches, intensity(exposure.modes)


def read_groups(patterns: Patterns, members: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Corner-centred counts (B, C, N, N) of groups, and their masks if these differ between patterns."""
    counts, valid = patterns.read(members.reshape(-1))
    shape = (*members.shape, patterns.size, patterns.size)
    cornered = torch.from_numpy(np.fft.ifftshift(counts, AXES).reshape(shape)).to(device)
    return cornered, None if valid is None else torch.from_numpy(np.fft.ifftshift(valid, AXES).reshape(shape)).to(
        device
    )


def _from_the_centre(members: NDArray[np.int64], positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Groups in order of their distance from the centre of the scan."""
    centres = positions[members].mean(1)
    distance = ((centres - np.median(positions, axis=0)) ** 2).sum(1)
    return members[np.argsort(distance, kind="stable")]


def _fit(probe_model: ProbeModel, patterns: Patterns, image: Tensor, origin: tuple[int, int]) -> float:
    """Fit of the stitched object to all counts: 1 is the limit of shot noise."""
    deviance = expected_deviance = 0.0
    for part in pieces(len(patterns)):
        members = part[:, None]
        counts, valid = read_groups(patterns, members, image.device)
        exposure = probe_model.expose(counts, patterns.positions[members], valid)
        corners = split(patterns.positions[part])[0] - np.asarray(origin) - patterns.size // 2
        predicted = probe_model.predicted_counts(gather(image, corners, patterns.size)[:, None], exposure)
        found, expected = fit_sums(counts, predicted, exposure.valid)
        deviance, expected_deviance = deviance + found, expected_deviance + expected
    return deviance / max(expected_deviance, 1e-30)
