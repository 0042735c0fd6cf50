"""The forward model of slices: its limits, its gradient, and how an object is shared out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.physics.forward import ForwardModel, intensity
from diptych.ptycho.physics.thick.slices import SlicedForward, SlicedViews, between_slices, evened_out, shared_out
from diptych.ptycho.physics.thick.spacing import depth_of_field_m, longest_m, scale_of
from diptych.ptycho.scan import Geometry

N, SIDE, DOUBLE, CPU = 16, 30, torch.complex128, torch.device("cpu")
GEOMETRY = Geometry(8e3, 2.0, 75e-6)
POSITIONS = np.array([[9.3, 10.0], [12.0, 17.6], [18.2, 11.9], [19.0, 20.0], [10.5, 14.5]])
BATCH = np.arange(len(POSITIONS))


def complex_noise(*shape: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def model(depths_of_field: float = 5.0, whole: bool = False) -> SlicedForward:
    positions = np.rint(POSITIONS) if whole else POSITIONS
    thin = ForwardModel.far_field(positions, N, (0, 0), (SIDE, SIDE), dtype=DOUBLE, device=CPU)
    distance = depths_of_field * depth_of_field_m(*scale_of(GEOMETRY, N, "test"))
    return SlicedForward.of(thin, between_slices(GEOMETRY, N, distance, DOUBLE, CPU, "test"))


def rates(forward: ForwardModel, image: Tensor, probe: Tensor) -> Tensor:
    return forward.detect(forward.views(image, probe, BATCH).exit_waves())[1]


def loss(forward: ForwardModel, image: Tensor, probe: Tensor, counts: Tensor) -> Tensor:
    expected = rates(forward, image, probe)
    return (expected - counts * expected.log()).sum()


@pytest.mark.parametrize("whole", [True, False])
def test_the_gradient_is_that_of_autograd_and_of_finite_differences(whole: bool) -> None:
    """Three slices, two probe modes; also for the shifts of the probe where positions are no whole pixels."""
    forward = model(whole=whole)
    image, probe = 1 + 0.4 * complex_noise(3, SIDE, SIDE, seed=1), complex_noise(2, N, N, seed=2)
    counts = rates(forward, image, probe) * 1.3
    start = [(image + 0.1).requires_grad_(), (probe * 0.9).requires_grad_()]
    loss(forward, *start, counts).backward()
    with torch.no_grad():
        views = forward.views(*start, BATCH)
        field, expected = forward.detect(views.exit_waves())
        change = forward.back(field, 1 - counts / expected)
        in_object = torch.zeros_like(image)
        forward.add_object_adjoint(views, change, in_object)
        shifts = None if whole else forward.probe_and_shift_adjoint(views, change.clone())[1]
        in_probe = forward.probe_adjoint(views, change)
        # torch's gradient is twice that with respect to the conjugate.
        for mine, point in zip((in_object, in_probe), start, strict=True):
            assert point.grad is not None
            assert float((2 * mine - point.grad).abs().max()) < 1e-9 * float(point.grad.abs().max())
        step, eps = complex_noise(3, SIDE, SIDE, seed=3), 1e-6
        up, down = (loss(forward, start[0] + sign * eps * step, start[1], counts) for sign in (1, -1))
        assert float(up - down) / (2 * eps) == pytest.approx(2 * float((in_object.conj() * step).real.sum()), rel=1e-5)
        if shifts is not None and forward.fractions is not None:
            fractions = forward.fractions.clone()
            moved = []
            for sign in (1, -1):
                forward.fractions = fractions.clone()
                forward.fractions[1, 0] += sign * eps
                moved.append(float(loss(forward, *start, counts)))
            assert (moved[0] - moved[1]) / (2 * eps) == pytest.approx(2 * float(shifts[1, 0]), rel=1e-4)


def test_slices_in_the_same_plane_are_their_product() -> None:
    forward = model(depths_of_field=0.0)
    image, probe = complex_noise(3, SIDE, SIDE, seed=4), complex_noise(1, N, N, seed=5)
    torch.testing.assert_close(rates(forward, image, probe), rates(forward, image.prod(0), probe))


def test_structure_in_one_slice_is_a_thin_object_there() -> None:
    """In the first: free propagation behind it does not change a far field. In the last: the probe has propagated."""
    forward = model()
    thin, probe = complex_noise(SIDE, SIDE, seed=6), complex_noise(1, N, N, seed=7)
    clear = torch.ones_like(thin)
    torch.testing.assert_close(rates(forward, torch.stack([thin, clear]), probe), rates(forward, thin, probe))
    behind = forward.probes(probe, 2)[1]
    whole = model(whole=True)
    torch.testing.assert_close(rates(whole, torch.stack([clear, thin]), probe), rates(whole, thin, behind))
    assert float(intensity(behind).sum()) == pytest.approx(float(intensity(probe).sum()))


def test_an_object_without_slices_is_computed_as_ever() -> None:
    forward = model()
    thin = ForwardModel.far_field(POSITIONS, N, (0, 0), (SIDE, SIDE), dtype=DOUBLE, device=CPU)
    image, probe = complex_noise(SIDE, SIDE, seed=8), complex_noise(1, N, N, seed=9)
    views, plain = forward.views(image, probe, BATCH), thin.views(image, probe, BATCH)
    assert not isinstance(views, SlicedViews)
    assert torch.equal(views.exit_waves(), plain.exit_waves())
    canvases = [torch.zeros_like(image) for _ in range(2)]
    for each, seen, canvas in zip((forward, thin), (views, plain), canvases, strict=True):
        each.add_object_adjoint(seen, seen.exit_waves(), canvas)
    assert torch.equal(*canvases)


def test_an_object_is_shared_out_without_edges_where_its_phase_wraps() -> None:
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    image = torch.polar(0.5 + 0.4 * torch.cos(y / 9), 12 * torch.sin(x / 16)).to(torch.complex64)
    light = torch.ones(40, 50)
    light[:, :6] = 0
    slices = shared_out(image, light, 3)
    torch.testing.assert_close(slices.prod(0), image, rtol=1e-5, atol=1e-6)
    steps = torch.angle(slices[0][:, 7:] * slices[0][:, 6:-1].conj()).abs()
    assert float(steps.max()) == pytest.approx(12 / 16 / 3, rel=0.02)


def test_evened_out_slices_keep_their_product_and_share_its_modulus_and_phase() -> None:
    slices = torch.exp(0.2 * complex_noise(3, 20, 20, seed=10)) * torch.tensor([2.0, 0.3, 1.0])[:, None, None]
    slices[1] *= np.exp(1j)
    weights = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(1))
    found = evened_out(slices, weights)
    torch.testing.assert_close(found.prod(0), slices.prod(0))
    means = (weights * found.abs().log()).sum((1, 2)) / weights.sum((1, 2))
    torch.testing.assert_close(means, means.mean().expand(3))
    phases = torch.angle((weights * found).sum((1, 2)))
    assert float((phases - phases[0]).abs().max()) < 1e-9


def test_lengths_are_known_or_named_as_missing() -> None:
    wavelength, pixel = scale_of(GEOMETRY, 64, "test")
    assert depth_of_field_m(wavelength, pixel) == pytest.approx(2 * pixel[0] ** 2 / wavelength)
    # Half a window: the finest detail leaves at an angle of wavelength / (2 dx).
    assert longest_m(wavelength, pixel, 64) * wavelength / (2 * pixel[0]) == pytest.approx(32 * pixel[0])
    for geometry, missing in ((None, "energy_eV, distance_m, detector_pixel_m"), (Geometry(8e3), "distance_m")):
        with pytest.raises(InputError, match=missing):
            scale_of(geometry, 64, "test")
    transfer = model(1.0).between
    assert transfer is not None
    corner = np.angle(complex(transfer.transfer[0, N // 2]))
    assert corner == pytest.approx(-math.pi / 2)
