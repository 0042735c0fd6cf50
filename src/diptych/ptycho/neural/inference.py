"""From patterns to an image: a trained network, group by group, onto one canvas.

Counts leave the phase of every group free, and a group knows nothing of the others. So each one is turned to agree,
where they overlap, with those placed before it; groups come in the order of their distance from the middle of the scan,
so that there is always something to agree with. Without this a stitched image loses its slow phases. Memory holds the
canvas and one batch.
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
from diptych.ptycho.neural.data.grouping import cover_groups
from diptych.ptycho.neural.data.patterns import Patterns, ScanPatterns, pieces
from diptych.ptycho.neural.probe_model import Beam
from diptych.ptycho.physics.forward import AXES, intensity
from diptych.ptycho.physics.groups import Layout
from diptych.ptycho.physics.likelihood import fit_sums
from diptych.ptycho.physics.patches import canvas_box, gather, scatter_add, split, spread
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from diptych.ptycho.neural.diagnostics import PatchStatistics
    from diptych.ptycho.neural.model import Model

TURNS = 5
"""Rounds in which some groups settle their phases with each other and with the canvas."""

RIM = 16
"""Groups settle their phases together when they are no more than this part of those that are placed."""

DAMPED = 0.95
"""Share of a group's agreement with itself that is left out of the settling."""

UNSEEN = 1e-6
"""Canvas pixels with less than this fraction of the largest weight count as not seen, and are 1."""

Weights = Literal["probe", "uniform"]


