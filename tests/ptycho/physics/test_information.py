"""Fisher information: the operator against finite differences and autograd, free directions, inverse, and estimates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.ptycho.physics.forward import ForwardModel
from diptych.ptycho.physics.information import (
    Curvature,
    Information,
    Point,
    Projection,
    Refined,
    conjugate_gradients,
    free_fields,
    raster_classes,
    signs,
)
from diptych.ptycho.physics.information.operator import FEW
from diptych.ptycho.physics.patches import canvas_box
from diptych.ptycho.physics.varying.probe import Variation, VaryingForward, canonical
from diptych.ptycho.scan import Scan
from diptych.ptycho.simulate import simulate

ALL = Refined(probe=True, positions=True, factors=True)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def small(**options: object) -> Scan:
    given = {"object": "natural", "size": 8, "patterns": 9, "step": 2.3, "dose": 1e5, "trajectory": "fermat-spiral"}
    return simulate(**{**given, **options})  # type: ignore[arg-type]


def at_truth(scan: Scan, refined: Refined, *, prior: float = 1.0, valid: Tensor | None = None) -> Information:
    origin, shape = canvas_box(scan.positions, scan.size, 1)
    background = None if scan.background is None else torch.from_numpy(scan.background.astype(np.float64))
    forward = ForwardModel.far_field(
        scan.positions,
        scan.size,
        origin,
        shape,
        dtype=torch.complex128,
        device=torch.device("cpu"),
        background=background,
    )
    assert scan.truth is not None
    assert scan.true_probe is not None
    image = scan.truth.crop(origin[0], origin[0] + shape[0], origin[1], origin[1] + shape[1]).values
    wide = (torch.from_numpy(np.asarray(each, np.complex128)) for each in (image, scan.true_probe))
    return Information(forward, *wide, refined, valid=valid, prior=prior, batch=4)


def varying(scan: Scan, refined: Refined) -> Information:
    """At the truth, with a probe that varies in two random components, a fifth of the probe each."""
    info = at_truth(scan, refined)
    rng = torch.Generator().manual_seed(7)
    shapes = torch.randn((2, *info.probe.shape[1:]), generator=rng, dtype=torch.complex128)
    shapes *= 0.2 * torch.linalg.vector_norm(info.probe[0]) / torch.linalg.vector_norm(shapes[0])
    mixing = torch.randn((info.patterns, 3), generator=rng, dtype=torch.complex128)
    mixing[:, 0] = 1
    forward = VaryingForward.of(info.forward)
    forward.variation = Variation(*canonical(info.probe[0], shapes, mixing))
    probe = torch.cat([forward.variation.first[None], info.probe[1:]])
    return Information(forward, info.image, probe, refined, batch=4)


def flat(image: Tensor) -> Tensor:
    return torch.view_as_real(image.contiguous()).flatten()


def expected(info: Information, change: Tensor) -> Tensor:
    """Expected counts after a change of the unknowns."""
    parts, forward = info.parts(change), info.forward
    if parts.shifts is not None:
        assert forward.fractions is not None
        forward = replace(forward, fractions=forward.fractions + parts.shifts)
    probe = info.probe if parts.probe is None else info.probe + parts.probe
    if parts.components is not None:
        assert info.variation is not None
        assert parts.weights is not None
        weights = torch.cat([torch.zeros_like(parts.weights[:, :1]), parts.weights], 1)
        components, mixing = info.variation.components + parts.components, info.variation.coefficients + weights
        forward = VaryingForward.of(forward)
        forward.variation = Variation.of(probe[0], components, mixing)
    views = forward.views(info.image + parts.image, probe, np.arange(info.patterns))
    factors = None if parts.factors is None else (1 + parts.factors)[:, None, None]
    return forward.detect(views.exit_waves(), factors)[1]


@pytest.mark.parametrize("masked", [False, True])
def test_operator_is_the_derivative_times_its_adjoint_and_equals_the_dense_matrix(masked: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    valid = torch.rand((9, 8, 8), generator=rng) > 0.3 if masked else None
    info = at_truth(small(modes=2, background=0.5), ALL, valid=valid)
    v = torch.randn((2, info.unknowns), generator=rng, dtype=torch.float64)
    w = torch.randn((9, 8, 8), generator=rng, dtype=torch.float64)
    assert float((info.derivative(v[0]) * w).sum()) == pytest.approx(float(info.adjoint(w) @ v[0]), rel=1e-10)
    dense = info.dense()
    torch.testing.assert_close(info.times(v), v @ dense, rtol=1e-9, atol=1e-9 * float(dense.abs().max()))
    if valid is not None:
        assert (info.derivative(v[0])[~valid] == 0).all()


def test_derivative_agrees_with_finite_differences_of_the_counts() -> None:
    scan = small(background=0.2, size=9)
    info = at_truth(scan, ALL)
    v = torch.randn(info.unknowns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-5
    slope = (expected(info, step * v) - expected(info, -step * v)) / (2 * step)
    found = info.derivative(v) * expected(info, 0 * v).sqrt()
    torch.testing.assert_close(found, slope, rtol=1e-5, atol=1e-5 * float(slope.abs().max()))


@pytest.mark.parametrize("others", [{}, {"positions": True, "factors": True}])
@pytest.mark.parametrize("modes", [1, 2])
def test_a_probe_that_varies_keeps_its_power_in_derivative_and_adjoint(modes: int, others: dict[str, bool]) -> None:
    info = varying(small(modes=modes, background=0.2, size=9), Refined(probe=True, **others))
    v = torch.randn(info.unknowns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v *= info.diagonal().rsqrt()
    step = 1e-5
    slope = (expected(info, step * v) - expected(info, -step * v)) / (2 * step)
    found = info.derivative(v) * expected(info, 0 * v).sqrt()
    torch.testing.assert_close(found, slope, rtol=1e-5, atol=1e-5 * float(slope.abs().max()))
    residuals = torch.randn((9, 9, 9), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert float((info.derivative(v) * residuals).sum()) == pytest.approx(float(info.adjoint(residuals) @ v), rel=1e-10)


def test_a_known_probe_that_varies_adds_no_unknowns() -> None:
    info = varying(small(), Refined())
    assert info.unknowns == 2 * info.image.numel()
    v = torch.randn(info.unknowns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slope = (expected(info, 1e-5 * v) - expected(info, -1e-5 * v)) / 2e-5
    found = info.derivative(v) * expected(info, 0 * v).sqrt()
    torch.testing.assert_close(found, slope, rtol=1e-5, atol=1e-5 * float(slope.abs().max()))


def test_matrix_equals_that_of_autograd() -> None:
    scan = small(integer=True, patterns=4)
    info = at_truth(scan, Refined(probe=True), prior=0)

    def counts(change: Tensor) -> Tensor:
        image = info.image + torch.view_as_complex(change[: flat(info.image).numel()].view(*info.image.shape, 2))
        probe = info.probe + torch.view_as_complex(change[flat(info.image).numel() :].view(*info.probe.shape, 2))
        waves = [probe * image[y : y + 8, x : x + 8] for y, x in info.forward.corners.tolist()]
        field = info.forward.propagator.forward(torch.stack([info.forward.propagator.enter(wave) for wave in waves]))
        return (field.real.square() + field.imag.square()).sum(1)

    zero = info.zeros()
    with torch.enable_grad():
        rows = torch.autograd.functional.jacobian(counts, zero).flatten(0, 2)
    mean = counts(zero).flatten()
    fisher = rows.T @ (rows / mean[:, None])
    torch.testing.assert_close(info.dense(), fisher, rtol=1e-8, atol=1e-8 * float(fisher.abs().max()))


def quotient(info: Information, image: Tensor, probe: Tensor | None = None) -> float:
    """Information along a direction, over that along an unrelated one of equal object part."""
    parts = [flat(image)] + ([] if probe is None else [flat(probe)])
    vector = torch.cat(parts)
    other = torch.cat([flat(image).roll(7)] + ([] if probe is None else [flat(probe).roll(7)]))
    forms = [float(v @ info.times(v[None])[0]) for v in (vector, other)]
    return forms[0] / forms[1]


def test_free_directions_have_no_information() -> None:
    known = at_truth(small(), Refined(), prior=0)
    assert quotient(known, 1j * known.image) < 1e-12
    scan = small(integer=True)
    info = at_truth(scan, Refined(probe=True), prior=0)
    assert quotient(info, info.image, -info.probe) < 1e-12
    y = torch.arange(info.image.shape[0], dtype=torch.float64)[:, None]
    across = torch.arange(8, dtype=torch.float64)[:, None]
    assert quotient(info, 1j * y * info.image, -1j * across * info.probe) < 1e-12
    # With a known probe the same scale of the object is measured.
    assert quotient(known, known.image) > 0.1


def test_factors_that_repeat_with_an_exact_raster_are_free_and_found() -> None:
    scan = small(trajectory="raster", step=3.0, integer=True)
    info = at_truth(scan, Refined(probe=True), prior=0)
    classes = raster_classes(scan.positions, info.forward.origin, info.forward.shape)
    assert classes is not None
    assert len(np.unique(classes)) == 9
    y, x = info.forward.corners[0]
    window = torch.from_numpy(classes[y : y + 8, x : x + 8])
    factor = torch.randn(9, generator=torch.Generator().manual_seed(2), dtype=torch.complex128)
    assert quotient(info, factor[torch.from_numpy(classes)] * info.image, -factor[window] * info.probe) < 1e-12
    assert raster_classes(small().positions, (0, 0), (20, 20)) is None
    assert raster_classes(scan.positions * 1.1, (0, 0), (20, 20)) is None


def test_projection_removes_free_fields_only_and_has_its_adjoint() -> None:
    rng = torch.Generator().manual_seed(3)
    image = torch.randn((12, 10), generator=rng, dtype=torch.complex128)
    fields = free_fields(image, probe=True)
    weight = torch.rand((12, 10), generator=rng, dtype=torch.float64)
    projection = Projection.onto(fields, weight)
    a, b = torch.randn((2, 240), generator=rng, dtype=torch.float64)
    mixed = flat((torch.randn(6, generator=rng, dtype=torch.float64)[:, None, None] * fields).sum(0))
    torch.testing.assert_close(projection.remove(a + mixed), projection.remove(a), rtol=1e-8, atol=1e-8)
    assert float(projection.remove(a) @ b) == pytest.approx(float(a @ projection.adjoint(b)))
    left = projection.remove(a)
    twice = torch.stack([weight, weight], -1).flatten()
    assert float((left * twice * flat(fields[3])).sum()) == pytest.approx(0, abs=1e-8)


def test_conjugate_gradients_solve_a_singular_system() -> None:
    rng = torch.Generator().manual_seed(4)
    root = torch.randn((20, 12), generator=rng, dtype=torch.float64)
    matrix = root @ root.T
    wanted = torch.randn((3, 20), generator=rng, dtype=torch.float64) @ matrix
    found = conjugate_gradients(lambda v: v @ matrix, wanted, matrix.diagonal(), tolerance=1e-10, steps=200)
    torch.testing.assert_close(found.values @ matrix, wanted, rtol=1e-6, atol=1e-6)
    assert found.residual <= 1e-10


def test_signs_lie_apart_and_cover_every_pixel_once_a_sweep() -> None:
    sweep = torch.stack(list(islice(signs((7, 6), 3, 0, torch.device("cpu")), 9)))
    assert (sweep.abs().sum(0) == 1).all()
    rows, columns = torch.nonzero(sweep[4], as_tuple=True)
    assert len({(int(y) % 3, int(x) % 3) for y, x in zip(rows, columns, strict=True)}) == 1


def exact(curvature: Curvature) -> np.ndarray:
    """Variances (2, H, W) along and across the object, from the dense matrix."""
    n = 2 * curvature.information.image.numel()
    inverse = torch.linalg.pinv(curvature.information.dense(), hermitian=True, rtol=1e-13)[:n, :n]
    half = curvature.projection.remove(inverse)
    covariance = curvature.projection.remove(half.T)
    turn = curvature.turn.flatten()
    index = 2 * torch.arange(n // 2)
    xx, yy, xy = (covariance[index + a, index + b] for a, b in ((0, 0), (1, 1), (0, 1)))
    along = turn.real**2 * xx + turn.imag**2 * yy + 2 * turn.real * turn.imag * xy
    return torch.stack([along, xx + yy - along]).view(2, *curvature.shape).numpy()


@pytest.mark.parametrize(
    "refined", [Refined(), pytest.param(Refined(probe=True), marks=pytest.mark.slow)], ids=["known", "blind"]
)
def test_probing_agrees_with_the_dense_inverse(refined: Refined) -> None:
    scan = small(size=10, patterns=16, step=2.0, dose=1e6)
    assert scan.truth is not None
    assert scan.true_probe is not None
    curvature = Curvature(Point(scan.truth, scan.true_probe, scan.positions, refined=refined), double=True)
    found, wanted = curvature.variances(pixel_noise=0.15), exact(curvature)
    scored, lit = curvature.scored.numpy(), curvature.lit.numpy()
    assert found.total == pytest.approx(wanted[:, scored].sum(), rel=0.05)
    ratio = np.stack([found.along, found.across])[:, lit] / wanted[:, lit]
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert np.sqrt(np.mean((np.clip(ratio, 0, 3) - 1) ** 2)) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("refined", [Refined(), Refined(probe=True)], ids=["known", "blind"])
def test_estimates_of_maximum_likelihood_scatter_as_the_information_says(refined: Refined) -> None:
    # A background: without one, the likelihood of nearly dark pixels is not quadratic at any dose.
    info = at_truth(small(size=10, patterns=16, step=2.0, dose=1e8, background=1e3), refined)
    rng = np.random.default_rng(5)
    mean = expected(info, info.zeros()).numpy()
    light = info.forward.illumination(info.probe)
    inner = light > 0.3 * light.max()
    projection = Projection.onto(free_fields(info.image, probe=refined.probe), torch.where(inner, light, 0))
    n = flat(info.image).numel()
    chosen = flat(torch.complex(inner.double(), inner.double())) > 0
    inverse = torch.linalg.pinv(info.dense(), hermitian=True, rtol=1e-13)
    scatter = []
    for _ in range(16):
        counts = torch.from_numpy(rng.poisson(mean).astype(np.float64))
        estimate = info.zeros()
        for _ in range(4):
            there = info.parts(estimate)
            probe = info.probe if there.probe is None else info.probe + there.probe
            now = Information(info.forward, info.image + there.image, probe, refined)
            rates = expected(now, now.zeros())
            score = now.adjoint((counts - rates) / rates.sqrt())
            score[:n] -= info.stiffness * estimate[:n]
            # The curvature of weak directions changes most from step to step.
            curvature = now.dense()
            curvature.diagonal().add_(1e-3)
            estimate = estimate + torch.linalg.solve(curvature, score)
        scatter.append(projection.remove(estimate[:n])[chosen])
    covariance = projection.remove(projection.remove(inverse[:n, :n]).T)
    predicted = float(covariance.diagonal()[chosen].sum())
    assert float(torch.stack(scatter).square().sum(1).mean()) == pytest.approx(predicted, rel=0.25)


def test_doubt_weights_the_information_of_each_detector_pixel() -> None:
    """F is K^T w K with w = 1 / (1 + d I / (I^2 + FEW^2)), K that of the bound."""
    info = at_truth(small(dose=1e3), Refined(probe=True), prior=0)
    v = torch.randn((1, info.unknowns), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = expected(info, info.zeros())
    weight = 1 / (1 + 0.07 * counts / (counts.square() + FEW**2))
    wanted = info.adjoint(weight * info.derivative(v[0]))
    info.doubt = 0.07
    torch.testing.assert_close(info.times(v)[0], wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))
    assert float(weight.min()) < 0.8


def test_variances_that_are_attained_exceed_the_bound_where_photons_are_few() -> None:
    """By some per cent at ten counts per detector pixel on average; by nothing at many."""
    for dose, least, most in ((1e3, 1.08, 1.15), (1e9, 1.0, 1.001)):
        scan = small(size=10, patterns=16, step=2.0, dose=dose)
        assert scan.truth is not None
        assert scan.true_probe is not None
        point = Point(scan.truth, scan.true_probe, scan.positions)
        bound, attained = (exact(Curvature(point, double=True, attained=each)) for each in (False, True))
        lit = Curvature(point).scored.numpy()
        assert least <= attained[:, lit].sum() / bound[:, lit].sum() <= most
