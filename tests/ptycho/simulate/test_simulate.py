from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diptych
from diptych import Canvas, InputError, Scan, simulate
from diptych.ptycho.simulate.options import PROBE_KINDS, SimulationOptions
from diptych.ptycho.simulate.probes import make_probe
from diptych.runtime.options import read_yaml
from diptych.runtime.progress import Progress

OBJECTS = SimulationOptions.model_fields["object"].annotation.__args__
TRAJECTORIES = SimulationOptions.model_fields["trajectory"].annotation.__args__


def small(**options) -> Scan:
    return simulate(**({"size": 24, "patterns": 25, "object": "blocks"} | options))


def predicted(scan: Scan, probe=None, positions=None) -> np.ndarray:
    """Noise-free signal of a scan by plain NumPy, from its truth alone."""
    probe = np.asarray(scan.true_probe if probe is None else probe, complex)
    size = probe.shape[-1]
    frequency = np.fft.fftfreq(size)
    patterns = []
    for position in scan.positions if positions is None else positions:
        whole = np.floor(position + 0.5)
        fy, fx = position - whole
        ramp = np.exp(-2j * np.pi * frequency * fy)[:, None] * np.exp(-2j * np.pi * frequency * fx)
        if size % 2 == 0:
            ramp = _nyquist(ramp, frequency, fy, fx)
        y, x = (whole - scan.truth.origin).astype(int) - size // 2
        waves = np.fft.ifft2(np.fft.fft2(probe) * ramp) * scan.truth.values[y : y + size, x : x + size].astype(complex)
        patterns.append((np.abs(np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), (-2, -1))) ** 2).sum(0))
    return np.array(patterns)


def _nyquist(ramp, frequency, fy, fx):
    y = np.where(frequency == -0.5, np.cos(np.pi * fy), np.exp(-2j * np.pi * frequency * fy))
    x = np.where(frequency == -0.5, np.cos(np.pi * fx), np.exp(-2j * np.pi * frequency * fx))
    return y[:, None] * x


def test_front_door() -> None:
    scan = diptych.simulate(object="natural", probe="zone-plate", size=64, step=8.0, dose=1e6, seed=0)
    assert scan.counts.shape == (256, 64, 64)
    assert scan.counts.dtype == np.uint16
    assert scan.probe.shape == scan.true_probe.shape == (1, 64, 64)
    assert scan.probe_calibrated
    assert scan.geometry is None
    assert scan.mask is None
    assert isinstance(scan.truth, Canvas)
    assert scan.truth.origin == (0, 0)
    assert np.abs(scan.truth.values).max() <= 1 + 1e-6
    total = scan.counts.sum((1, 2), dtype=float)
    assert total.mean() == pytest.approx(1e6, abs=4 * np.sqrt(1e6 / 256))
    assert json.loads(json.dumps(scan.metadata)) == scan.metadata


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(OBJECTS),
    probe=st.sampled_from(PROBE_KINDS),
    trajectory=st.sampled_from(TRAJECTORIES),
    size=st.integers(12, 33),
    step=st.floats(1, 6),
    dose=st.floats(1e2, 1e6),
    modes=st.integers(1, 3),
    integer=st.booleans(),
    error=st.sampled_from([0.0, 0.7, 3.0]),
    seed=st.integers(0, 1000),
)
def test_any_scan_is_what_its_truth_says(
    kind, probe, trajectory, size, step, dose, modes, integer, error, seed
) -> None:
    scan = simulate(
        object=kind, probe=probe, trajectory=trajectory, size=size, step=step, dose=dose, modes=modes, integer=integer,
        position_error=error, seed=seed, patterns=9, noise="none",
    )  # fmt: skip
    assert scan.truth.origin == (0, 0)
    assert scan.counts.dtype == np.float32
    true_positions = np.array(scan.metadata["simulation"].get("true_positions", scan.positions))
    if integer:
        assert (true_positions == np.rint(true_positions)).all()
    expected = predicted(scan, positions=true_positions)
    np.testing.assert_allclose(scan.counts, expected, rtol=1e-5, atol=1e-6 * expected.max())
    assert expected.sum((1, 2)).mean() == pytest.approx(dose, rel=1e-6)
    # Windows keep the margin, and truth and data are the same bits from the same seed.
    corner = np.floor(true_positions + 0.5) - size // 2
    assert corner.min() >= 16
    assert (corner + size <= np.array(scan.truth.shape) - 16).all()


