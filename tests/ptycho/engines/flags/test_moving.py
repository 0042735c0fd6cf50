"""Which reading of a scan is right where its positions may be wrong: trials with refined positions decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.flags import misfit, moving, result
from diptych.ptycho.engines.flags.readings import AS_GIVEN, orientations
from diptych.ptycho.engines.flags.trials import Verdict
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.request import Request
from diptych.ptycho.scan import Scan

OTHERS = tuple(orientations())
TRANSPOSED = OTHERS[0]
ALIKE = Verdict(AS_GIVEN, right=False, distinct=False, evidence=None, alike=True, others=OTHERS)  # type: ignore[arg-type]


def asked(monkeypatch: pytest.MonkeyPatch, verdict: Verdict, given: float, rival: float) -> tuple[Request, list[Scan]]:
    """A request whose trials give these answers, and the scans of the trials with refined positions."""
    scan = diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0)
    tried: list[Scan] = []

    def joint(shown: Scan, probe: Any) -> float:
        tried.append(shown)
        return given if shown is scan else rival

    monkeypatch.setattr(misfit, "try_readings", lambda *_: verdict)
    monkeypatch.setattr(moving, "joint_trial", joint)
    return Request(scan, ReconstructionOptions()), tried


@pytest.mark.parametrize("verdict", [ALIKE, replace(ALIKE, best=TRANSPOSED, right=True, alike=False)])
def test_refined_positions_tell_that_the_scan_is_read_right(monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    request, tried = asked(monkeypatch, verdict, given=1.5, rival=4.0)
    assert request.verdict_at(refined=False) is verdict
    assert not tried
    found = request.verdict_at(refined=True)
    assert found.best is AS_GIVEN
    assert (found.right, found.distinct, found.alike) == (False, False, False)
    assert request.misread(lost=False) == ""
    assert len(tried) == 1 + moving.RIVALS, "tried once"


def test_readings_that_fit_alike_with_refined_positions_too_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    request, _ = asked(monkeypatch, ALIKE, given=3.0, rival=4.0)
    assert request.verdict_at(refined=True) is ALIKE
    assert "hardly better" in request.misread(lost=False)


def test_flags_take_the_verdict_of_refined_positions_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e5, seed=0)
    wrong = replace(scan, positions=scan.positions + np.random.default_rng(0).normal(0, 0.5, (25, 2)), truth=None)
    asked: list[bool] = []
    monkeypatch.setattr(Request, "verdict_at", lambda _, refined: asked.append(refined))
    monkeypatch.setattr(result, "result_flags", lambda *_, tried, **__: tried() or [])
    for correct in ("off", "on"):
        found = diptych.reconstruct(wrong, correct_positions=correct, modes=1, engine="auto")
        assert asked.pop() == (found.recorded_positions is not None) == (correct == "on")


def test_nothing_is_tried_where_one_reading_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clear = replace(ALIKE, best=TRANSPOSED, distinct=True, alike=False)
    request, tried = asked(monkeypatch, clear, given=1.1, rival=9.0)
    assert request.verdict_at(refined=True) is clear
    assert not tried
    assert "far better" in request.misread(lost=False)
    assert "stands out" in request.misread(lost=True)
    assert not tried
