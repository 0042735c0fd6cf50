"""FFTs of batches of waves: by FFTW where it is faster than PyTorch's library, else by PyTorch.

On AMD processors FFTW needs half the time of the library that PyTorch is built with, for 32 to 128 px (measured on a
Zen 3, see ``docs/engines.md``). Only plans that FFTW estimates are used: measured ones differ from run to run, and
with them the rounding. For other sizes estimated plans are slow.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path
from threading import local
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.ptycho.physics import compiled

SIZES = (32, 64, 128)
"""Sides N for which plans that FFTW estimates are good, in batches, too."""

Norm = Literal["ortho", "backward"]

MOST_PLANS = 8
"""Plans that a thread keeps, one for each shape and direction."""

_ALIGNED = 64
"""Bytes to which memory is aligned; PyTorch's own is."""


class _Plans(local):
    """Plans of each thread, by shape and direction: one must not be used by two threads at a time."""

    def __init__(self) -> None:
        self.made: dict[tuple[tuple[int, ...], str], Any] = {}


_plans = _Plans()


def fft2(waves: Tensor, norm: Norm = "ortho") -> Tensor:
    """FFT over the last two axes, as ``torch.fft.fft2``."""
    if not _by_fftw(waves):
        made: Tensor = torch.fft.fft2(waves, norm=norm)
        return made
    return _transform(waves, "FFTW_FORWARD", 1 / waves.shape[-1] if norm == "ortho" else 1.0)


def ifft2(spectra: Tensor, norm: Norm = "ortho") -> Tensor:
    """Inverse FFT over the last two axes, as ``torch.fft.ifft2``."""
    if not _by_fftw(spectra):
        made: Tensor = torch.fft.ifft2(spectra, norm=norm)
        return made
    size = spectra.shape[-1]
    return _transform(spectra, "FFTW_BACKWARD", 1 / size if norm == "ortho" else 1 / size**2)


def _by_fftw(waves: Tensor) -> bool:
    return (
        waves.shape[-1] in SIZES
        and waves.shape[-2] == waves.shape[-1]
        and waves.dtype == torch.complex64
        and waves.device.type == "cpu"
        and not waves.requires_grad
        and waves.numel() > 0
        and waves.is_contiguous()
        and not waves.is_conj()
        and _library() is not None
    )


def _transform(waves: Tensor, direction: str, factor: float) -> Tensor:
    size = waves.shape[-1]
    waves = waves if waves.data_ptr() % _ALIGNED == 0 else waves.clone()
    made = torch.empty_like(waves)
    arrays = (waves.view(-1, size, size).numpy(), made.view(-1, size, size).numpy())
    plans = _plans.made
    key = (arrays[0].shape, direction)
    if key not in plans:
        while len(plans) >= MOST_PLANS:  # Each keeps the arrays that it was last used on.
            plans.pop(next(iter(plans)))
        plans[key] = _library().FFTW(*arrays, axes=(-2, -1), direction=direction, flags=("FFTW_ESTIMATE",), threads=1)
    plan = plans[key]
    plan.update_arrays(*arrays)
    plan.execute()
    if factor != 1:
        torch.view_as_real(made).mul_(factor)
    return made


@lru_cache(maxsize=1)
def _library() -> Any:
    """The binding of FFTW, where it is installed and this is a processor on which it is faster; else None."""
    return compiled.optional("pyfftw", "pyfftw") if _vendor() == "AuthenticAMD" else None


def _vendor() -> str:
    """Of the processor, as it names itself; empty where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Windows puts the vendor last: "AMD64 Family 25 Model 1 Stepping 1, AuthenticAMD".
        return platform.processor().rpartition(", ")[2]
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("vendor_id")), "")