def test_transparent_object_gives_the_pattern_of_the_probe() -> None:
    scan = small(object=np.ones((90, 80)), noise="none", integer=True, probe_photons=5e4, modes=2)
    field = np.fft.fftshift(np.fft.fft2(scan.true_probe.astype(complex), norm="ortho"), (-2, -1))
    pattern = (np.abs(field) ** 2).sum(0)
    np.testing.assert_allclose(scan.counts, np.broadcast_to(pattern, scan.counts.shape), rtol=1e-6, atol=1e-3)
    # Parseval: sum |P|^2 is the photons through a transparent object.
    np.testing.assert_allclose(scan.counts.sum((1, 2)), 5e4, rtol=1e-5)
    assert scan.metadata["simulation"]["mean_signal_photons"] == pytest.approx(5e4)


def test_a_phase_ramp_moves_the_pattern_by_whole_pixels() -> None:
    # An object exp(2 pi i 3 x / N) adds 3 pixels of spatial frequency along +x: the forward FFT is the propagation.
    ramp = np.exp(2j * np.pi * 3 * np.arange(80) / 32) * np.ones((80, 1))
    flat, tilted = (
        small(object=values, size=32, noise="none", integer=True).counts for values in (np.ones((80, 80)), ramp)
    )
    np.testing.assert_allclose(tilted, np.roll(flat, 3, axis=2), rtol=1e-4, atol=1e-3)


def test_dose_or_photons_in_the_probe() -> None:
    by_dose = small(dose=2e5, noise="none")
    photons = by_dose.metadata["simulation"]["probe_photons"]
    assert photons > 2e5
    by_probe = small(probe_photons=photons, noise="none")
    np.testing.assert_allclose(by_probe.counts, by_dose.counts, rtol=1e-5, atol=1e-5)
    assert np.sum(np.abs(by_dose.true_probe.astype(complex)) ** 2) == pytest.approx(photons)


def test_dose_is_of_the_signal_alone() -> None:
    scan = small(dose=1e4, background=3.0, dead=0.1, noise="none")
    plain = small(dose=1e4, noise="none")
    np.testing.assert_array_equal(scan.true_probe, plain.true_probe)
    np.testing.assert_allclose(scan.counts[:, scan.mask], plain.counts[:, scan.mask] + 3, rtol=1e-6)
    assert (scan.background == 3).all()
    assert (~scan.mask).sum() == round(0.1 * 24**2)
    assert scan.counts[:, ~scan.mask].max() == 0


def test_the_seed_decides_every_bit() -> None:
    options = {"position_error": 0.5, "dead": 0.02, "probe_error": 0.5, "seed": 9}
    first, again, other = small(**options), small(**options), small(**options | {"seed": 10})
    for name in ("counts", "positions", "probe", "true_probe", "mask"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.truth.values.tobytes() == again.truth.values.tobytes()
    assert first.metadata == again.metadata
    for name in ("counts", "positions", "mask"):
        assert getattr(first, name).tobytes() != getattr(other, name).tobytes()
    assert first.truth.values.tobytes() != other.truth.values.tobytes()


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"dose": 50.0}, ("truth", "positions", "mask")),
        ({"noise": "none"}, ("truth", "positions", "true_probe", "mask")),
        ({"background": 2.0}, ("truth", "positions", "true_probe", "mask")),
        ({"dead": 0.3}, ("truth", "positions", "true_probe")),
        ({"object": "lines"}, ("positions", "mask")),
        ({"probe": "gaussian"}, ("truth", "positions", "mask")),
        ({"position_error": 2.0}, ("truth", "true_probe", "counts", "mask")),
        ({"probe_error": 1.0}, ("truth", "true_probe", "counts", "positions", "mask")),
    ],
)
def test_changing_one_option_leaves_the_rest(change, kept) -> None:
    first, second = small(dead=0.1), small(**{"dead": 0.1} | change)
    for name in kept:
        one, two = (getattr(scan, name) for scan in (first, second))
        if name == "truth":
            one, two = one.values, two.values
        assert one.tobytes() == two.tobytes(), name


