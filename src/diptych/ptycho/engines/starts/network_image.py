"""The image of a trained network as the result; and results of scans in photons, in the scan's counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.starts.initial import initial_probe
from diptych.ptycho.physics.gain import Gain
from diptych.ptycho.prepare.photons import gain_flag, in_photons
from diptych.ptycho.scan import Reconstruction


def network_image(request: Request) -> Reconstruction:
    """The image of a trained network, under the initial probe."""
    from diptych.ptycho.neural.model import Model

    network = request.network
    if not isinstance(network, Model):
        raise InputError(
            "reconstruct", "engine network without a trained network", "model=... (--model FILE), or another engine"
        )
    declared = request.scan.scale is not None
    scan, gain = in_photons(request.scan)
    probe, note = initial_probe(scan, request.options)
    seen = replace(scan, probe=probe, probe_calibrated=request.keeps_scale)
    result = network.reconstruct(seen, request.progress, execution=request.execution, **request.inference)
    return in_counts(result, gain, declared, {"model": network.digest, "probe_start": note})


def in_counts(result: Reconstruction, gain: Gain, declared: bool, record: dict[str, Any]) -> Reconstruction:
    """The result of a scan in photons, with the probe in the units of the scan's counts, and what was found of them."""
    shapes = result.probe_components
    probe = result.probe if gain.value == 1 else (result.probe * np.sqrt(gain.value)).astype(np.complex64)
    return replace(
        result,
        probe=probe,
        background=None if result.background is None else (result.background * gain.value).astype(np.float32),
        probe_components=shapes if shapes is None else (shapes * np.sqrt(gain.value)).astype(np.complex64),
        flags=(*result.flags, *gain_flag(gain, declared)),
        provenance={**result.provenance, **record, "counts_per_photon": gain.value},
    )
