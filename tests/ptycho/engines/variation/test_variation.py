"""A probe that drifts in the course of a scan: gradients, what is found, refused, interrupted, and stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.flags.base import VARIATION, by_kind
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, joined
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.positions.placing import Placed, place
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.variation.afresh import LIKELIHOOD_EPOCHS, PIE_EPOCHS, from_flat, misled
from diptych.ptycho.engines.variation.asked import check_variation, wanted
from diptych.ptycho.engines.variation.likelihood import VariationLikelihood
from diptych.ptycho.engines.variation.stage import smoothness
from diptych.ptycho.physics.forward import ForwardModel
from diptych.ptycho.physics.frame_factors import FrameFactors
from diptych.ptycho.physics.modes import extra_modes
from diptych.ptycho.physics.varying.probe import VaryingForward
from diptych.ptycho.reconstruct import Interrupted
from diptych.ptycho.scan import Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.interrupts import Cancel
from diptych.runtime.progress import Progress


def scan_with(drift: float, size: int = 16, patterns: int = 49, dose: float = 1e5, step: float = 2.0) -> Scan:
    """A scan whose probe loses a share ``drift`` of its power to another coherent shape, from first to last pattern."""
    made = {"object": "blocks", "size": size, "patterns": patterns, "step": step}
    scan = diptych.simulate(**made, dose=dose, probe_error=0.2, seed=1)  # type: ignore[arg-type]
    assert scan.truth is not None
    assert scan.true_probe is not None
    image = torch.from_numpy(scan.truth.values.astype(np.complex128))
    probe = torch.from_numpy(scan.true_probe.astype(np.complex128))
    other = torch.from_numpy(extra_modes(probe.numpy(), 1)[0]) * probe.abs().square().sum().sqrt()
    forward = ForwardModel.far_field(
        scan.positions,
        size,
        scan.truth.origin,
        scan.truth.values.shape,
        dtype=torch.complex128,
        device=torch.device("cpu"),
    )
    expected = np.zeros(scan.counts.shape)
    for frame in range(patterns):
        turn = np.sqrt(drift) * frame / (patterns - 1)
        now = np.sqrt(1 - turn**2) * probe + turn * other
        expected[frame] = forward.detect(forward.views(image, now, np.array([frame])).exit_waves())[1][0].numpy()
    expected *= dose / expected.sum((1, 2)).mean()
    return replace(scan, counts=np.random.default_rng(2).poisson(expected).astype(np.float32), true_probe=None)


def error(result: Any, scan: Scan) -> float:
    assert scan.truth is not None
    return float(diptych.evaluate(result, truth=scan.truth)["complex_error"])


@pytest.mark.parametrize("moving", [False, True])
def test_gradient_of_each_part_is_that_of_finite_differences(make_case: Any, moving: bool) -> None:
    case = make_case(subpixel=moving, modes=2)
    rng = np.random.default_rng(0)
    problem = replace(case.problem, forward=VaryingForward.of(case.problem.forward))

    def drawn(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(case.probe.dtype)

    # Band-limited, like the probe: the derivative along a shift leaves out the Nyquist frequency.
    components = torch.stack([case.probe[0].roll(1, axis) - case.probe[0] for axis in (0, 1)])
    mixing = 0.3 * drawn(len(problem), 3)
    mixing[:, 0] += 1
    settings = LikelihoodSettings(refine_positions=moving)
    engine = VariationLikelihood(problem, case.image, case.probe, components, mixing, settings)
    point = [case.image, case.probe, components, mixing]
    shifts = engine._shifts(engine._point)

    def loss(parts: list[torch.Tensor], offset: torch.Tensor | None) -> float:
        vector = joined(parts)
        if shifts is not None:
            vector = torch.cat([vector, (shifts if offset is None else shifts + offset).flatten()])
        return engine._evaluate(vector)[0]

    gradient = engine._gradient.clone()
    h = 1e-6
    for number, part in enumerate(point):
        change = drawn(*part.shape) * float(part.abs().max())
        up, down = (loss([*point[:number], part + s * h * change, *point[number + 1 :]], None) for s in (1, -1))
        slope = 2 * float(torch.vdot(engine._parts(gradient)[number].flatten(), change.flatten()).real)
        assert (up - down) / (2 * h) == pytest.approx(slope, rel=1e-4)
    if shifts is not None:
        along = torch.from_numpy(rng.normal(size=tuple(shifts.shape)))
        found = engine._shifts(gradient)
        assert found is not None
        up, down = (loss(point, s * h * along) for s in (1, -1))
        assert (up - down) / (2 * h) == pytest.approx(2 * float((found * along).sum()), rel=2e-2)


def test_smoothness_tells_a_slow_change_from_noise() -> None:
    rng = np.random.default_rng(1)
    noise = torch.from_numpy(rng.normal(size=400) + 1j * rng.normal(size=400))
    slow = torch.from_numpy(np.linspace(-1, 1, 400) * np.exp(0.3j))
    assert abs(smoothness(noise)) < 0.25
    assert smoothness(slow + 0.1 * noise) > 0.9
    assert smoothness(torch.zeros(5, dtype=torch.complex128)) == 0


@pytest.mark.slow
def test_a_drift_is_found_with_no_option_and_the_result_file_carries_it(tmp_path: Path) -> None:
    scan = scan_with(0.2)
    given = replace(scan, truth=None)
    found = diptych.reconstruct(given)
    constant = diptych.reconstruct(given, probe_variation=0, modes=1, frame_factors="off", correct_positions="off")
    assert error(found, scan) < 0.6 * error(constant, scan)
    (note,) = by_kind(found.flags)[VARIATION]
    assert "1 component" in note
    record = found.provenance["probe_variation"]
    assert record["kept"]
    assert 0.001 < record["shares"][0] < 0.2
    assert record["fit"] < record["fit_before"]
    assert found.probe_components is not None
    assert found.probe_coefficients is not None
    power = np.abs(found.probe_coefficients[:, 1]) ** 2
    assert float(power.mean()) == pytest.approx(1, rel=1e-3)
    assert abs(np.vdot(found.probe[0], found.probe_components[0])) < 1e-3 * np.linalg.norm(found.probe[0]) ** 2
    for name in ("a.h5", "a.npz"):
        back = diptych.load(diptych.save(found, tmp_path / name))
        np.testing.assert_array_equal(back.probe_components, found.probe_components)
        np.testing.assert_array_equal(back.probe_coefficients, found.probe_coefficients)


@pytest.mark.slow
def test_a_drift_is_found_beside_wrong_positions_which_hide_it() -> None:
    scan = scan_with(0.2, size=24, patterns=81, step=3.0)
    errors = np.random.default_rng(3).normal(0, 0.5 / np.sqrt(2), scan.positions.shape)
    found = diptych.reconstruct(replace(scan, truth=None, positions=scan.positions + errors))
    told = {"probe_variation": 1, "modes": 1, "frame_factors": "off", "correct_positions": "off"}
    knowing = diptych.reconstruct(replace(scan, truth=None), **told)
    assert VARIATION in by_kind(found.flags)
    assert error(found, scan) < 2 * error(knowing, scan)
    off = found.positions - scan.positions
    assert np.hypot(*(off - off.mean(0)).T).max() < 0.5


def test_a_start_from_flat_forgets_factors_and_moved_positions(make_case: Any) -> None:
    case = make_case()
    problem = replace(case.problem, forward=VaryingForward.of(case.problem.forward))
    recorded, shape = problem.forward.positions.copy(), problem.shape
    scan = Scan(problem.counts.numpy().astype(np.float32), recorded)
    request = Request(scan, ReconstructionOptions(held_out=0.0), ExecutionOptions())
    problem.forward.factors = FrameFactors(len(problem), torch.float64, torch.device("cpu"))
    problem.forward.factors.fitted = True
    place(problem, Placed(case.image, case.probe, recorded + 3.0, problem.origin))
    before = Run(history={"epoch": [1.0, 2.0], "seconds": [0.1, 0.2], "fit": [3.0, 2.0]}, best=(case.image, case.probe))
    found = from_flat(request, problem, before, recorded, case.probe)
    assert not problem.forward.factors.fitted
    np.testing.assert_array_equal(problem.forward.positions, recorded)
    assert problem.shape == shape
    assert found.best is not None
    assert found.best[0].shape == shape
    assert found.epochs == 2 + PIE_EPOCHS + LIKELIHOOD_EPOCHS
    assert found.history["fit"][-1] < 0.2 * found.history["fit"][2]


def test_only_a_run_that_a_constant_probe_can_mislead_is_begun_again() -> None:
    image, probe = torch.ones(4, 4), torch.ones(1, 2, 2)
    assert not misled(Run(best=(image, probe)), grown=False, factors=False)
    assert misled(Run(best=(image, probe)), grown=True, factors=False)
    assert misled(Run(best=(image, probe)), grown=False, factors=True)
    assert misled(Run(best=(image, probe, torch.zeros(3, 2), torch.zeros(2))), grown=False, factors=False)


@pytest.mark.slow
def test_a_constant_probe_stays_so() -> None:
    given = replace(scan_with(0.0), truth=None)
    found, without = diptych.reconstruct(given), diptych.reconstruct(given, probe_variation=0)
    assert VARIATION not in by_kind(found.flags)
    np.testing.assert_array_equal(found.object.values, without.object.values)
    asked = diptych.reconstruct(given, probe_variation=1)
    assert "Not kept" in by_kind(asked.flags)[VARIATION][0]
    assert asked.probe_components is None
    assert not asked.provenance["probe_variation"]["kept"]


@pytest.mark.slow
def test_dead_lines_of_the_detector_are_not_taken_for_a_drift() -> None:
    kind = {"object": "lines", "size": 64, "patterns": 144, "step": 8, "trajectory": "jittered-raster"}
    scan = diptych.simulate(**kind, dose=1e5, probe_error=0.5, seed=1)
    counts = scan.counts.copy()
    counts[:, 36], counts[:, :, 30] = 0, 0
    found = diptych.reconstruct(replace(scan, counts=counts, truth=None))
    assert VARIATION not in by_kind(found.flags)
    assert found.probe_components is None


@pytest.mark.parametrize(
    "other",
    [{"engine": "rpie"}, {"probe": "fixed"}, {"held_out": 0.0}, {"regularisation": "auto"}],
)
def test_refused_with_what_does_not_go_with_it(other: dict[str, Any]) -> None:
    given = replace(scan_with(0.0), truth=None)
    with pytest.raises(InputError, match=f"probe_variation = 1 with {next(iter(other))}"):
        diptych.reconstruct(given, probe_variation=1, **other)


def test_error_bars_go_with_components_that_are_asked_for_and_not_with_auto() -> None:
    asked = ReconstructionOptions(probe_variation=1, error_bars=True)
    check_variation(asked)
    assert wanted(asked) == 1
    assert wanted(ReconstructionOptions(error_bars=True)) == 0
    assert wanted(ReconstructionOptions()) == "auto"


def test_refused_with_slices() -> None:
    geometry: dict[str, Any] = {"energy_eV": 8e3, "distance_m": 2.0, "detector_pixel_m": 75e-6}
    scan = diptych.simulate(object="blocks", size=16, patterns=16, step=2.0, dose=1e5, seed=0, **geometry)
    with pytest.raises(InputError, match="slices = 2"):
        diptych.reconstruct(replace(scan, truth=None), probe_variation=1, slices=2, slice_distance_m=1e-5)


@pytest.mark.slow
def test_cancelled_in_the_stage_keeps_a_result() -> None:
    cancel = Cancel()

    def told(report: Progress) -> None:
        if report.stage == "probe that varies" and report.done >= 2:
            cancel.request()

    given = replace(scan_with(0.2), truth=None)
    with pytest.raises(Interrupted) as stopped:
        diptych.reconstruct(given, probe_variation=1, progress=told, cancel=cancel)
    result = stopped.value.result
    assert np.isfinite(result.object.values).all()
    assert "cancelled" in result.provenance["stop_reason"]