def test_position_errors_are_in_the_reported_positions() -> None:
    exact, wrong = small(patterns=400, step=1.0), small(patterns=400, step=1.0, position_error=1.5)
    true_positions = np.array(wrong.metadata["simulation"]["true_positions"])
    np.testing.assert_array_equal(true_positions, exact.positions)
    difference = wrong.positions - true_positions
    assert difference.std() == pytest.approx(1.5, rel=0.1)
    assert abs(difference.mean()) < 0.2
    assert np.abs(difference).max() <= 6
    assert wrong.metadata["simulation"]["position_error_rms_px"] == pytest.approx(np.sqrt((difference**2).mean()))
    assert "true_positions" not in exact.metadata["simulation"]


def test_start_probe() -> None:
    exact = small(modes=2)
    np.testing.assert_array_equal(exact.probe, exact.true_probe)
    assert exact.probe is not exact.true_probe
    distances = []
    for error in (0.25, 0.5, 1.0):
        scan = small(modes=2, probe_error=error)
        assert not scan.probe_calibrated
        assert scan.probe.shape == scan.true_probe.shape
        distances.append(1 - _similarity(scan.probe[0], scan.true_probe[0]))
    assert 0 < distances[0] < distances[1] < distances[2]
    blind = simulate(size=64, patterns=4, probe_error=1.0, dose=1e5)
    assert _similarity(blind.probe[0], make_probe("zone-plate", 64, error=1.0)) == pytest.approx(1, abs=1e-6)
    assert np.sum(np.abs(blind.probe) ** 2) == pytest.approx(1e5, rel=1e-5)


def _similarity(a, b) -> float:
    return float(np.abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b))


def test_own_arrays() -> None:
    rng = np.random.default_rng(0)
    canvas = Canvas(rng.normal(size=(60, 70)) + 1j * rng.normal(size=(60, 70)), origin=(-20, 30))
    modes = rng.normal(size=(2, 16, 16)) + 1j * rng.normal(size=(2, 16, 16))
    positions = [[0.25, 50.0], [3.0, 53.5], [-4.0, 60.0]]
    scan = simulate(object=canvas, probe=modes, positions=positions, noise="none", dose=1e3)
    np.testing.assert_array_equal(scan.truth.values, canvas.values.astype(np.complex64))
    assert scan.truth.origin == (-20, 30)
    np.testing.assert_array_equal(scan.positions, positions)
    ratio = scan.true_probe / modes
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(scan.counts, predicted(scan), rtol=1e-4, atol=1e-4)
    assert scan.metadata["simulation"]["arrays_given"] == ["object", "probe", "positions"]


def test_own_positions_may_be_anywhere() -> None:
    positions = np.array([[-300.5, 20.0], [-297.0, 24.25]])
    scan = small(positions=positions, patterns=None, noise="none")
    np.testing.assert_array_equal(scan.positions, positions)
    assert scan.truth.origin == (-300 - 12 - 16, 20 - 12 - 16)
    np.testing.assert_allclose(scan.counts, predicted(scan), rtol=1e-4, atol=1)
    rounded = small(positions=positions, patterns=None, integer=True)
    np.testing.assert_array_equal(rounded.positions, [[-300, 20], [-297, 24]])


def test_trajectory_lies_in_the_middle_of_an_own_object() -> None:
    scan = small(object=Canvas(np.ones((100, 120)), origin=(50, -60)))
    middle = (scan.positions.min(0) + scan.positions.max(0)) / 2
    np.testing.assert_allclose(middle, [100, 0], atol=0.51)


def test_probe_from_a_file_sets_the_size(tmp_path: Path) -> None:
    np.save(tmp_path / "probe.npy", make_probe("gaussian", 20))
    scan = simulate(probe=str(tmp_path / "probe.npy"), patterns=4, modes=2, mode_powers=(3, 1), probe_error=0.5)
    assert scan.counts.shape == (4, 20, 20)
    power = (np.abs(scan.true_probe) ** 2).sum((1, 2))
    assert power[0] / power[1] == pytest.approx(3, rel=1e-5)
    assert abs(np.vdot(scan.true_probe[0], scan.true_probe[1])) < 1e-3 * power[1]
    assert 0.5 < _similarity(scan.probe[0], scan.true_probe[0]) < 0.99


def test_geometry_gives_real_units() -> None:
    scan = small(energy_eV=8000, distance_m=2.0, detector_pixel_m=75e-6)
    pixel = 1.239841984e-6 / 8000 * 2.0 / (24 * 75e-6)
    np.testing.assert_allclose(scan.truth.pixel_m, (pixel, pixel), rtol=1e-9)
    assert scan.pixel_m == scan.truth.pixel_m
    part = small(energy_eV=8000)
    assert part.geometry.energy_eV == 8000
    assert part.truth.pixel_m is None


