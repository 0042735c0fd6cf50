"""The convolutional generator and the passes with physics between them: shapes, symmetries, initial guess."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.errors import InputError
from diptych.ptycho.networks import Exposure, NetworkOptions, build_network
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.probe_model import ProbeModel


def exposed(
    size: int = 32, members: int = 4, *, dose: float = 1e5, **options: object
) -> tuple[diptych.Scan, ProbeModel, Exposure]:
    made = diptych.simulate(
        object="blocks", size=size, patterns=16, step=size / 8, dose=dose, noise="none", seed=1, **options
    )
    chosen = np.argsort(((made.positions[:, None] - made.positions[None]) ** 2).sum(-1), axis=1, kind="stable")[
        :3, :members
    ]
    probe_model = ProbeModel.of(ScanPatterns(made))
    counts = torch.from_numpy(np.fft.ifftshift(made.counts[chosen], (-2, -1)).astype(np.float32))
    return made, probe_model, probe_model.expose(counts, made.positions[chosen])


def network(size: int = 32, **options: object) -> torch.nn.Module:
    """A network with output layers that are not near zero."""
    torch.manual_seed(0)
    made = build_network(size, 10.0, NetworkOptions.build({"width": 8, **options}))
    for name, parameter in made.named_parameters():
        if "leave.weight" in name or "last.weight" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return made.eval()


@pytest.mark.parametrize("size", [32, 48, 64, 128, 256])
@pytest.mark.parametrize(("output", "decoder"), [("real-imag", "two"), ("amplitude-phase", "shared")])
def test_sizes_are_multiples_of_16(size: int, output: str, decoder: str) -> None:
    _, _, exposure = exposed(size, 1)
    with torch.no_grad():
        patches = network(size, output=output, decoder=decoder)(exposure)
    assert patches.shape == (3, 1, size, size)
    assert patches.is_complex()
    assert torch.isfinite(torch.view_as_real(patches)).all()


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"network cnn: patterns of 40 px; expected a multiple of 16"):
        build_network(40, 1.0, NetworkOptions())


@pytest.mark.parametrize("output", ["real-imag", "amplitude-phase"])
def test_permuting_members_permutes_the_patches(output: str) -> None:
    _, _, exposure = exposed()
    order = [3, 1, 0, 2]
    made = network(output=output)
    with torch.no_grad():
        patches = made(exposure)
        size = exposure.layout.size
        corners = exposure.layout.corners.reshape(3, 4, 2)[:, order].reshape(-1, 2)
        permuted = Exposure(
            exposure.counts[:, order],
            exposure.modes[:, order],
            None,
            None,
            replace(exposure.layout, corners=corners, size=size),
            exposure.offsets[:, order],
        )
        torch.testing.assert_close(made(permuted), patches[:, order], rtol=1e-4, atol=1e-4)


def test_members_inform_each_other_through_their_canvas_only() -> None:
    """With one pass a member's patch depends on its own pattern; with two, on its group's; never on another group's."""
    _, _, exposure = exposed()
    changed = replace(exposure, counts=exposure.counts.clone())
    changed.counts[0, 3] *= 1.5
    for passes, shared in ((1, False), (2, True)):
        made = network(passes=passes)
        with torch.no_grad():
            before, after = made(exposure), made(changed)
        assert torch.allclose(before[0, 0], after[0, 0], atol=1e-6) is not shared
        torch.testing.assert_close(before[1:], after[1:])


def test_counts_and_probe_scaled_together_change_nothing() -> None:
    made, probe_model, exposure = exposed()
    assert made.true_probe is not None
    brighter = ProbeModel(made.true_probe * 7, probe_model.power * 49)
    again = brighter.expose(exposure.counts * probe_model.power * 49, made.positions[np.zeros((3, 4), int)])
    again = replace(again, modes=exposure.modes, layout=exposure.layout)
    torch.testing.assert_close(brighter.modes(), probe_model.modes())
    with torch.no_grad():
        torch.testing.assert_close(network()(again), network()(exposure), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output", ["real-imag", "amplitude-phase"])
@pytest.mark.parametrize("level", [0.05, 0.4, 1.0])
def test_an_untrained_network_starts_from_a_flat_object_of_the_right_transmission(output: str, level: float) -> None:
    _, _, exposure = exposed(amplitude=(level, level), phase=(0.0, 0.0))
    torch.manual_seed(0)
    made = build_network(32, 10.0, NetworkOptions.build({"width": 8, "output": output, "passes": 1}))
    with torch.no_grad():
        patches = made(exposure)
    assert abs(float(patches.abs().mean()) / level - 1) < 0.05


def test_gradients_reach_every_weight_and_are_finite_at_low_dose() -> None:
    made = diptych.simulate(object="blocks", size=32, patterns=16, step=4.0, dose=50.0, seed=1)
    probe_model = ProbeModel.of(ScanPatterns(made))
    chosen = np.arange(16).reshape(4, 4)
    counts = torch.from_numpy(np.fft.ifftshift(made.counts[chosen], (-2, -1)).astype(np.float32))
    generator = network(decoder="two")
    generator(probe_model.expose(counts, made.positions[chosen])).abs().square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
