"""Total variation where photons are few, by evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.flags.base import REGULARISED, by_kind, faults
from diptych.ptycho.engines.likelihood.regularised import Regularised, compare


def scan_of(dose: float) -> diptych.Scan:
    """Blocks: large even areas with sharp edges."""
    return diptych.simulate(object="blocks", size=32, patterns=100, step=4.0, dose=dose, seed=1)


def test_the_comparison_is_that_of_pairs() -> None:
    before = np.array([4.0, 1.0, 7.0, 8.0])
    change, error = compare(before, before - 0.2)
    assert change == pytest.approx(-0.04)
    assert error == pytest.approx(0, abs=1e-12)
    assert compare(before, before[::-1])[1] > 0.1


def test_the_note_tells_the_evidence_and_the_bias() -> None:
    note = Regularised(10.0, -0.034, 0.006, ()).flag()
    assert "strength 10, held-out deviance -3.4 %" in note
    assert "biased" in note
    assert list(by_kind([note])) == [REGULARISED]
    assert faults([note]) == ()


def test_engines_without_a_likelihood_and_scans_without_held_out_pixels_refuse() -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=16, step=2.0, dose=1e3, seed=0)
    with pytest.raises(InputError, match="engine auto or ml"):
        diptych.reconstruct(scan, engine="rpie", epochs=1, regularisation="total-variation")
    with pytest.raises(InputError, match="held_out"):
        diptych.reconstruct(scan, held_out=0.0, epochs=1, regularisation="total-variation")


def test_many_photons_are_never_regularised_by_auto() -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, dose=3e5, seed=0)
    plain, auto = (diptych.reconstruct(scan, regularisation=each) for each in ("off", "auto"))
    np.testing.assert_array_equal(auto.object.values, plain.object.values)
    np.testing.assert_array_equal(auto.probe, plain.probe)
    assert "regularisation" not in auto.provenance


@pytest.mark.integration
def test_auto_lowers_the_error_of_blocks_at_few_photons() -> None:
    scan = scan_of(1e3)
    plain, auto = (diptych.reconstruct(scan, probe="fixed", regularisation=each) for each in ("off", "auto"))
    found = auto.provenance["regularisation"]
    assert found["strength"] > 0
    assert found["change"] < -2 * found["standard_error"]
    assert REGULARISED in by_kind(auto.flags)
    errors = [diptych.evaluate(each, scan)["complex_error"] for each in (plain, auto)]
    assert errors[1] < 0.9 * errors[0]
    assert len({len(column) for column in auto.history.values()}) == 1
    assert auto.history["epoch"] == [float(n + 1) for n in range(len(auto.history["epoch"]))]
    bars = diptych.error_bars(auto, replace(scan), accuracy=0.3)
    assert "bias" in bars.provenance["error_bars"]["not_covered"]