def test_saturated_pixels_are_masked_pattern_by_pattern() -> None:
    scan = small(dose=1e6, saturation=4000)
    assert scan.mask.shape == scan.counts.shape
    np.testing.assert_array_equal(scan.counts == 4000, ~scan.mask)


def test_options_files_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "scan.yaml"
    path.write_text("size: 16\npatterns: 4\namplitude: [0.9, 1.0]\n")
    scan = simulate(SimulationOptions.build(read_yaml(path)), dose=10)
    assert scan.counts.shape == (4, 16, 16)
    again = simulate(SimulationOptions.build(read_yaml(path)))
    assert again.metadata["simulation"]["mean_signal_photons"] == pytest.approx(1e6)
    recorded = SimulationOptions.build(scan.metadata["simulation"]["options"])
    assert recorded.dose == 10
    assert recorded.amplitude == (0.9, 1.0)


def test_progress_is_reported() -> None:
    seen: list[Progress] = []
    simulate(size=16, patterns=7, progress=seen.append)
    assert (seen[-1].stage, seen[-1].done, seen[-1].total) == ("simulate", 7, 7)


BAD = [
    ({"object": "star"}, "object = 'star'"),
    ({"shape": 3}, "unknown option 'shape'; expected one of"),
    ({"size": 4}, "size = 4"),
    ({"amplitude": (0.9, 0.1)}, "the smaller one first"),
    ({"amplitude": (0.0, 0.0)}, "transmits nothing"),
    ({"phase": (1.0, 0.0)}, "the smaller one first"),
    ({"phase": (0.0, float("nan"))}, "phase"),
    ({"patterns": 0}, "patterns = 0"),
    ({"patterns": 9, "field": (30, 30)}, "patterns and field both set"),
    ({"trajectory": "raster", "jitter": 1.0}, "jitter is an option of trajectory jittered-raster"),
    ({"dose": 1e3, "probe_photons": 1e3}, "dose and probe_photons both set"),
    ({"dose": -1.0}, "dose = -1.0"),
    ({"probe": "disk", "aperture": 5.0}, "aperture is an option of probe zone-plate, and the probe is 'disk'"),
    ({"probe": "zone-plate", "radius": 5.0}, "radius is an option of probe gaussian or disk"),
    ({"aperture": 12.0}, "aperture: 12 px in a window of 24 px"),
    ({"modes": 3, "mode_powers": (0.5, 0.5)}, "2 numbers for 3 modes"),
    ({"probe": "no-such-file.npz"}, "neither a kind of probe nor a file"),
    ({"probe": np.ones((8, 8)), "size": 24}, "8 px wide and size = 24"),
    ({"probe": np.ones((8, 8)), "size": None, "defocus": 3.0}, "defocus: given together with an array for probe"),
    ({"probe": np.ones((2, 24, 24)), "modes": 3}, "has 2 modes already"),
    ({"object": np.ones((9, 9))}, "windows leave the object"),
    ({"object": np.zeros((99, 99))}, "transmits nothing where it is scanned"),
    ({"object": np.ones((99, 99)), "phase": (0, 1)}, "phase: given together with an array for object"),
    ({"object": np.full((99, 99), np.inf)}, "are not finite"),
    ({"positions": [[1, 2]], "patterns": 25}, "patterns: given together with an array for positions"),
    ({"step": 1e6}, "an object of"),
    ({"patterns": 1_000_000, "size": 512, "step": 0.01}, "are too many"),
    ({"beam_stop": 40.0}, "leave no valid pixel"),
    ({"dose": 1e-9}, "no valid pixel holds a single photon"),
    ({"saturation": 1.0, "dose": 1e9, "background": 100}, "1 counts mask every pixel"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[", ".join(options) for options, _ in BAD])
def test_impossible_scans_are_refused(options, message) -> None:
    with pytest.raises(InputError, match=message):
        small(**options)


@pytest.mark.parametrize("positions", [[[1, 2, 3]], [[0, 0], [1]], 5, [["a", "b"]], [[0, 0], [np.nan, 3]]])
def test_positions_that_are_none_are_refused(positions) -> None:
    with pytest.raises(InputError, match="positions"):
        simulate(size=16, positions=positions)


def test_every_option_says_what_it_is() -> None:
    for name, field in SimulationOptions.model_fields.items():
        assert field.description, name
        assert len(field.description) > 10, name
