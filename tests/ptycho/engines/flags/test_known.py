"""Trials of the readings of a scan are made once for many reconstructions of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.prefer.decoders.reconstruction import ReconstructionDecoder
from diptych.prefer.decoders.settings import Choice
from diptych.ptycho.engines.flags import faint, misfit, result, trials
from diptych.ptycho.engines.flags.known import KEPT, Known, digest
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.io.raw import reread
from diptych.ptycho.scan import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The scans whose readings were tried; all are read right."""
    shown: list[Any] = []

    def record(answer: Any) -> Callable[[Scan], Any]:
        def find(scan: Scan, workers: Any = None) -> Any:
            shown.append(scan)
            return answer

        return find

    monkeypatch.setattr(faint, "compare_readings", record(faint.Found(None, -9.0)))
    monkeypatch.setattr(misfit, "try_readings", record("verdict"))
    return shown


def test_each_scan_is_tried_once_by_its_content(scan: Scan, tried: list[Any]) -> None:
    known = Known()
    copied = replace(scan, counts=scan.counts.copy(), name="another name", truth=None)
    for _ in range(3):
        assert known.faint(scan) is known.faint(copied)
        assert known.readings(scan) == "verdict"
    assert len(tried) == 2
    Known().faint(scan)
    assert len(tried) == 3, "nothing is kept for others"


def test_what_trials_see_makes_another_scan(scan: Scan) -> None:
    mask = np.ones((16, 16), bool)
    mask[0, 0] = False
    changed = [
        replace(scan, counts=np.roll(scan.counts, 1, 0)),
        reread(scan, LoadOptions(orientation=4)),
        replace(scan, positions=np.add(scan.positions, (0.0, 0.25)), truth=None),
        replace(scan, mask=mask),
        replace(scan, probe=None),
        replace(scan, scale=2.0),
        replace(scan, geometry=diptych.Geometry(energy_eV=8000.0)),
    ]
    assert len({digest(each) for each in (scan, *changed)}) == len(changed) + 1


def test_only_some_are_kept(scan: Scan, tried: list[Any]) -> None:
    known = Known()
    for n in range(KEPT + 1):
        known.faint(replace(scan, scale=1.0 + n))
    known.faint(replace(scan, scale=1.0 + KEPT))
    assert len(tried) == KEPT + 1
    known.faint(replace(scan, scale=1.0))
    assert len(tried) == KEPT + 2


def test_the_images_of_a_faint_scan_share_its_trials(
    scan: Scan, tried: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "ENOUGH_EPOCHS", 1)
    monkeypatch.setattr(misfit, "MOST_USED", 1.0)
    monkeypatch.setattr(trials, "unexplained", lambda *_: False)
    monkeypatch.setattr(trials, "poor", lambda *_: False)
    monkeypatch.setattr(trials, "suspect", lambda *_: False)
    monkeypatch.setattr(misfit, "LEAST_PHOTONS", 0.0)
    monkeypatch.setattr(misfit, "FAINT", 1e9)
    decoder = ReconstructionDecoder(scan, settings=(Choice("epochs", (2, 3, 4)),), threads=1)
    for epochs in (2, 3, 4):
        assert decoder.result(decoder.latent(epochs=epochs)).provenance["epochs"] == epochs
    assert len(tried) == 1
