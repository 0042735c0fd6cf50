"""Coincidence loss of electron detectors that count."""

from __future__ import annotations

import numpy as np
import pytest

import diptych
from diptych.ptycho.prepare.clean import clean
from diptych.ptycho.prepare.coincidence import find_coincidence

ELECTRONS = diptych.Geometry(energy_eV=300e3, particle="electron")


def counted(rate: float, frames: int, geometry: diptych.Geometry | None = ELECTRONS) -> tuple[diptych.Scan, float]:
    """A disc of ``rate`` electrons per pixel and frame on a faint field, counted at most once per frame; and the share
    of electrons that was lost.
    """
    rng = np.random.default_rng(0)
    y, x = np.indices((24, 24)) - 12
    rates = np.where(np.hypot(y, x) < 6, rate, 0.02 * rate)
    hits = rng.poisson(rates, (frames, 160, 24, 24))
    counts = (hits > 0).sum(0).astype(np.uint16)
    places = np.stack(np.divmod(np.arange(160), 16), 1) * 3.0
    return diptych.Scan(counts, places, geometry=geometry), 1 - counts.sum() / hits.sum()


@pytest.mark.parametrize(("rate", "frames"), [(0.3, 1), (1.0, 1), (1.5, 4)])
def test_the_expected_loss_is_the_loss(rate: float, frames: int) -> None:
    scan, lost = counted(rate, frames)
    found = find_coincidence(scan)
    assert found is not None
    assert found.frames == frames
    assert found.loss == pytest.approx(lost, rel=0.1)
    assert found.worst > found.loss


def test_it_is_named_in_the_notes_of_info_and_the_flags_of_the_scan() -> None:
    scan, _ = counted(1.0, 1)
    assert any("coincidence loss" in note for note in diptych.describe(scan)["notes"])
    assert any(flag.startswith("coincidence loss") for flag in clean(scan).flags)


def test_faint_frames_photons_and_counts_without_a_limit_have_none() -> None:
    assert find_coincidence(counted(0.01, 1)[0]) is None
    assert find_coincidence(counted(1.0, 1, diptych.Geometry(energy_eV=8000))[0]) is None
    scan, _ = counted(0.2, 1)
    many = np.random.default_rng(1).poisson(5.0, scan.counts.shape).astype(np.uint16)
    assert find_coincidence(diptych.Scan(many, scan.positions, geometry=ELECTRONS)) is None
