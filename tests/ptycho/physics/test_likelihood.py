"""Likelihoods and the fit: closed forms, gradients, expectations, and the truth as the best explanation of its own
photons."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from diptych.ptycho.physics.likelihood import (
    amplitude_mae,
    deviance,
    expected_deviance,
    fit_sums,
    gaussian_amplitude,
)
from diptych.ptycho.physics.patches import cut
from forward_reference import intensities


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def exact_expected_deviance(rate: float) -> float:
    """Sum over k of the Poisson probability times the deviance."""
    k = np.arange(0, int(rate + 40 * math.sqrt(rate) + 60))
    terms = 2 * (np.where(k > 0, k * np.log(np.maximum(k, 1) / rate), 0.0) - k + rate)
    return float((stats.poisson.pmf(k, rate) * terms).sum())


def fit(counts: torch.Tensor, expected: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    found, predicted = fit_sums(counts, expected, mask)
    return found / predicted


def test_half_the_deviance_is_the_poisson_likelihood_up_to_a_constant() -> None:
    counts, expected = tensor(0, 1, 5), tensor(2.0, 3.0, 5.0)
    wanted = stats.poisson.logpmf([0, 1, 5], [1e-300, 1, 5]) - stats.poisson.logpmf([0, 1, 5], [2.0, 3.0, 5.0])
    np.testing.assert_allclose(deviance(counts, expected).numpy() / 2, wanted, rtol=1e-12, atol=1e-12)


def test_a_photon_where_none_is_expected_costs_much_but_not_infinitely_much() -> None:
    assert float(deviance(tensor(0), tensor(0))) == pytest.approx(0, abs=1e-7)
    assert float(deviance(tensor(1), tensor(0))) == pytest.approx(2 * (math.log(1e8) - 1), rel=1e-6)


def test_gradient_of_half_the_deviance_is_one_minus_k_over_lambda() -> None:
    rng = np.random.default_rng(0)
    counts = torch.from_numpy(rng.poisson(3.0, 50).astype(float))
    expected = torch.from_numpy(rng.uniform(0.2, 8.0, 50)).requires_grad_()
    (gradient,) = torch.autograd.grad(deviance(counts, expected).sum() / 2, expected)
    torch.testing.assert_close(gradient, 1 - counts / expected.detach(), rtol=1e-9, atol=1e-13)
    assert torch.autograd.gradcheck(lambda rate: deviance(counts, rate), expected)


def test_amplitude_likelihoods_in_closed_form() -> None:
    counts, expected = tensor(4, 9), tensor(1, 16)
    assert float(gaussian_amplitude(counts, expected)) == pytest.approx(2.0)
    assert float(amplitude_mae(counts, expected)) == pytest.approx(1.0)


def test_gaussian_amplitude_has_the_scale_of_half_the_deviance() -> None:
    counts, expected = tensor(10_100), tensor(10_000)
    assert float(gaussian_amplitude(counts, expected)) == pytest.approx(float(deviance(counts, expected)) / 2, rel=0.01)


@pytest.mark.parametrize("loss", [gaussian_amplitude, amplitude_mae])
def test_masked_pixels_enter_no_mean(loss: object) -> None:
    rng = np.random.default_rng(1)
    counts, expected = (
        torch.from_numpy(rng.poisson(4.0, (3, 6, 6)).astype(float)),
        torch.from_numpy(rng.uniform(1, 8, (3, 6, 6))),
    )
    mask = torch.from_numpy(rng.random((6, 6)) > 0.3)
    wanted = loss(counts[:, mask], expected[:, mask])  # type: ignore[operator]
    for value in (0.0, 65535.0, float("nan")):
        spoiled = torch.where(mask, counts, value)
        torch.testing.assert_close(loss(spoiled, expected, mask), wanted, rtol=1e-12, atol=0)  # type: ignore[operator]


def test_deviance_vanishes_only_where_counts_meet_their_expectation() -> None:
    level = torch.logspace(-6, 9, 60, dtype=torch.float64)
    torch.testing.assert_close(deviance(level, level), torch.zeros_like(level), rtol=0, atol=1e-6)
    assert bool((deviance(level * 1.1, level) > 0).all())
    assert bool((deviance(level * 0.9, level) > 0).all())
    assert float(deviance(tensor(0), tensor(3.5))) == pytest.approx(7.0)
    assert float(deviance(tensor(5), tensor(2))) == pytest.approx(2 * (5 * math.log(2.5) - 3), rel=1e-12)


@pytest.mark.parametrize(("rate", "known"), [(0.001, 0.014), (0.01, 0.092), (0.1, 0.47), (1.0, 1.15), (10.0, 1.02)])
def test_expected_deviance_at_the_known_places(rate: float, known: float) -> None:
    found = float(expected_deviance(tensor(rate)))
    assert found == pytest.approx(known, rel=0.02)
    assert found == pytest.approx(exact_expected_deviance(rate), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_expected_deviance_between_and_beyond_the_table(dtype: torch.dtype) -> None:
    rates = [2e-8, 3e-7, 5.4e-5, 0.0031, 0.27, 0.77, 2.6, 33.3, 412.0, 999.0, 1001.0, 2500.0]
    found = expected_deviance(torch.tensor(rates, dtype=dtype)).double().numpy()
    np.testing.assert_allclose(found, [exact_expected_deviance(rate) for rate in rates], rtol=2e-4)
    assert float(expected_deviance(torch.tensor(1e9, dtype=dtype))) == pytest.approx(1.0, abs=1e-6)
    assert math.isfinite(float(expected_deviance(torch.tensor(0.0, dtype=dtype))))


@pytest.mark.parametrize("level", [1.0, 1e3, 1e6])
def test_deviance_keeps_its_digits_in_single_precision(level: float) -> None:
    expected = torch.full((20_000,), level)
    counts = torch.from_numpy(np.random.default_rng(3).poisson(level, 20_000)).float()
    exact = deviance(counts.double(), expected.double())
    torch.testing.assert_close(deviance(counts, expected).double(), exact, rtol=1e-5, atol=3e-3)
    assert float(deviance(counts, expected).double().mean() / exact.mean()) == pytest.approx(1, abs=1e-5)


def test_expected_deviance_takes_any_layout_and_survives_what_is_no_number() -> None:
    rates = torch.logspace(-3, 4, 24).view(4, 6)
    torch.testing.assert_close(expected_deviance(rates.T), expected_deviance(rates).T, rtol=0, atol=0)
    spoiled = torch.tensor([float("nan"), float("inf"), -1.0, 5.0])
    assert float(expected_deviance(spoiled)[3]) == pytest.approx(exact_expected_deviance(5.0), rel=1e-4)


@pytest.mark.parametrize("rate", [0.03, 0.5, 4.0])
def test_expected_deviance_is_the_mean_over_draws(rate: float) -> None:
    counts = torch.from_numpy(np.random.default_rng(2).poisson(rate, 400_000).astype(float))
    draws = deviance(counts, torch.full_like(counts, rate))
    error = float(draws.std()) / math.sqrt(len(draws))
    assert abs(float(draws.mean()) - float(expected_deviance(tensor(rate)))) < 4 * error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dose", [1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e4])
def test_fit_of_the_true_expectation_is_one_at_any_dose(dose: float, dtype: torch.dtype) -> None:
    """Photons drawn from the expectation itself, whose pixels span three decades: 1 within the statistical error."""
    rng = np.random.default_rng(3)
    expected = dose * 10 ** rng.uniform(-2, 1, (20, 64, 64))
    counts = torch.from_numpy(rng.poisson(expected)).to(dtype)
    rates = torch.from_numpy(expected).to(dtype)
    spread = float(deviance(counts.double(), rates.double()).std()) * math.sqrt(expected.size)
    error = spread / float(expected_deviance(rates.double()).sum())
    assert abs(fit(counts, rates) - 1) < 4 * error
    assert error < 0.12


def test_fit_respects_the_mask_whatever_lies_under_it() -> None:
    rng = np.random.default_rng(4)
    expected = torch.from_numpy(rng.uniform(1, 20, (4, 8, 8)))
    counts = torch.from_numpy(rng.poisson(expected.numpy()).astype(float))
    mask = torch.from_numpy(rng.random((8, 8)) > 0.4)
    wanted = fit(counts[:, mask], expected[:, mask])
    for value in (0.0, 65535.0, float("nan"), float("inf"), -1.0):
        assert fit(torch.where(mask, counts, value), expected, mask) == pytest.approx(wanted, rel=1e-12)


def test_fit_sums_add_up_over_batches() -> None:
    rng = np.random.default_rng(5)
    expected = torch.from_numpy(rng.uniform(0.1, 20, (6, 8, 8)))
    counts = torch.from_numpy(rng.poisson(expected.numpy()).astype(float))
    parts = [fit_sums(counts[i : i + 2], expected[i : i + 2]) for i in (0, 2, 4)]
    assert sum(p[0] for p in parts) / sum(p[1] for p in parts) == pytest.approx(fit(counts, expected), rel=1e-12)


@pytest.mark.parametrize("wrong", [0.5, 2.0])
def test_fit_of_a_wrong_expectation_is_far_above_one(wrong: float) -> None:
    counts = torch.from_numpy(np.random.default_rng(6).poisson(100.0, (4, 32, 32)).astype(float))
    assert fit(counts, torch.full_like(counts, 100.0 * wrong)) > 20


@pytest.fixture(scope="module")
def small_truth() -> tuple[torch.Tensor, torch.Tensor, np.ndarray, torch.Tensor]:
    """Object, probe, positions and Poisson counts of 36 patterns of 16 x 16 at about 1e4 photons each, in double
    precision."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:40, :40]
    image = torch.from_numpy((0.8 + 0.2 * np.sin(0.7 * x)) * np.exp(0.6j * np.cos(0.5 * y + 0.2 * x)))
    r2 = (np.mgrid[:16, :16] - 8.0) ** 2
    probe = torch.from_numpy(np.sqrt(160.0) * np.exp(-r2.sum(0) * (1 / 18 - 0.04j)))[None]
    positions = np.stack(np.meshgrid(np.arange(9, 32, 4.0), np.arange(9, 32, 4.0), indexing="ij"), -1).reshape(-1, 2)
    counts = torch.from_numpy(rng.poisson(intensities(probe, cut(image, positions, 16)).numpy()).astype(float))
    return image, probe, positions, counts


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("scale", [0.05, 0.2, 1.0])
def test_likelihood_at_the_truth_beats_likelihood_anywhere_else_tried(
    small_truth: tuple[torch.Tensor, torch.Tensor, np.ndarray, torch.Tensor], dtype: torch.dtype, scale: float
) -> None:
    """White, smooth, and single-parameter changes of object, probe and both, 60 in all."""
    image, probe, positions, counts = small_truth
    image, probe, counts = image.to(dtype), probe.to(dtype), counts.to(image.to(dtype).real.dtype)

    def loss(some_image: torch.Tensor, some_probe: torch.Tensor) -> float:
        return float(deviance(counts, intensities(some_probe, cut(some_image, positions, 16))).sum(dtype=torch.float64))

    rng, at_truth = np.random.default_rng(8), loss(image, probe)
    assert fit(counts, intensities(probe, cut(image, positions, 16))) == pytest.approx(1.0, abs=0.06)
    for trial in range(20):
        noise = rng.normal(size=(2, 40, 40))
        if trial % 2:
            noise = np.stack(
                [
                    np.outer(np.cos(rng.uniform(0, 1) * np.arange(40)), np.cos(rng.uniform(0, 1) * np.arange(40)))
                    for _ in "ri"
                ]
            )
        change = torch.from_numpy(noise[0] + 1j * noise[1]).to(dtype)
        on_probe = probe * (1 + scale * change[:16, :16])
        for other_image, other_probe in (
            (image + scale * change, probe),
            (image, on_probe),
            (image + scale * change, on_probe),
        ):
            assert loss(other_image, other_probe) > at_truth
    flat = torch.ones_like(image)
    for other_image, other_probe in (
        (flat, probe), (image.conj(), probe), (image.T.contiguous(), probe), (image, probe.conj()),
        (image, probe * (1 + scale)), (torch.roll(image, 1, 0), probe), (image, torch.roll(probe, 1, 2)),
    ):  # fmt: skip
        assert loss(other_image, other_probe) > at_truth
