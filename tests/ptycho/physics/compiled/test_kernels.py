"""The compiled loops compute what PyTorch computes, in every shape that engines use, and nothing where they cannot."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.ptycho.physics import compiled

B, P, N = 5, 2, 24


def waves(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def corners(count: int = B) -> Any:
    return np.random.default_rng(0).integers(0, 16, (count, 2))


def close(found: Tensor | None, expected: Tensor, tolerance: float = 2e-6) -> bool:
    """Within rounding: relative to the largest value."""
    assert found is not None
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.mark.parametrize("count", [1, B])
def test_product(count: int) -> None:
    modes, factors = waves(count, P, N, N), waves(B, N, N, seed=1)
    assert close(compiled.product(modes, factors), modes * factors[:, None])


def test_squared_modulus() -> None:
    some = waves(B, P, N, N)
    assert close(compiled.squared_modulus(some), some.abs().square().sum(1))


def test_scale() -> None:
    some, weights = waves(B, P, N, N), torch.rand(B, 1, N, N)
    expected = some * weights
    assert compiled.scale(some, weights)
    assert close(some, expected)


@pytest.mark.parametrize("count", [1, B])
def test_windows_are_added_where_they_overlap(count: int) -> None:
    some, modes, canvas = waves(B, P, N, N), waves(count, P, N, N, seed=1), waves(40, 40, seed=2)
    expected = canvas.clone()
    for b, (y, x) in enumerate(corners()):
        expected[y : y + N, x : x + N] += (some[b] * modes[b if count > 1 else 0].conj()).sum(0)
    assert compiled.add_windows(some, modes, corners(), canvas)
    assert close(canvas, expected)


def test_conjugate_product() -> None:
    some, patches = waves(B, P, N, N), waves(B, N, N, seed=1)
    expected = some.conj() * patches[:, None]
    assert compiled.conjugate_product(some, patches)
    assert close(some, expected)


@pytest.mark.parametrize("dose", [0.01, 1.0, 1e3, 1e7])
def test_poisson_terms_are_half_the_deviance(dose: float) -> None:
    rng = np.random.default_rng(1)
    exact = torch.from_numpy(rng.gamma(1.0, dose, (B, N, N)))
    counts = torch.from_numpy(rng.poisson(exact.numpy()).astype(np.float32))
    expected, predicted = exact.float(), exact.float().double() + 0.01
    known = counts.double().clamp(min=1e-6)
    terms = predicted - known - known * torch.log(predicted / known)
    weights = compiled.poisson_terms(expected, counts, 0.01)
    assert weights is not None
    assert float(((weights - (1 - counts / predicted)).abs() / (1 + counts / predicted)).max()) < 3e-7
    # Single precision: the ratio is rounded, and so are numbers as large as the counts themselves.
    error = (expected.double() - terms).abs()
    assert float((error / (1e-6 * known + 1e-5 * terms.abs() + 1e-6)).max()) < 1
    assert abs(float(expected.double().sum() / terms.sum()) - 1) < 1e-5


def test_infinite_and_undefined_counts_stay_so() -> None:
    expected = torch.tensor([[[float("inf"), float("nan"), 1.0]]])
    weights = compiled.poisson_terms(expected, torch.ones(1, 1, 3), 0.01)
    assert weights is not None
    assert not torch.isfinite(expected[0, 0, :2]).any()
    assert torch.isfinite(expected[0, 0, 2])


def test_poisson_steps() -> None:
    expected, counts = torch.rand(3, N, N) * 10, torch.rand(8, N, N) * 30
    batch = np.array([7, 0, 3])
    wanted = 0.4 * ((counts[batch] + 0.1) / (expected + 0.1) - 1).clamp(-1, 2)
    assert compiled.poisson_steps(expected, counts, batch, 0.1, 2.0, 0.4)
    assert close(expected, wanted)


def test_take_pixels() -> None:
    images, out, batch = torch.rand(2, N, N), torch.zeros(4, 3), np.array([3, 1])
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, N * N, (4, 3)))
    assert compiled.take_pixels(images, batch, pixels, out)
    assert torch.equal(out[[3, 1]], images.flatten(1).gather(1, pixels[[3, 1]]))
    assert not out[[0, 2]].any()


@pytest.mark.parametrize("same", [False, True])
def test_add_patches(same: bool) -> None:
    canvas, patches = torch.randn(40, 40), torch.randn(B, N, N)
    patches = patches[:1].expand(B, N, N) if same else patches
    expected = canvas.clone()
    for patch, (y, x) in zip(patches, corners(), strict=True):
        expected[y : y + N, x : x + N] += patch
    assert compiled.add_patches(canvas, corners(), patches)
    assert close(canvas, expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_divide_sums(workers: int) -> None:
    """In windows that overlap."""
    image = waves(9, 11)
    top, bottom = torch.zeros(workers, 9, 11, dtype=torch.complex64), torch.zeros(workers, 9, 11)
    where, (height, width) = np.array([[0, 0], [1, 2]]), (4, 6)
    for y, x in where:
        top[:, y : y + height, x : x + width] += waves(workers, height, width, seed=1)
        bottom[:, y : y + height, x : x + width] += torch.rand(workers, height, width)
    expected = image + top.sum(0) / (0.7 * bottom.sum(0) + 0.2)
    assert compiled.divide_sums(image, top, bottom, where, (height, width), 0.7, torch.tensor(0.2))
    assert close(image, expected)
    assert not top.any()
    assert not bottom.any()


def test_dot_is_exact_to_double_precision_and_independent_of_alignment() -> None:
    a, b = torch.randn(100_001), torch.randn(100_001)
    found = compiled.dot(a[1:], b[1:])
    assert found == pytest.approx(float(a[1:].double() @ b[1:].double()), rel=1e-9, abs=1e-6)
    assert found == compiled.dot(a[1:].clone(), b[1:].clone())


def test_what_they_cannot_process_is_left_to_pytorch() -> None:
    some, patches = waves(B, P, N, N), waves(B, N, N)
    assert compiled.product(some.to(torch.complex128), patches.to(torch.complex128)) is None
    assert compiled.product(some.transpose(-1, -2), patches) is None
    assert compiled.product(some.conj(), patches) is None
    assert compiled.product(some, patches[:3]) is None
    assert compiled.product(some, patches[:, :-1, :-1]) is None
    assert compiled.product(some.clone().requires_grad_(), patches) is None
    assert compiled.squared_modulus(some.real.contiguous()) is None
    assert not compiled.conjugate_product(some, patches[:1])
    assert not compiled.scale(some, torch.rand(B, P, N, N))
    assert compiled.product(torch.rand(B, P, N, N), patches) is None
    assert compiled.dot(torch.rand(5), torch.rand(3)) is None


def test_windows_that_leave_the_canvas_are_left_to_pytorch() -> None:
    """Compiled code checks no bounds: it would write over other memory."""
    some, modes, canvas = waves(B, P, N, N), waves(1, P, N, N), waves(40, 40)
    beyond = corners() + np.array([0, 10])
    before = canvas.clone()
    assert not compiled.add_windows(some, modes, beyond, canvas)
    assert not compiled.add_windows(some, modes, corners()[:1], canvas)
    assert not compiled.add_patches(canvas.real.contiguous(), beyond, torch.rand(B, N, N))
    assert not compiled.add_patches(canvas.real.contiguous(), corners(), torch.rand(3, N, N))
    sums = torch.zeros(1, 40, 40, dtype=torch.complex64)
    assert not compiled.divide_sums(canvas, sums, sums.real.contiguous(), beyond, (N, N), 0.7, torch.tensor(0.2))
    assert torch.equal(canvas, before)


def test_code_that_cannot_be_kept_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    from diptych.ptycho.physics.compiled import kernels

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING):
        kernels._forgiving(full)(1, 2)
    assert "cannot be kept on disk" in caplog.text


@pytest.mark.parametrize("error", [ImportError("Numba needs NumPy 2.3 or less"), OSError("no shared library")])
def test_a_numba_that_cannot_be_imported_is_a_warning(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(name: str) -> Any:
        raise error

    monkeypatch.setattr(compiled, "import_module", fails)
    with caplog.at_level(logging.WARNING):
        assert compiled.optional.__wrapped__("anything", "numpy") is None
    assert "numpy is installed but cannot be used here" in caplog.text


def test_without_numba_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    assert compiled.optional.__wrapped__("diptych.ptycho.physics.compiled.kernels", "numba") is None
