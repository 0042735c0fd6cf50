"""Where the arithmetic runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diptych.errors import UnavailableError
from diptych.runtime.options import Options

if TYPE_CHECKING:
    import torch


class ExecutionOptions(Options):
    """Where and how to compute; never changes the science beyond rounding."""

    device: str = Field("auto", description="auto (a CUDA GPU when there is one, else the CPU), cpu, cuda or cuda:N.")
    precision: Literal["single", "double"] = Field("single", description="Floating-point precision of the arithmetic.")
    threads: int | None = Field(None, ge=1, description="CPU threads; without it torch decides.")


def choose_device(name: str = "auto") -> tuple[torch.device, str]:
    """The torch device for ``name`` and the reason for the choice.

    Raises
    ------
    UnavailableError
        If the named device is not on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"auto: found {torch.cuda.get_device_name()}"
        return torch.device("cpu"), "auto: no CUDA device found"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UnavailableError(f"device {name!r} is not known; expected auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UnavailableError(f"device {name!r} asked for, but torch sees {torch.cuda.device_count()} CUDA devices; use --device cpu.")
    return device, "as asked"
