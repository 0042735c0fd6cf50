"""A reconstruction that starts from a probe computed from the optics."""

import logging

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.starts.initial import initial_probe
from diptych.ptycho.simulate import SimulationOptions
from diptych.runtime.options import Options

OPTICS = "optics:diameter_um=180,outer_zone_nm=150,stop_um=60,focus_to_sample_um=800"
GEOMETRY = {"energy_eV": 8800.0, "distance_m": 2.0, "detector_pixel_m": 75e-6}


def scan(**changes: object) -> diptych.Scan:
    options = {"object": "natural", "size": 64, "patterns": 36, "step": 5.0, "dose": 1e6, "seed": 0, **GEOMETRY}
    return diptych.simulate(**{**options, "probe": OPTICS, **changes})  # type: ignore[arg-type]


def test_the_simulated_probe_is_that_of_the_optics_and_found_again_by_their_parameters() -> None:
    given = scan()
    probe, note = initial_probe(given, ReconstructionOptions(probe=OPTICS))
    assert given.true_probe is not None
    overlap = np.abs(np.vdot(probe, given.true_probe)) / np.linalg.norm(given.true_probe) / np.linalg.norm(probe)
    assert overlap == pytest.approx(1, abs=1e-4)
    assert OPTICS in note
    result, true = (diptych.reconstruct(given, probe=each, engine="rpie", epochs=4) for each in (OPTICS, "refine"))
    assert OPTICS in result.provenance["probe_start"]
    assert result.provenance["fit"] == pytest.approx(true.provenance["fit"], rel=0.2)


@pytest.mark.slow
def test_a_wrong_distance_from_the_focus_is_refocused_and_said() -> None:
    wrong = OPTICS.replace("=800", "=-400")
    _, note = initial_probe(scan(), ReconstructionOptions(probe=wrong))
    assert "refocused" in note


def test_an_unknown_geometry_names_what_to_pass() -> None:
    given = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    with pytest.raises(diptych.InputError, match="--energy-eV, --distance-m, --detector-pixel-m"):
        diptych.reconstruct(given, probe=OPTICS)
    with pytest.raises(diptych.InputError, match="detector_pixel_m"):
        scan(detector_pixel_m=None)


@pytest.mark.parametrize("options", [ReconstructionOptions, SimulationOptions])
def test_malformed_optics_are_refused_before_any_work(options: type[Options]) -> None:
    with pytest.raises(diptych.InputError, match="has no defocus_nm"):
        options.build({"probe": "optics:diameter_um=180,outer_zone_nm=50,defocus_nm=3"})


def test_a_window_too_small_for_the_beam_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="diptych"):
        scan(probe=OPTICS.replace("=800", "=3600"), patterns=4)
    assert "the window is small for this beam" in caplog.text
