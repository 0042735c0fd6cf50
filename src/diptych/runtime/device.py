"""Options of device, precision and threads, and the choice of a torch device."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diptych.errors import InputError, UnavailableError
from diptych.runtime.cpu.forking import cuda_lost
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
    InputError
        If the name is not a device name.
    UnavailableError
        If this machine has no such GPU.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise InputError(f"device {name!r}", "is not known", "auto, cpu, cuda or cuda:N, for instance cuda:0")
    import torch

    if cuda_lost():
        if name in ("auto", "cpu"):
            return torch.device("cpu"), f"{name}: CUDA cannot be used in a process forked from one that used it"
        raise UnavailableError(
            f"device {name!r}: CUDA cannot be used in a process forked from one that used it; start it with "
            "multiprocessing.get_context('spawn'), or use device='cpu'."
        )
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"auto: found {torch.cuda.get_device_name()}"
        return torch.device("cpu"), "auto: no CUDA device found"
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UnavailableError(
            f"device {name!r}: torch finds {torch.cuda.device_count()} CUDA devices. Use --device cpu."
        )
    return torch.device(name), "as requested"


def torchrun_processes() -> tuple[int, int, int] | None:
    """Rank of this process, processes of this machine and machines, where torchrun started it; else None."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return int(os.environ["RANK"]), here, int(os.environ["WORLD_SIZE"]) // here
