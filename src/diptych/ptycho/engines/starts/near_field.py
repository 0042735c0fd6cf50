"""Initial probe of a near-field scan: the light on the detector, propagated back to the sample."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.ptycho.engines.starts.estimate import mean_pupil
from diptych.ptycho.physics.propagators import propagator_of
from diptych.ptycho.scan import Scan


def near_field_probe(scan: Scan) -> NDArray[np.complex64]:
    """A probe (1, N, N) that makes the mean pattern: its root with a flat phase, propagated back to the sample.

    The object moves in the window, so that its structure averages out of the mean pattern, which shows the beam alone.
    The curvature of a diverging beam is no part of the probe (it only magnifies), so its phase is nearly flat.

    Raises
    ------
    InputError
        If the mean pattern holds no signal above the background, or the geometry is not complete.
    """
    field = torch.from_numpy(mean_pupil(scan)[0].astype(np.complex128))
    propagator = propagator_of(scan.geometry, scan.size, torch.complex128, torch.device("cpu"))
    # The propagator's fields and probes carry the same ramp: one is put on, and taken off.
    probe = propagator.leave(propagator.adjoint(propagator.enter(field)))
    return probe.numpy()[None].astype(np.complex64)