@dataclass(eq=False)
class Mosaic:
    """The canvas that patches are placed on: weighted sum, sum of weights, and how many groups lie there."""

    top: Tensor
    bottom: Tensor
    origin: tuple[int, int]
    groups: int = 0

    @classmethod
    def around(cls, positions: NDArray[np.float64], size: int, device: torch.device) -> Mosaic:
        """An empty one that holds every window."""
        origin, shape = canvas_box(positions, size)
        return cls(torch.zeros(shape, dtype=torch.complex64, device=device), torch.zeros(shape, device=device), origin)

    def add(self, patches: Tensor, weights: Tensor, positions: NDArray[np.float64], *, turn: bool) -> None:
        """Place groups of patches (B, C, N, N), after turning each group's phase to what is there (``turn``).

        With ``turn`` few groups settle at a time, no more than a thin rim of what lies there already: many at once,
        with nothing placed before them, would fall into domains that disagree.
        """
        size = patches.shape[-1]
        start = 0
        while start < len(patches):
            few = slice(start, start + max(1, self.groups // RIM) if turn else len(patches))
            corners = split(positions[few].reshape(-1, 2))[0] - np.asarray(self.origin) - size // 2
            weighted = patches[few] * weights[few]
            if turn:
                weighted = (
                    weighted * self._turns(weighted, corners, Layout.of(positions[few], size))[:, None, None, None]
                )
            scatter_add(self.top, corners, weighted.flatten(0, 1))
            scatter_add(self.bottom, corners, weights[few].flatten(0, 1))
            self.groups += len(weighted)
            start = few.stop

    def _turns(self, weighted: Tensor, corners: NDArray[np.int64], layout: Layout) -> Tensor:
        """Unit factors (B,) that put the groups in phase, where they overlap, with the canvas and with each other."""
        low, high = corners.min(0), corners.max(0) + layout.size
        inner, shape = corners - low, (int(high[0] - low[0]), int(high[1] - low[1]))
        before = self.top[low[0] : high[0], low[1] : high[1]]
        # A group always agrees with itself, which would slow the settling down; what is left of that keeps pairs from
        # swapping.
        alone = spread(weighted.flatten(0, 1), layout.corners, layout.shape)
        own = DAMPED * (weighted.conj() * gather(alone, layout.corners, layout.size).reshape(weighted.shape)).sum(
            (1, 2, 3)
        )
        factor = torch.ones_like(own)
        for _ in range(TURNS):
            local = before + spread((weighted * factor[:, None, None, None]).flatten(0, 1), inner, shape)
            there = gather(local, inner, layout.size).reshape(weighted.shape)
            product = (weighted.conj() * there).sum((1, 2, 3)) - own * factor
            size = product.abs()
            factor = torch.where(size > 0, product / size.clamp(min=torch.finfo(size.dtype).tiny), factor)
        return factor

    def image(self) -> Tensor:
        """The weighted mean; 1 where nothing was seen."""
        seen = self.bottom > UNSEEN * self.bottom.max()
        return torch.where(seen, self.top / torch.where(seen, self.bottom, 1.0), 1.0)


@torch.no_grad()
def infer(
    model: Model,
    scan: Scan | Patterns,
    *,
    device: torch.device,
    batch: int = 64,
    weights: Weights = "probe",
    progress: ProgressCallback | None = None,
    statistics: PatchStatistics | None = None,
) -> Reconstruction:
    """The network's image of a scan.

    Parameters
    ----------
    model : Model
        A trained network.
    scan : Scan or Patterns
        Any length; N a multiple of 16. Patterns of a file are read batch by batch.
    device : torch.device
        Where to compute.
    batch : int
        Patterns per step; the result does not depend on it beyond rounding and the order in which phases settle.
    weights : {"probe", "uniform"}
        Weight of a patch's pixels on the canvas: the illumination, or 1.
    progress : callable, optional
        Told after each step.
    statistics : PatchStatistics, optional
        Gets the patches of the first steps.

    Returns
    -------
    Reconstruction
        ``provenance`` tells seconds, distinct patterns per second (reading and stitching included), groups, and the
        fit.

    Raises
    ------
    InputError
        If the scan has no probe, or fewer patterns than a group.
    """
    patterns = ScanPatterns(scan) if isinstance(scan, Scan) else scan
    if patterns.probe is None:
        raise InputError(
            f"{patterns.name}: holds no probe, which the network's physics needs; give one with probe='FILE' "
            f"(--probe FILE)."
        )
    began = time.perf_counter()
    beam = Beam.of(patterns).to(device)
    network = model.network.to(device).eval()
    members = _from_the_middle(
        cover_groups(patterns.positions, gridsize=model.options.gridsize).members, patterns.positions
    )
    mosaic = Mosaic.around(patterns.positions, patterns.size, device)
    step = max(1, batch // members.shape[1])
    for start in range(0, len(members), step):
        part = members[start : start + step]
        patches, light = predict(network, beam, patterns, part)
        if statistics is not None:
            statistics.add("inference", 0, start // step, patches)
        placed = light if weights == "probe" else torch.ones_like(light)
        mosaic.add(patches, placed.expand(patches.shape), patterns.positions[part], turn=True)
        if progress is not None:
            progress(Progress("network", min(start + step, len(members)), len(members)))
    image = mosaic.image()
    seconds = time.perf_counter() - began
    fit = _fit(beam, patterns, image, mosaic.origin)
    told: dict[str, Any] = {
        "engine": "network",
        "network": model.options.network,
        "seconds": seconds,
        "patterns_per_second": len(patterns) / seconds,
        "groups": len(members),
        "fit": fit,
        "device": str(device),
        "scan": patterns.name,
        "options": {"engine": "network", "probe": "fixed"},
        "inference": {"network_batch": batch, "network_weights": weights},
    }
    pixel = patterns.geometry.object_pixel_m(patterns.size) if patterns.geometry is not None else None
    return Reconstruction(
        object=Canvas(image.cpu().numpy(), mosaic.origin, pixel),
        probe=(beam.modes() * beam.power**0.5).cpu().numpy(),
        positions=patterns.positions,
        flags=(
            f"the image of a network alone, its fit {fit:.3g}: an engine that starts from it (model=...) explains "
            f"the counts better.",
        ),
        provenance=told,
        name=patterns.name,
        geometry=patterns.geometry,
    )


def predict(
    network: torch.nn.Module, beam: Beam, patterns: Patterns, members: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Patches (B, C, N, N) of groups (B, C), and the illumination (B or 1, C or 1, N, N) of their members."""
    counts, valid = read_groups(patterns, members, beam.probe.device)
    exposure = beam.expose(counts, patterns.positions[members], valid)
    patches: Tensor = network(exposure)
    return patches, intensity(exposure.modes)


def read_groups(patterns: Patterns, members: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Corner-centred counts (B, C, N, N) of groups, and their masks where these vary from pattern to pattern."""
    counts, valid = patterns.read(members.reshape(-1))
    shape = (*members.shape, patterns.size, patterns.size)
    cornered = torch.from_numpy(np.fft.ifftshift(counts, AXES).reshape(shape)).to(device)
    return cornered, None if valid is None else torch.from_numpy(np.fft.ifftshift(valid, AXES).reshape(shape)).to(
        device
    )


def _from_the_middle(members: NDArray[np.int64], positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Groups in the order of their distance from the middle of the scan."""
    centres = positions[members].mean(1)
    distance = ((centres - np.median(positions, axis=0)) ** 2).sum(1)
    return members[np.argsort(distance, kind="stable")]


def _fit(beam: Beam, patterns: Patterns, image: Tensor, origin: tuple[int, int]) -> float:
    """Fit of the stitched image to all counts: 1 is limited by shot noise."""
    top = bottom = 0.0
    for part in pieces(len(patterns)):
        members = part[:, None]
        counts, valid = read_groups(patterns, members, image.device)
        exposure = beam.expose(counts, patterns.positions[members], valid)
        corners = split(patterns.positions[part])[0] - np.asarray(origin) - patterns.size // 2
        foreseen = beam.foresee(gather(image, corners, patterns.size)[:, None], exposure)
        found, expected = fit_sums(counts, foreseen, exposure.valid)
        top, bottom = top + found, bottom + expected
    return top / max(bottom, 1e-30)
