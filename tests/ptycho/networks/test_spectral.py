"""Spectral convolutions against dense sums and against neuraloperator; blocks that are normalised last."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diptych.ptycho.networks.norms import LAYER_SCALE, SpatialNorm, StableBlock
from diptych.ptycho.networks.spectral import FactorisedSpectralConvolution, SpectralConvolution


def dense(x: np.ndarray, weight: np.ndarray, modes: int, size: int) -> np.ndarray:
    """Re sum_k c_k W_k X_k exp(2 pi i k x / S) over the kept half of the spectrum: c = 1 in column 0, else 2."""
    side = x.shape[-1]
    n, out = np.arange(side), np.arange(size)
    result = np.zeros((len(x), weight.shape[2], size, size))
    for row in range(-modes, modes):
        for column in range(modes):
            wave = np.exp(-2j * np.pi * (row * n[:, None] + column * n) / side)
            coefficients = (x * wave).sum((-2, -1)) / side**2
            matrix = weight[0, :, :, row, column] if row >= 0 else weight[1, :, :, row, column]
            back = np.exp(2j * np.pi * (row * out[:, None] + column * out) / size)
            factor = 2 if column else 1
            result += factor * ((coefficients @ matrix)[..., None, None] * back).real
    return result


@pytest.mark.parametrize(("side", "size", "modes"), [(8, 8, 3), (8, 8, 4), (8, 16, 3), (16, 8, 3), (10, 10, 2)])
def test_a_spectral_convolution_is_the_dense_sum_over_both_row_corners(side: int, size: int, modes: int) -> None:
    torch.manual_seed(0)
    layer = SpectralConvolution(2, 3, modes).double()
    layer.weight.data = layer.weight.data.float()
    x = torch.randn(2, 2, side, side)
    weight = torch.view_as_complex(layer.weight.detach()).numpy()
    with torch.no_grad():
        found = layer(x, size).numpy()
    np.testing.assert_allclose(found, dense(x.numpy(), weight, modes, size), atol=2e-5)


def test_both_row_corners_act() -> None:
    """A wave of row frequency -1 is changed by the second corner only."""
    layer = SpectralConvolution(1, 1, 2)
    n = torch.arange(8)
    wave = torch.cos(2 * torch.pi * (-n[:, None] + n) / 8)[None, None]
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[1, ..., 0] = 1
        torch.testing.assert_close(layer(wave), wave, atol=1e-5, rtol=0)
        layer.weight.zero_()
        layer.weight[0, ..., 0] = 1
        torch.testing.assert_close(layer(wave), torch.zeros_like(wave), atol=1e-5, rtol=0)


def test_a_smaller_grid_uses_the_frequencies_it_has_and_a_constant_keeps_its_value() -> None:
    torch.manual_seed(0)
    layer = SpectralConvolution(1, 1, 6)
    with torch.no_grad():
        values = [float(layer(torch.ones(1, 1, side, side), size).mean()) for side, size in ((4, 4), (4, 32), (32, 16))]
        assert values == pytest.approx([float(layer.weight[0, 0, 0, 0, 0, 0])] * 3, rel=1e-5)


def test_it_is_neuraloperators_layer() -> None:
    neuralop = pytest.importorskip("neuralop.layers.spectral_convolution", reason="neuraloperator is not installed")
    torch.manual_seed(0)
    modes, x = 4, torch.randn(2, 3, 16, 16)
    ours = SpectralConvolution(3, 5, modes)
    theirs = neuralop.SpectralConv(3, 5, (2 * modes, 2 * modes - 2), bias=False, factorization=None)
    weight = torch.view_as_complex(ours.weight.detach())
    # Their rows are centred: -modes to modes - 1.
    tensor = torch.cat([weight[1], weight[0]], dim=-2)
    with torch.no_grad():
        stored = theirs.weight.tensor if hasattr(theirs.weight, "tensor") else theirs.weight
        assert stored.shape == tensor.shape
        stored.copy_(tensor)
        torch.testing.assert_close(theirs(x), ours(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("side", "modes"), [(8, 3), (8, 4), (10, 2)])
def test_a_factorised_convolution_is_the_sum_of_dense_ones_along_each_axis(side: int, modes: int) -> None:
    torch.manual_seed(0)
    layer = FactorisedSpectralConvolution(2, modes)
    x, n = torch.randn(1, 2, side, side).numpy(), np.arange(side)
    weight = torch.view_as_complex(layer.weight.detach()).numpy()
    expected = np.zeros((1, 2, side, side))
    for k in range(modes):
        wave, factor = np.exp(2j * np.pi * k * n / side), 2 if k else 1
        rows = np.einsum("bixy,x,io->boy", x, wave.conj() / side, weight[0, ..., k])
        expected += factor * (rows[:, :, None, :] * wave[:, None]).real
        columns = np.einsum("bixy,y,io->box", x, wave.conj() / side, weight[1, ..., k])
        expected += factor * (columns[..., None] * wave).real
    with torch.no_grad():
        np.testing.assert_allclose(layer(torch.from_numpy(x)).numpy(), expected, atol=2e-5)


def test_a_norm_centres_each_channel_and_accepts_a_single_point() -> None:
    torch.manual_seed(0)
    norm, x = SpatialNorm(3), torch.randn(2, 3, 6, 6) * 5 + 2
    y = norm(x)
    torch.testing.assert_close(y.mean((-2, -1)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.square().mean((-2, -1)), torch.ones(2, 3), atol=1e-4, rtol=0)
    assert not norm(x[..., :1, :1]).any()


def test_a_new_block_with_the_norm_last_is_the_identity() -> None:
    torch.manual_seed(0)
    block, x = StableBlock(4, 3, "norm-last"), torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    gamma = block.norm.gamma.grad
    assert gamma is not None
    assert gamma.abs().min() > 0


def test_a_new_block_with_layer_scale_changes_little() -> None:
    torch.manual_seed(0)
    block, x = StableBlock(4, 3, "layer-scale"), torch.randn(2, 4, 8, 8) * 100
    with torch.no_grad():
        change = block(x) - x
        assert 0 < float(change.square().mean().sqrt()) < 1.1 * LAYER_SCALE


@pytest.mark.parametrize("form", ["norm-last", "layer-scale"])
def test_updates_of_a_trained_block_have_mean_zero_and_a_size_that_does_not_depend_on_the_input(form: str) -> None:
    torch.manual_seed(0)
    block, x = StableBlock(4, 3, form), torch.randn(2, 4, 8, 8) + 1
    for weights in block.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    with torch.no_grad():
        update, larger = block.update(x), block.update(1000 * x)
    torch.testing.assert_close(update.mean((-2, -1)), torch.zeros(2, 4), atol=1e-5, rtol=0)
    assert 0.5 < float(larger.norm() / update.norm()) < 2
