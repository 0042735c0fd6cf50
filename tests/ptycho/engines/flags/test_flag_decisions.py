"""Which evidence is flagged, and by which name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.flags import trials
from diptych.ptycho.engines.flags.base import KINDS, by_kind, faults
from diptych.ptycho.engines.flags.data import data_flags
from diptych.ptycho.engines.flags.evidence import Evidence
from diptych.ptycho.engines.flags.misfit import intensity_varies, misfit_flags
from diptych.ptycho.engines.flags.readings import AS_GIVEN, orientations
from diptych.ptycho.engines.flags.trials import poor, settle
from diptych.ptycho.physics.frame_factors import FrameFactors

# 144 patterns of 64 x 64 pixels at 1e5 photons each, read the right way.
RIGHT = Evidence(
    patterns=144,
    photons=1.44e7,
    counted=177_000,
    unknowns=28_600,
    alone=0.001,
    fit=0.87,
    held_out=1.13,
    error=0.013,
    expected=470_000,
    by_frame=0.0,
    spread=0.0,
)


def kinds(evidence: Evidence) -> list[str]:
    return [flag.kind for flag in data_flags(evidence)]


def test_enough_data_are_not_flagged() -> None:
    assert kinds(RIGHT) == []
    assert not poor(RIGHT)
    assert RIGHT.level == pytest.approx(1.0)
    assert RIGHT.used == pytest.approx(0.13)


# The numbers are those of reconstructions of blocks and natural objects.
@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"patterns": 12, "photons": 1.25e6, "fit": 0.395, "held_out": 1.92, "error": 0.09}, "over-fitting"),
        ({"unknowns": 190_000}, "over-fitting"),
        ({"patterns": 1, "alone": 1.0, "fit": 4e-5, "held_out": 2e-6}, "one pattern"),
        ({"alone": 0.996, "fit": 0.003, "held_out": 2.28}, "no overlap"),
        ({"photons": 1.44e4, "counted": 100, "unknowns": 40_500, "fit": 0.70, "held_out": 1.0}, "few photons"),
        ({"photons": 1.44e3, "counted": 0, "unknowns": 49_300, "fit": 0.52, "held_out": 0.98}, "few photons"),
    ],
)
def test_too_little_data_are_named(changes: dict[str, float], kind: str) -> None:
    assert kind in kinds(replace(RIGHT, **changes))


# (fit, held-out fit, sum of expected deviances) as measured with 144 patterns: the excess hardly depends on the dose.
@pytest.mark.parametrize(
    ("photons", "fit", "held_out", "expected", "wrong"),
    [
        (1.44e6, 0.81, 1.058, 190_000, False),
        (1.44e6, 0.823, 1.098, 220_000, False),
        (1.44e6, 0.997, 1.295, 225_000, True),
        (1.44e6, 1.016, 1.358, 225_000, True),
        (1.44e8, 0.898, 1.118, 550_000, False),
        (1.44e8, 14.2, 15.3, 560_000, True),
    ],
)
def test_a_wrong_reading_is_told_at_every_dose(
    photons: float, fit: float, held_out: float, expected: float, wrong: bool
) -> None:
    evidence = replace(RIGHT, photons=photons, fit=fit, held_out=held_out, expected=expected)
    assert poor(evidence) == wrong


def test_what_a_right_reading_does_not_reach_either_is_no_fault() -> None:
    few = replace(RIGHT, photons=1e5, fit=0.8, held_out=1.5, expected=60_000)
    assert poor(few)
    assert not poor(few, standard=1.14)


def test_a_level_within_its_error_is_no_fault() -> None:
    assert not poor(replace(RIGHT, photons=1e5, fit=0.9, held_out=1.5, error=0.06))


def test_varying_intensity_is_told_from_a_wrong_reading() -> None:
    assert intensity_varies(replace(RIGHT, fit=2.3, held_out=2.9, by_frame=0.57, spread=0.14))
    assert not intensity_varies(replace(RIGHT, fit=1.03, held_out=1.26, by_frame=0.0, spread=0.0))


@pytest.mark.parametrize(("level", "ranks"), [(5.0, True), (170.0, False)])
def test_fits_far_above_one_are_said_to_rank_nothing(
    level: float, ranks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "polish", lambda *rest: None)
    evidence = replace(RIGHT, fit=0.95 * level, held_out=1.05 * level)
    verdict = trials.Verdict(AS_GIVEN, right=False, distinct=False, evidence=evidence)
    scan: Any = None
    problem: Any = range(RIGHT.patterns)
    state = torch.ones(8, 8), torch.ones(1, 4, 4)
    (flag,) = misfit_flags(scan, problem, state, evidence, tried=lambda: verdict)
    assert flag.kind == "no reading fits"
    assert ("do not rank readings or positions" in flag.text) != ranks


@pytest.mark.parametrize(
    ("photons", "spread", "varies"),
    [
        (1e4, 0.0131, False),  # clean scans whose object is not yet found; Gaussian probes at the higher doses
        (1e5, 0.0133, False),
        (1e6, 0.0050, False),
        (1e4, 0.0339, True),  # a beam that varies within 5 %
        (1e5, 0.0293, True),
        (1e6, 0.0339, True),
        (1e8, 0.012, True),  # within 2 %, where the photons suffice to tell
    ],
)
def test_a_beam_varies_where_its_intensity_does_beyond_what_clean_scans_show(
    photons: float, spread: float, varies: bool
) -> None:
    assert intensity_varies(replace(RIGHT, photons=144 * photons, by_frame=0.5, spread=spread)) == varies
    factors = FrameFactors(144, torch.float64, torch.device("cpu"))
    rough = np.random.default_rng(0).normal(size=144)
    noisy = float(np.hypot(spread, photons**-0.5)) * (rough - rough.mean()) / rough.std()
    factors.values = 1 + torch.from_numpy(noisy)
    assert factors.vary(photons) == varies


# Fits of short trials as measured: as given, then other readings.
@pytest.mark.parametrize(
    ("fits", "best", "distinct"),
    [
        ([1.21, 44.4, 42.5, 43.6, 47.7, 41.7], 0, True),  # right
        ([47.7, 41.7, 39.3, 48.4, 1.21, 44.4], 4, True),  # transposed
        ([24.4, 46.5, 43.6, 43.2, 44.5, 31.9], 0, False),  # one frame lost
        ([20.7, 53.9, 48.1, 51.3, 60.1, 46.9], 0, False),  # intensity varies
        ([1.93, 1.80, 1.87, 1.89, 1.98, 1.99], 1, False),  # random order
        ([8.97, 9.1, 8.8, 9.0, 8.9, 8.7], 0, False),  # nothing is clearly better
    ],
)
def test_which_reading_stands_out(
    fits: list[float], best: int, distinct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "longer_trial", lambda scan, workers=None: RIGHT)
    scan = diptych.simulate(size=16, patterns=9, step=2.0, seed=0)
    readings = [AS_GIVEN, *orientations()[:5]]
    verdict = settle(scan, readings, fits)
    assert (verdict.best, verdict.distinct) == (readings[best], distinct)


# Lines at 1e4 photons: noise hides most of how readings differ; fits of right and shuffled frames as measured.
@pytest.mark.parametrize(
    ("fits", "distinct", "alike"),
    [
        ([0.829, 0.881, 0.913, 0.895, 0.888, 0.902], True, False),  # right
        ([0.905, 0.901, 0.913, 0.895, 0.898, 0.902], False, True),  # random order: no reading stands out
        ([0.855, 0.881, 0.913, 0.895, 0.888, 0.902], False, False),  # not enough to tell
    ],
)
def test_readings_that_noise_hides_are_alike_where_none_stands_out(
    fits: list[float], distinct: bool, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "longer_trial", lambda scan, workers=None: RIGHT)
    scan = diptych.simulate(size=16, patterns=9, step=2.0, seed=0)
    verdict = settle(scan, [AS_GIVEN, *orientations()[:5]], fits)
    assert (verdict.distinct, verdict.alike) == (distinct, alike)


def test_flags_by_kind() -> None:
    flags = ["few photons: 10", "no overlap: 99 %", "the file holds no positions: only the image is known"]
    assert by_kind(flags) == {"few photons": ["10"], "no overlap": ["99 %"], "other": [flags[2]]}
    assert faults(flags) == ("no overlap", "other")
    assert faults(["few photons: 10"]) == ()
    assert len(set(KINDS)) == len(KINDS)


def test_trials_that_diverge_are_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    scan = diptych.simulate(size=16, patterns=36, step=3.0, dose=1e5, seed=0)
    readings = [AS_GIVEN, *orientations()][:5]
    found = iter([float("nan"), 2.0, float("inf"), 1.0, float("nan")])
    monkeypatch.setattr(trials, "try_out", lambda *args: SimpleNamespace(fit=next(found)))
    fits = trials.rank(scan, readings, 36)
    assert fits == [float("inf"), 2.0, float("inf"), 1.0, float("inf")]
    monkeypatch.setattr(trials, "longer_trial", lambda scan, workers=None: RIGHT)
    assert settle(scan, readings, fits).best is readings[3]
    monkeypatch.setattr(trials, "longer_trial", lambda scan, workers=None: replace(RIGHT, fit=float("nan")))
    verdict = settle(scan, readings, [float("inf")] * 5)
    assert verdict.best is AS_GIVEN
    assert not verdict.right
    assert not verdict.distinct


def test_lit_pixels_are_counted_as_everywhere_else() -> None:
    import numpy as np
    import torch

    from diptych.ptycho.engines.flags.evidence import _lit_pixels
    from diptych.ptycho.physics.illumination import lit

    light = np.random.default_rng(0).exponential(size=(3, 20, 30)).astype(np.float32) ** 3
    assert _lit_pixels(torch.from_numpy(light)) == sum(lit(each).sum() for each in light)
    assert _lit_pixels(torch.zeros(2, 4, 4)) == 0
