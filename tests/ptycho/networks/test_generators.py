"""The contract of every registered generator: shapes, symmetries, initial guess, gradients, size, cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.errors import InputError
from diptych.ptycho.networks import NETWORKS, Exposure, NetworkOptions, build_network
from diptych.ptycho.networks.cost import cost, operations, receptive_field
from diptych.ptycho.networks.passes import INPUTS, PhysicsPasses
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.model import Model, load_model
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.neural.probe_model import ProbeModel

NAMES = NETWORKS.names()
SIZE = 32


def options_of(name: str, **changes: Any) -> NetworkOptions:
    """Small options."""
    return NetworkOptions.build({"network": name, "width": 8, **changes})


def exposed(*, dose: float = 1e5, **options: Any) -> Exposure:
    """Three groups of four."""
    made = diptych.simulate(
        object="blocks", size=SIZE, patterns=16, step=SIZE / 8, dose=dose, noise="none", seed=1, **options
    )
    distance = ((made.positions[:, None] - made.positions[None]) ** 2).sum(-1)
    chosen = np.argsort(distance, axis=1, kind="stable")[:3, :4]
    counts = torch.from_numpy(np.fft.ifftshift(made.counts[chosen], (-2, -1)).astype(np.float32))
    return ProbeModel.of(ScanPatterns(made)).expose(counts, made.positions[chosen])


@pytest.fixture(scope="module")
def exposure() -> Exposure:
    return exposed()


def generator(name: str, **changes: Any) -> torch.nn.Module:
    """A generator of which no layer starts at or near zero."""
    torch.manual_seed(0)
    made = build_network(SIZE, 32.0, options_of(name, **changes))
    for key, weights in made.named_parameters():
        if "leave.weight" in key or not weights.any():
            torch.nn.init.normal_(weights, std=0.1)
    return made.eval()


@pytest.mark.parametrize("output", ["amplitude-phase", "real-imag"])
@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_permuting_members_permutes_the_patches(exposure: Exposure, name: str, passes: int, output: str) -> None:
    order = [3, 1, 0, 2]
    made = generator(name, passes=passes, output=output)
    corners = exposure.layout.corners.reshape(3, 4, 2)[:, order].reshape(-1, 2)
    permuted = Exposure(
        exposure.counts[:, order],
        exposure.modes[:, order],
        None,
        None,
        replace(exposure.layout, corners=corners),
        exposure.offsets[:, order],
    )
    with torch.no_grad():
        patches, other = made(exposure), made(permuted)
    assert patches.shape == exposure.counts.shape
    assert patches.is_complex()
    torch.testing.assert_close(other, patches[:, order], rtol=1e-3, atol=1e-4)
    # The members are not all alike, so that the comparison means something.
    assert (patches[0, 0] - patches[0, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("passes", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight_and_are_finite_at_low_dose(name: str, passes: int) -> None:
    made = generator(name, passes=passes)
    made(exposed(dose=50.0)).abs().square().sum().backward()
    for key, weights in made.named_parameters():
        assert weights.grad is not None, key
        assert torch.isfinite(weights.grad).all(), key
        assert weights.grad.any(), key


@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_generator_starts_from_a_flat_object_of_the_right_transmission(name: str) -> None:
    dim = exposed(amplitude=(0.3, 0.3), phase=(0.0, 0.0))
    torch.manual_seed(0)
    made = build_network(SIZE, 10.0, options_of(name, passes=1))
    with torch.no_grad():
        assert abs(float(made(dim).abs().mean()) / 0.3 - 1) < 0.05


@pytest.mark.parametrize("output", ["amplitude-phase", "real-imag"])
@pytest.mark.parametrize("passes", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_not_tied_to_one_kind_of_sample(name: str, passes: int, output: str) -> None:
    """One head gives moduli from 0.05 to 5 and phases all around the circle."""
    made, exposure = generator(name, passes=passes, output=output), exposed(amplitude=(1.0, 1.0), phase=(0.0, 0.0))
    bias = next(weights for key, weights in made.named_parameters() if key.endswith("leave.bias"))
    heads = [weights for key, weights in made.named_parameters() if key.endswith("leave.weight")]
    for goal in (0.05, 5.0 * np.exp(3j), 2.0 * np.exp(-2j)):
        pair = [np.log(abs(goal)), np.angle(goal)] if output == "amplitude-phase" else [goal.real - 1, goal.imag]
        with torch.no_grad():
            for weights in heads:
                weights.zero_()
            bias.copy_(torch.tensor(pair, dtype=torch.float32).repeat_interleave(len(bias) // 2))
            patches = made(exposure)
        torch.testing.assert_close(patches, torch.full_like(patches, complex(goal)), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("passes", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_is_read_back_and_runs_at_another_size(tmp_path: Any, name: str, passes: int) -> None:
    options = TrainingOptions.build({"network": name, "width": 8, "passes": passes})
    probe = np.ones((1, SIZE, SIZE), np.complex64)
    model = Model(build_network(SIZE, 10.0, options), options, SIZE, 10.0, {}, probe)
    again = load_model(model.save(tmp_path / "model.safetensors"))
    before, after = model.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert again.options.own("network") == options.own("network")
    scan = diptych.simulate(object="blocks", size=64, patterns=9, step=8.0, dose=1e5, seed=1)
    assert np.isfinite(again.reconstruct(scan).object.values).all()


def test_a_multiple_depends_on_the_options() -> None:
    with pytest.raises(InputError, match="network hybrid: patterns of 24 px; expected a multiple of 16 px"):
        build_network(24, 1.0, NetworkOptions(network="hybrid"))
    build_network(24, 1.0, options_of("hybrid", levels=1))
    with pytest.raises(InputError, match=r"expected one of cnn, fno, fno_vanilla, ffno, uno, hybrid, stable_hybrid"):
        NetworkOptions.build({"network": "magic"})


@pytest.mark.parametrize("name", ["uno", "hybrid", "stable_hybrid"])
def test_channels_are_bounded_however_many_levels_there_are(name: str) -> None:
    made = build_network(64, 1.0, options_of(name, levels=5, cell=2, width=64, max_channels=64, passes=1))
    channels = {size for weights in made.parameters() if weights.dim() == 4 for size in weights.shape[:2]}
    # Heads and entrances have as many channels as a cell has pixels; skips that are concatenated, twice as many.
    assert max(channels) <= 128
    assert sum(weights.numel() for weights in made.parameters()) < 5e6


def test_operations_of_a_convolution_and_a_transform_are_the_closed_forms() -> None:
    class Convolution(torch.nn.Conv2d):
        def forward(self, x: Any) -> Any:
            return super().forward(x[None])

    assert operations(Convolution(3, 5, 3, padding=1), torch.zeros(3, 16, 16)) == 2 * 9 * 3 * 5 * 256

    class Transform(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.fft.fft2(x), torch.fft.rfft2(x.real), torch.fft.irfft(x[..., :9], n=16)

    whole = 5 * 256 * 8
    assert operations(Transform(), torch.zeros(16, 16, dtype=torch.complex64)) == whole + whole / 2 + whole / 4

    class Product(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x @ x, x.real @ x.real

    assert operations(Product(), torch.zeros(2, 4, 4, dtype=torch.complex64)) == (8 + 2) * 2 * 64


def test_the_receptive_field_of_convolutions_is_the_closed_form_and_of_spectral_layers_all() -> None:
    chain = torch.nn.Sequential(*(torch.nn.Conv2d(INPUTS, INPUTS, 3, padding=1) for _ in range(4)))
    assert receptive_field(PhysicsPasses(1.0, [chain]), 32) == 9
    assert receptive_field(torch.nn.Conv2d(1, 1, 3), 32) is None
    for name in ("fno_vanilla", "ffno", "stable_hybrid"):
        assert cost(options_of(name), 64, 1).receptive_field_px == 64


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_grows_with_the_pattern_and_not_with_the_group(name: str) -> None:
    small, grouped, large = (cost(options_of(name), *args) for args in ((32, 1), (32, 2), (64, 1)))
    assert small.parameters == grouped.parameters > 100
    assert small.flops_per_pattern == pytest.approx(grouped.flops_per_pattern, rel=0.01)
    assert 2.5 < large.flops_per_pattern / small.flops_per_pattern < 6
