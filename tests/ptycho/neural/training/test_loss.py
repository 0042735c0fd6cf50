"""Losses: the truth has the lowest loss, masks are respected, probe and dose are scaled as in the engines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.problem import photons_through
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.neural.probe_model import ProbeModel, power_of
from diptych.ptycho.neural.training.loss import batch_loss, data_loss, label_loss
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.patches import cut

N = 32
LOSSES = ["poisson", "mae", "gaussian"]


def exposed(made: diptych.Scan, members: int = 4):
    chosen = np.argsort(((made.positions[:, None] - made.positions[None]) ** 2).sum(-1), axis=1, kind="stable")[
        :6, :members
    ]
    patterns = ScanPatterns(made)
    probe_model = ProbeModel.of(patterns)
    counts, valid = patterns.read(chosen.reshape(-1))
    shape = (*chosen.shape, N, N)
    counts = torch.from_numpy(np.fft.ifftshift(counts, (-2, -1)).reshape(shape))
    exposure = probe_model.expose(counts, made.positions[chosen], valid)
    truth = cut(
        torch.from_numpy(made.truth.values), made.positions[chosen.reshape(-1)], N, origin=made.truth.origin
    ).reshape(shape)
    return probe_model, exposure, counts, truth


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dose", [1e4, 1e9])
def test_the_truth_has_a_lower_loss_than_other_objects(loss, dose):
    made = diptych.simulate(object="dead-leaves", size=N, patterns=36, step=4.0, dose=dose, seed=5)
    probe_model, exposure, counts, truth = exposed(made)
    options = TrainingOptions(loss=loss)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(truth.shape, dtype=truth.dtype, generator=generator)
    best = float(batch_loss(options, probe_model, exposure, counts, truth, None).loss)
    for other in (
        torch.ones_like(truth),
        truth.conj(),
        truth + 0.1 * noise,
        1.05 * truth,
        truth * torch.exp(0.3j * noise.real),
    ):
        assert float(batch_loss(options, probe_model, exposure, counts, other, None).loss) > best
    # A global phase does not change the loss.
    turned = float(batch_loss(options, probe_model, exposure, counts, truth * np.exp(0.7j), None).loss)
    assert turned == pytest.approx(best, rel=1e-3)


def test_the_loss_of_a_perfect_prediction_is_that_of_noise():
    """Half the deviance is 1/2 per pixel at high counts; over the root of the mean count."""
    rng = np.random.default_rng(0)
    expected = torch.full((64, 64), 1e4)
    counts = torch.from_numpy(rng.poisson(1e4, (64, 64)).astype(np.float32))
    assert float(data_loss("poisson", counts, expected)) == pytest.approx(0.5 / 100, rel=0.05)
    assert float(data_loss("gaussian", counts, expected)) == pytest.approx(0.5 / 100, rel=0.05)
    assert float(data_loss("mae", counts, expected)) == pytest.approx(0.5 * np.sqrt(2 / np.pi) / 100, rel=0.05)


@pytest.mark.parametrize("loss", LOSSES)
def test_masked_pixels_do_not_count(loss):
    counts, expected = torch.rand(2, 1, 8, 8) * 100, torch.rand(2, 1, 8, 8) * 100
    valid = torch.rand(8, 8) > 0.3
    spoilt = torch.where(valid, counts, 1e6)
    assert torch.equal(
        data_loss(loss, spoilt, expected, valid), data_loss(loss, torch.where(valid, counts, 0), expected, valid)
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_finite_where_nothing_is_expected_or_counted(loss):
    expected = torch.zeros(1, 1, 8, 8, requires_grad=True)
    counts = torch.zeros(1, 1, 8, 8)
    counts[..., 0] = 1e7
    data_loss(loss, counts, expected).backward()
    assert torch.isfinite(expected.grad).all()


def test_terms_for_smoothness_and_consistency():
    made = diptych.simulate(object="dead-leaves", size=N, patterns=36, step=4.0, seed=5)
    probe_model, exposure, counts, truth = exposed(made)
    plain_options, smooth_options, firm_options = (
        TrainingOptions(),
        TrainingOptions(tv=1.0),
        TrainingOptions(consistency=1.0),
    )
    plain, smooth, firm = (
        batch_loss(o, probe_model, exposure, counts, truth, None).loss
        for o in (plain_options, smooth_options, firm_options)
    )
    assert smooth > plain
    assert float(firm) == pytest.approx(float(plain), abs=1e-4)
    different = truth * torch.exp(1j * torch.linspace(0, 1, 4)[None, :, None, None])
    before, after = (
        batch_loss(o, probe_model, exposure, counts, different, None).loss for o in (plain_options, firm_options)
    )
    assert after > before + 0.1
    flat = torch.ones_like(truth)
    free, constant = (
        batch_loss(o, probe_model, exposure, counts, flat, None).loss for o in (plain_options, smooth_options)
    )
    assert constant == free


@pytest.mark.parametrize("background", [0.0, 3.0])
@pytest.mark.parametrize("error", [0.0, 1.0])
def test_the_gauge_is_that_of_the_engines(background, error):
    made = diptych.simulate(
        object="blocks", size=N, patterns=36, step=4.0, dose=1e5, dead=0.02, background=background, probe_error=error
    )
    patterns = ScanPatterns(made)
    if made.probe_calibrated:
        assert power_of(patterns) == pytest.approx(float((np.abs(made.probe.astype(complex)) ** 2).sum()))
        return
    counts = torch.from_numpy(np.where(made.mask, made.counts, 0).astype(np.float32))
    shown = None if made.background is None else torch.from_numpy(made.background)
    assert power_of(patterns) == pytest.approx(photons_through(counts, shown, torch.from_numpy(~made.mask)), rel=1e-5)


def test_labels_are_reached_at_zero_loss_only_by_the_truth():
    made = diptych.simulate(object="dead-leaves", size=N, patterns=36, step=4.0, seed=5)
    _, exposure, _, truth = exposed(made, 1)
    light = intensity(exposure.modes)
    assert float(label_loss(truth, truth, light)) == 0
    assert float(label_loss(truth + 0.1, truth, light)) == pytest.approx(0.1, rel=1e-4)


def test_a_refined_probe_learns_its_shape_and_keeps_its_scale():
    made = diptych.simulate(object="dead-leaves", size=N, patterns=36, step=4.0, seed=5)
    probe_model = ProbeModel.of(ScanPatterns(made), refine=True)
    assert [name for name, _ in probe_model.named_parameters()] == ["probe"]
    before = probe_model.modes().detach().clone()
    with torch.no_grad():
        probe_model.probe.mul_(3)
    torch.testing.assert_close(probe_model.modes().detach(), before)
    assert not list(ProbeModel.of(ScanPatterns(made)).parameters())
