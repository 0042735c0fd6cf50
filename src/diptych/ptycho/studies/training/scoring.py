"""Metrics of a result against the truth, photons as measured, and the images that figures are drawn from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from diptych.ptycho.scan import Canvas, Reconstruction, Scan

PUBLISHED = (
    "amplitude_ssim_ptychopinn",
    "phase_ssim_ptychopinn",
    "amplitude_mae_ptychopinn",
    "phase_mae_ptychopinn",
    "amplitude_ms_ssim_ptychopinn",
    "phase_ms_ssim_ptychopinn",
)
METRICS = ("complex_error", "phase_rms_rad", *PUBLISHED)
"""What every comparison reports; keys ending in ``_ptychopinn`` follow the definitions of the published tables."""

UNITS = {"phase_rms_rad": "rad", "phase_mae_ptychopinn": "rad"}

IMAGES = "images.npz"


def measure(result: Reconstruction | Canvas, test: Scan) -> dict[str, Any]:
    """:data:`METRICS` of a result against the truth of a simulated scan; None where one is undefined, and ``undefined``
    then says why.
    """
    from diptych.ptycho.evaluate import evaluate

    found = evaluate(result, truth=test, convention="both")
    known = {name: float(found[name]) if math.isfinite(found[name]) else None for name in METRICS}
    why = [f"{name}: {found.details[name].reason}" for name, value in known.items() if value is None]
    return {**known, "undefined": "; ".join(why) or None}


def photons_per_pattern(scan: Scan) -> float:
    """Mean counts per pattern, as they are in the data: the measured dose."""
    return float(scan.counts.sum(axis=(1, 2), dtype=np.float64).mean())


def keep_images(folder: Path, result: Reconstruction | Canvas, test: Scan) -> None:
    """Write the aligned result and the truth on the compared box to ``images.npz``."""
    from diptych.ptycho.evaluate import evaluate

    alignment = evaluate(result, truth=test).alignment
    assert alignment is not None
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        folder / IMAGES,
        result=alignment.result.values.astype(np.complex64),
        truth=alignment.truth.values.astype(np.complex64),
        pattern=np.log10(test.counts[len(test) // 2].astype(np.float32) + 1),
    )


def kept_images(folder: Path) -> dict[str, NDArray[Any]]:
    """The images that :func:`keep_images` wrote: ``result``, ``truth`` (complex), ``pattern`` (log10)."""
    with np.load(folder / IMAGES, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
