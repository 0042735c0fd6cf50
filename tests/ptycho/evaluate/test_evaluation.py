"""evaluate: gauges, areas, conventions, undefined values, inputs and outputs."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.evaluate import EvaluationOptions, Metrics, evaluate, evaluate_without_truth, half_scan_frc
from diptych.ptycho.scan import Canvas, Scan

TEXTBOOK = {
    "complex_error",
    "phase_rms_rad",
    *(f"{channel}_{metric}" for channel in ("amplitude", "phase") for metric in ("mae", "psnr", "ssim", "ms_ssim")),
    *(f"{frc}{suffix}" for frc in ("frc50", "frc1over7") for suffix in ("", "_half_period_px", "_half_period_m")),
}


@pytest.fixture(scope="module")
def flawed(truth):
    rng = np.random.default_rng(0)
    return Canvas(
        truth.values + 0.05 * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)), truth.origin
    )


def test_keys_and_conventions(flawed, truth, as_result):
    textbook, other, both = (
        evaluate(as_result(flawed), truth, convention=c) for c in ("textbook", "ptychopinn", "both")
    )
    assert set(textbook) == TEXTBOOK
    assert all(key.endswith("_ptychopinn") for key in other)
    assert set(both) == set(textbook) | set(other)
    assert {both.details[key].convention for key in other} == {"ptychopinn"}
    assert both["complex_error"] == textbook["complex_error"]


def test_error_of_known_noise(flawed, truth, as_result, box):
    found = evaluate(as_result(flawed), truth)
    y0, y1, x0, x1 = box
    expected = 0.05 * math.sqrt(2) * math.sqrt((y1 - y0) * (x1 - x0)) / np.linalg.norm(truth.crop(*box).values)
    assert found["complex_error"] == pytest.approx(expected, rel=0.02)
    assert found["phase_rms_rad"] == pytest.approx(
        0.05 * np.sqrt(np.mean(1 / np.abs(truth.crop(*box).values) ** 2)), rel=0.1
    )
    assert found["amplitude_psnr"] == pytest.approx(-20 * math.log10(0.05), abs=0.3)


def test_perfect_result(truth, as_result):
    found = evaluate(as_result(truth), truth, gauge="none")
    assert found["complex_error"] == 0
    assert found["amplitude_ssim"] == pytest.approx(1)
    assert found["frc50"] == 1
    assert "pixel size limits" in found.details["frc50"].note
    assert found["amplitude_psnr"] == math.inf
    assert found.details["amplitude_psnr"].reason == "the images are identical"


@pytest.mark.parametrize(
    ("treatment", "removed", "blind"),
    [("refine", "full", True), ("probe.npz", "full", True), (None, "full", True), ("fixed", "phase", False)],
)
def test_gauge_follows_the_probe(truth, as_result, displace, treatment, removed, blind):
    ramped = Canvas(displace(truth.values, (0, 0), (0.03, -0.02), 1.5), truth.origin)
    found = evaluate(as_result(ramped, treatment), truth)
    assert found.alignment.gauge == removed
    assert (found["complex_error"] < 0.01) == blind
    assert (found["phase_rms_rad"] < 0.01) == blind


def test_gauge_is_reported(truth, as_result):
    texts = {
        treatment: evaluate(as_result(truth, treatment), truth).details["complex_error"].gauge
        for treatment in ("refine", "fixed", None)
    }
    assert "shift removed (the probe was refined)" in texts["refine"]
    assert "global phase removed (the probe was held fixed)" in texts["fixed"]
    assert "not recorded" in texts[None]
    assert "as requested" in evaluate(as_result(truth), truth, gauge="scale").details["complex_error"].gauge


def test_area_is_the_scanned_box_by_default(flawed, truth, as_result, box):
    assert evaluate(as_result(flawed), truth, gauge="phase").details["frc50"].box == box
    assert evaluate(as_result(flawed), truth, gauge="phase", crop="all").details["frc50"].box == truth.extent
    # A bare canvas has no positions; a scan lends its own.
    assert evaluate(flawed, truth, gauge="phase").details["frc50"].box == truth.extent


def test_truth_may_be_a_scan_or_a_reference(flawed, scan, as_result):
    against_scan = evaluate(flawed, scan)
    against_reference = evaluate(as_result(flawed), as_result(scan.truth))
    assert against_scan["complex_error"] == pytest.approx(against_reference["complex_error"], rel=1e-6)


def test_files_are_loaded(monkeypatch, flawed, truth, scan, as_result):
    import diptych.ptycho.io

    files = {"result.h5": as_result(flawed), "truth.npz": scan, "counts.npz": Scan(scan.counts, scan.positions)}
    monkeypatch.setattr(diptych.ptycho.io, "load", lambda path: files[str(path)], raising=False)
    assert evaluate("result.h5", "truth.npz")["complex_error"] == evaluate(as_result(flawed), truth)["complex_error"]
    with pytest.raises(InputError, match=r"truth\.npz: contains a Scan; expected a Reconstruction"):
        evaluate("truth.npz", truth)
    with pytest.raises(InputError, match=r"counts\.npz: .*has no true object"):
        evaluate(flawed, "counts.npz")


def test_undefined_is_nan_with_its_reason(flawed, truth, as_result):
    found = evaluate(as_result(flawed), truth)
    assert math.isnan(found["amplitude_ms_ssim"])
    assert "smaller than 176 px" in found.details["amplitude_ms_ssim"].reason
    assert math.isnan(found["frc50_half_period_m"])
    assert "pixel size is not known" in found.details["frc50_half_period_m"].reason


def test_flat_images_have_no_resolution(as_result):
    flat = Canvas(np.ones((128, 128), np.complex64), origin=(-7, 11))
    found = evaluate(as_result(flat), flat, convention="both")
    flat_keys = [key for key in found if "frc" in key or key == "phase_ssim" or key == "amplitude_ssim"]
    assert len(flat_keys) == 12
    for key in flat_keys:
        assert math.isnan(found[key]), key
        assert "flat" in found.details[key].reason
    assert not found.curves


def test_metres_when_the_pixel_is_known(flawed, truth, as_result):
    known = Canvas(flawed.values, flawed.origin, pixel_m=(2e-8, 2e-8))
    found = evaluate(as_result(known), truth)
    assert found["frc50_half_period_m"] == pytest.approx(2e-8 * found["frc50_half_period_px"])
    assert found["frc50_half_period_px"] == pytest.approx(1 / found["frc50"])


def test_pixels_must_agree(truth):
    with pytest.raises(InputError, match=r"pixels of the result are 1e-08.*Resample"):
        evaluate(Canvas(truth.values, truth.origin, (1e-8, 1e-8)), Canvas(truth.values, truth.origin, (2e-8, 2e-8)))


def test_no_truth_is_an_input_error(truth, scan):
    with pytest.raises(InputError, match="no truth is given"):
        evaluate(truth)
    with pytest.raises(InputError, match="has no true object"):
        evaluate(truth, Scan(scan.counts, scan.positions, scan.probe))
    with pytest.raises(InputError, match="truth is a ndarray"):
        evaluate(truth, truth.values)
    with pytest.raises(InputError, match="result is a ndarray"):
        evaluate(truth.values, truth)


def test_options_are_checked(truth):
    with pytest.raises(InputError, match="gauge"):
        evaluate(truth, truth, gauge="everything")
    with pytest.raises(InputError, match="unknown option 'shift'"):
        evaluate(truth, truth, EvaluationOptions(crop="all"), shift=3)


def test_max_shift_bounds_the_search(truth, displace):
    far = Canvas(displace(truth.values, (14, 0)), truth.origin)
    assert evaluate(far, truth, max_shift=20)["complex_error"] < 0.01
    assert evaluate(far, truth, max_shift=3)["complex_error"] > 0.1


def test_json_is_strict(truth, as_result):
    found = evaluate(as_result(truth), truth, gauge="none")
    data = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert data["metrics"]["amplitude_psnr"] is None
    assert data["metrics"]["complex_error"] == 0
    assert data["details"]["amplitude_psnr"]["reason"] == "the images are identical"
    assert data["alignment"]["gauge"] == "none"


def test_table_says_everything_once(flawed, truth, as_result):
    text = str(evaluate(as_result(flawed), truth))
    lines = text.splitlines()
    assert lines[0].split()[0] == "complex_error"
    assert sum("smaller than 176 px" in line for line in lines) == 1
    assert any(line.startswith("amplitude_ms_ssim, phase_ms_ssim: ") for line in lines)
    assert any(line.startswith("gauge (textbook): global complex scale") for line in lines)
    assert any(line.startswith("area (textbook): y 13..101") for line in lines)


def test_metrics_are_a_mapping():
    found = Metrics({"a": 1.0}, {})
    assert dict(found) == {"a": 1.0}
    assert repr(found) == "Metrics(a=1)"


def test_without_truth(scan, as_result):
    rng = np.random.default_rng(0)

    def reconstruct(half):
        values = scan.truth.values + 0.05 * (rng.normal(size=scan.truth.shape) + 1j * rng.normal(size=scan.truth.shape))
        return as_result(Canvas(values, scan.truth.origin))

    found = evaluate_without_truth(scan, reconstruct=reconstruct)
    assert set(found) == {
        "half_difference",
        *(
            f"{frc}{suffix}"
            for frc in ("frc1over7", "frc_half_bit")
            for suffix in ("", "_half_period_px", "_half_period_m")
        ),
    }
    assert found["half_difference"] == pytest.approx(
        0.05 * 2 / np.sqrt(np.mean(np.abs(scan.truth.values) ** 2)), rel=0.05
    )
    # The object ends at 0.36 of Nyquist: beyond there is only noise, which the halves do not share.
    assert found["frc1over7"] == pytest.approx(0.36, abs=0.06)
    assert "same initial probe" in found.details["frc1over7"].note
    thinned = evaluate_without_truth(scan, reconstruct=reconstruct, split="thinning")
    assert "half the dose" in thinned.details["frc1over7"].note


def test_without_truth_flat_halves(scan, as_result):
    flat = as_result(Canvas(np.ones(scan.truth.shape, np.complex64), scan.truth.origin))
    found = evaluate_without_truth(scan, reconstruct=lambda half: flat)
    assert math.isnan(found["frc1over7"])
    assert "flat" in found.details["frc1over7"].reason


def test_importing_loads_no_heavy_library():
    code = (
        "import sys, diptych.ptycho.evaluate; "
        "print(*[m for m in ('torch', 'matplotlib', 'scipy', 'skimage', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_front_door():
    assert diptych.evaluate is evaluate


def test_halves_are_reconstructed_with_the_options_of_the_result(monkeypatch, scan, truth, probe):
    """The options in the result's provenance reach ``reconstruct``, as does the progress callback."""
    import diptych.ptycho.reconstruct
    from diptych.ptycho.scan import Reconstruction

    calls = []

    def reconstruct(half, options=None, progress=None):
        calls.append((options, progress))
        return Reconstruction(truth, probe, half.positions, provenance={"options": {"probe": "fixed"}})

    monkeypatch.setattr(diptych.ptycho.reconstruct, "reconstruct", reconstruct)
    result = Reconstruction(
        truth, probe, scan.positions, provenance={"options": {"engine": "rpie", "probe": "fixed", "epochs": 7}}
    )
    found = evaluate_without_truth(scan, result, progress=print)
    assert found["half_difference"] == pytest.approx(0, abs=1e-12)
    assert [(options.engine, options.epochs, progress) for options, progress in calls] == [("rpie", 7, print)] * 2
    assert "held fixed" in found.details["half_difference"].gauge
    evaluate_without_truth(scan)
    assert calls[-1][0].engine == "auto"
    half_scan_frc(scan)
    assert calls[-1] == (None, None)
    with pytest.raises(InputError, match="result is a Canvas"):
        evaluate_without_truth(scan, truth)
