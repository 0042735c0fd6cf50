"""Engines with the compiled loops and without them: the same numbers up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import diptych
from diptych.ptycho.physics import compiled
from diptych.ptycho.physics.compiled import fourier
from diptych.ptycho.physics.compiled.one_pass import CompiledPass


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function after which PyTorch does all the work."""

    def switch_off() -> None:
        monkeypatch.setattr(compiled, "_module", lambda: None)
        monkeypatch.setattr(fourier, "_library", lambda: None)
        monkeypatch.setattr(CompiledPass, "of", lambda problem: None)

    return switch_off


def test_numba_is_there_for_these_tests() -> None:
    assert compiled._module() is not None


# Not ePIE and the difference map: at first the field outside the pupil is rounding, and they keep its phase.
@pytest.mark.parametrize("engine", ["rpie", "ml"])
@pytest.mark.parametrize("case", ["whole pixels", "sub-pixel, modes, mask", "read noise"])
def test_the_same_result_up_to_rounding(engine: str, case: str, plain: Any) -> None:
    fractions = case != "whole pixels"
    scan = diptych.simulate(
        object="blocks",
        size=32,
        patterns=25,
        step=5.0,
        dose=1e5,
        seed=1,
        integer=not fractions,
        modes=2 if fractions else 1,
        dead=0.01 if fractions else 0.0,
        read_noise=2.0 if case == "read noise" else None,
    )
    # With ml, PIE comes first: there are enough epochs for both.
    epochs = 6 if engine == "rpie" else 40
    chosen: dict[str, Any] = {"engine": engine, "epochs": epochs, "correct_positions": "off", "seed": 0}
    fast = diptych.reconstruct(scan, **chosen)
    plain()
    slow = diptych.reconstruct(scan, **chosen)
    assert engine == "rpie" or 3.0 in slow.history["stage"]
    # In the mean: rounding grows most at the rim, which hardly any photon reaches.
    assert float(np.sqrt((np.abs(fast.object.values - slow.object.values) ** 2).mean())) < 1e-2
    fits = [each.provenance["fit"] for each in (fast, slow)]
    assert fits[0] == pytest.approx(fits[1], rel=1e-3)
