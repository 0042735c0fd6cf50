"""Initial object and probe, as the options ask for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.physics.optics.spec import is_optics, probe_from_optics
from diptych.ptycho.scan import Canvas, Reconstruction, Scan

log = logging.getLogger("diptych")

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.ptycho.engines.problem import Problem


@dataclass(frozen=True, eq=False)
class InitialGuess:
    """Object and probe to start from.

    Parameters
    ----------
    image : (H, W) complex tensor
        The object, on the problem's canvas.
    probe : (P, N, N) complex tensor
        The probe modes.
    fit : float, optional
        Held-out fit, where ``image`` is a network's; None for any other.
    record : dict
        How the network's image was compared with a flat object, as JSON values; empty without a network.
    """

    image: Tensor
    probe: Tensor
    fit: float | None = None
    record: dict[str, Any] = field(default_factory=dict)


def initial_probe(scan: Scan, options: ReconstructionOptions) -> tuple[NDArray[np.complex64], str]:
    """The probe (P, N, N) that ``options.probe`` asks for, and a note on how it was made.

    Raises
    ------
    InputError
        If there is none.
    """
    from diptych.ptycho.engines.starts.estimate import estimate_probe, is_near, refocus

    if is_near(scan) and options.probe == "refine" and scan.probe is None:
        return estimate_probe(scan), "the initial probe is the mean pattern, propagated back to the sample"
    if options.probe == "estimate":
        return estimate_probe(scan), "the initial probe was estimated from the mean pattern"
    if is_optics(options.probe):
        return _probe_from_optics(scan, options)
    if options.probe not in ("refine", "fixed"):
        from diptych.ptycho.io import read_probe

        return read_probe(options.probe, scan.size), f"the initial probe was read from {options.probe}"
    if scan.probe is None:
        raise InputError(
            scan.name,
            "holds no probe",
            "an initial probe",
            "Give one with probe='FILE' (--probe FILE), compute it with probe='optics:...' from the parameters of the "
            "optics, or estimate it from the mean pattern with probe='estimate' (--probe estimate).",
        )
    if options.probe == "refine" and options.chosen("engine").refocus:
        probe, note = refocus(scan, scan.probe)
        if probe is not scan.probe and options.correct_positions != "off" and options.subpixel != "round":
            from diptych.ptycho.engines.starts.joint import better_probe

            return better_probe(scan, scan.probe, probe, note)
        return probe, note
    return scan.probe, ""


def _probe_from_optics(scan: Scan, options: ReconstructionOptions) -> tuple[NDArray[np.complex64], str]:
    """The form of the probe that the optics make, refocused where a trial shows that it is far out of focus."""
    from diptych.ptycho.engines.starts.estimate import refocus

    probe, warnings = probe_from_optics(options.probe, scan.size, scan.geometry, scan.name)
    for warning in warnings:
        log.warning("%s: %s", scan.name, warning)
    note = ""
    if options.chosen("engine").refocus:
        probe, note = refocus(scan, probe)
    notes = [f"the initial probe was computed from {options.probe}", *warnings, *([note] if note else [])]
    return probe, "; ".join(notes)


def probe_modes(problem: Problem, probe: NDArray[np.complex64], modes: int | None) -> Tensor:
    """The probe on the problem's device, in its gauge, with ``modes`` modes (as many as it has where None)."""
    import torch

    from diptych.ptycho.physics.modes import scaled_to, start_modes

    given = torch.from_numpy(probe.copy()).to(problem.device, problem.complex_dtype)
    return scaled_to(given if modes is None else start_modes(given, modes), problem.power)


def initial_object(problem: Problem, scan: Scan, options: ReconstructionOptions) -> Tensor:
    """A transparent object (H, W), or that of the result file ``options.start``, aligned by coordinates."""
    flat = problem.flat_object()
    if options.start == "flat":
        return flat
    from diptych.ptycho.io import load
    from diptych.ptycho.validation import windows_inside

    found = load(options.start)
    canvas = found.object if isinstance(found, Reconstruction) else found.truth
    if canvas is None:
        raise InputError(options.start, "holds no object", "a result file, or start='flat'")
    windows_inside(scan.positions, scan.size, canvas, "the initial object", options.start)
    return copy_overlap(canvas, flat, problem.origin)


def copy_overlap(canvas: Canvas, image: Tensor, origin: tuple[int, int]) -> Tensor:
    """Write the part of ``canvas`` that overlaps ``image`` (H, W) into it; ``origin`` is that of ``image``."""
    import torch

    (y, x), (h, w) = origin, image.shape
    y0, y1, x0, x1 = canvas.extent
    top, bottom, left, right = max(y, y0), min(y + h, y1), max(x, x0), min(x + w, x1)
    if top < bottom and left < right:
        part = torch.from_numpy(canvas.values[top - y0 : bottom - y0, left - x0 : right - x0].astype(np.complex128))
        image[top - y : bottom - y, left - x : right - x] = part.to(image.device, image.dtype)
    return image
