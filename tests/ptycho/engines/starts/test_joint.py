"""Which probe is taken where positions may be wrong: that which fits better once they are refined, too."""

from __future__ import annotations

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.starts import joint


@pytest.mark.parametrize(("here", "there", "kept"), [(3.11, 3.24, True), (3.24, 3.11, False), (np.inf, np.inf, False)])
def test_the_given_probe_is_kept_where_it_fits_better(
    here: float, there: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0)
    given, refocused = (np.full((1, 16, 16), value, np.complex64) for value in (1, 2))
    monkeypatch.setattr(joint, "try_out", lambda *_: None)
    monkeypatch.setattr(joint, "is_poor", lambda _: True)
    monkeypatch.setattr(joint, "joint_trial", lambda _, probe: here if probe is given else there)
    probe, note = joint.better_probe(scan, given, refocused, "refocused by 40 rad")
    assert (probe is given) == kept
    assert note.startswith("the initial probe is kept" if kept else "refocused by 40 rad")


def test_the_refocused_probe_is_taken_without_more_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0)
    given, refocused = (np.full((1, 16, 16), value, np.complex64) for value in (1, 2))
    monkeypatch.setattr(joint, "try_out", lambda *_: None)
    monkeypatch.setattr(joint, "is_poor", lambda _: False)
    assert joint.better_probe(scan, given, refocused, "note") == (refocused, "note")
