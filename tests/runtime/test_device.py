"""Which device is chosen, with and without a GPU."""

from __future__ import annotations

import pytest
import torch

from diptych.errors import InputError, UnavailableError
from diptych.runtime.device import choose_device


@pytest.fixture(params=[0, 2], ids=["no GPU", "two GPUs"])
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    count = int(request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *a: "Test GPU")
    return count


def test_auto_takes_a_gpu_where_there_is_one_and_says_why(gpus: int) -> None:
    device, reason = choose_device("auto")
    assert device.type == ("cuda" if gpus else "cpu")
    assert ("Test GPU" if gpus else "no CUDA device") in reason


def test_cpu_is_taken_when_asked_for(gpus: int) -> None:
    assert choose_device("cpu") == (torch.device("cpu"), "as requested")


@pytest.mark.parametrize(("name", "needed"), [("cuda", 1), ("cuda:0", 1), ("cuda:1", 2), ("cuda:2", 3)])
def test_a_named_gpu_is_taken_or_its_absence_is_said(gpus: int, name: str, needed: int) -> None:
    if gpus >= needed:
        assert choose_device(name)[0] == torch.device(name)
    else:
        with pytest.raises(UnavailableError, match=f"torch finds {gpus} CUDA devices. Use --device cpu"):
            choose_device(name)


def test_an_unknown_name_says_what_is_known() -> None:
    for name in ("gpu", "CUDA", "cuda:", "cuda:-1", "cuda:one", "mps", ""):
        with pytest.raises(InputError, match="expected auto, cpu, cuda or cuda:N"):
            choose_device(name)
