"""FFTs by FFTW or by PyTorch are the same transform."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from diptych.ptycho.physics.compiled import fourier

SIZES = (16, 32, 63, 64, 128, 130)


def waves(*shape: int, dtype: torch.dtype = torch.complex64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["this processor", "AuthenticAMD", "GenuineIntel"])
def _vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    if request.param != "this processor":
        monkeypatch.setattr(fourier, "_vendor", lambda: request.param)
    fourier._library.cache_clear()
    yield
    fourier._library.cache_clear()


def test_fftw_is_used_on_amd_for_its_sizes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in ("AuthenticAMD", "GenuineIntel"):
        monkeypatch.setattr(fourier, "_vendor", lambda name=vendor: name)
        fourier._library.cache_clear()
        used = [size for size in SIZES if fourier._by_fftw(waves(2, size, size))]
        assert used == ([32, 64, 128] if vendor == "AuthenticAMD" else [])
    fourier._library.cache_clear()


@pytest.mark.usefixtures("_vendor")
def test_few_plans_are_kept_and_alignment_does_not_matter() -> None:
    for count in range(1, 20):
        fourier.fft2(waves(count, 32, 32))
    assert len(fourier._plans.made) <= fourier.MOST_PLANS
    shifted = torch.empty(2 * 32 * 32 + 1, dtype=torch.complex64)[1:].view(2, 32, 32)
    shifted.copy_(waves(2, 32, 32))
    found, expected = fourier.fft2(shifted), fourier.fft2(waves(2, 32, 32))
    # The same bits by FFTW alone: PyTorch's library may take another way at another address.
    assert torch.equal(found, expected) if fourier._by_fftw(shifted) else torch.allclose(found, expected, atol=1e-4)


@pytest.mark.usefixtures("_vendor")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", ["ortho", "backward"])
def test_as_pytorch(size: int, norm: fourier.Norm) -> None:
    some = waves(3, 2, size, size)
    for ours, theirs in ((fourier.fft2, torch.fft.fft2), (fourier.ifft2, torch.fft.ifft2)):
        before = some.clone()
        found, expected = ours(some, norm), theirs(some, norm=norm)
        assert found.shape == some.shape
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
        assert torch.equal(some, before)


@pytest.mark.usefixtures("_vendor")
def test_parseval_and_inverse() -> None:
    some = waves(4, 64, 64)
    field = fourier.fft2(some)
    assert float(field.abs().square().sum()) == pytest.approx(float(some.abs().square().sum()), rel=1e-5)
    assert float((fourier.ifft2(field) - some).abs().max()) < 1e-5


@pytest.mark.usefixtures("_vendor")
def test_gradients_and_double_precision_are_those_of_pytorch() -> None:
    some = waves(2, 32, 32, dtype=torch.complex128).requires_grad_()
    fourier.fft2(some).abs().square().sum().backward()  # type: ignore[no-untyped-call]
    assert some.grad is not None
    assert torch.allclose(some.grad, 2 * some.detach())


@pytest.mark.usefixtures("_vendor")
def test_views_and_threads_give_the_same_bits() -> None:
    some = waves(8, 1, 64, 64)
    expected = fourier.fft2(some)
    assert torch.allclose(fourier.fft2(some.transpose(-1, -2)), expected.transpose(-1, -2), atol=1e-4)
    assert torch.allclose(fourier.fft2(some.conj()), torch.fft.fft2(some.conj(), norm="ortho"), atol=1e-4)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: fourier.fft2(some), range(24)):
            assert torch.equal(found, expected)
