"""Probe starts: made from the mean pattern, or refocused where the given one is far out of focus."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.starts.estimate import estimate_probe, mean_pupil, refocus
from diptych.ptycho.engines.starts.trial import central_part, try_out
from diptych.ptycho.physics.probe import defocused
from diptych.ptycho.reconstruct import reconstruct


@functools.cache
def scan(defocus: float = 6.0) -> Any:
    return diptych.simulate(object="natural", size=64, patterns=100, integer=True, dose=1e6, defocus=defocus, seed=0)


def out_of_focus(defocus: float) -> Any:
    """Measured with ``defocus``, started from the probe of the opposite one."""
    return replace(scan(defocus), probe=scan(-defocus).true_probe, probe_calibrated=False)


def test_a_badly_defocused_start_is_refocused() -> None:
    probe, note = refocus(out_of_focus(6.0), out_of_focus(6.0).probe)
    assert "refocused by" in note
    truth = scan(6.0).true_probe[0]
    far = [
        np.abs(np.vdot(p, truth)) / np.linalg.norm(p) / np.linalg.norm(truth)
        for p in (out_of_focus(6.0).probe[0], probe[0])
    ]
    assert far[1] > 0.9 > far[0]


def test_a_good_start_is_left_alone() -> None:
    probe, note = refocus(scan(), scan().probe)
    assert note == ""
    assert probe is scan().probe


def test_reconstruct_refocuses_and_says_so() -> None:
    result = reconstruct(out_of_focus(6.0), epochs=40)
    assert "out of focus" in result.provenance["probe_start"]
    assert diptych.evaluate(result, truth=scan(6.0).truth)["complex_error"] < 0.05
    assert reconstruct(scan(), epochs=1).provenance["probe_start"] == ""


def test_an_estimated_probe_reconstructs() -> None:
    blind = replace(scan(), probe=None, probe_calibrated=False)
    result = reconstruct(blind, probe="estimate", epochs=40)
    assert "estimated" in result.provenance["probe_start"]
    assert diptych.evaluate(result, truth=scan().truth)["complex_error"] < 0.05


def test_the_estimate_has_the_far_field_of_the_mean_pattern() -> None:
    probe = estimate_probe(scan())
    assert probe.shape == (1, 64, 64)
    assert probe.dtype == np.complex64
    field = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe[0]), norm="ortho"))
    np.testing.assert_allclose(np.abs(field) ** 2, scan().counts.mean(0), rtol=1e-3, atol=1e-2)


def test_defocus_is_a_quadratic_phase_of_the_pupil() -> None:
    pupil = np.ones((1, 16, 16), complex)
    probe = defocused(pupil, 4.0, 2.0)
    field = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe[0]), norm="ortho"))
    assert np.angle(field[8, 12]) == pytest.approx(2.0, abs=1e-4)
    assert np.angle(field[8, 10]) == pytest.approx(0.5, abs=1e-4)
    assert np.abs(field) == pytest.approx(np.ones((16, 16)), abs=1e-4)


def test_the_mean_pupil_leaves_out_background_and_masked_pixels() -> None:
    mask = np.ones((64, 64), bool)
    mask[30:34, 40:44] = False
    spoiled = replace(
        scan(),
        counts=np.where(mask, scan().counts + 7.0, np.nan).astype(np.float32),
        mask=mask,
        background=np.full((64, 64), 7.0, np.float32),
    )
    wanted, found = mean_pupil(scan())[0], mean_pupil(spoiled)[0]
    np.testing.assert_allclose(found[mask], wanted[mask], atol=1e-3)
    empty = replace(scan(), background=np.full((64, 64), 1e9, np.float32))
    with pytest.raises(InputError, match="no signal"):
        estimate_probe(empty)


def test_the_central_part_is_whole_and_in_the_middle() -> None:
    part = central_part(scan(), 30)
    assert len(part) == 30
    middle = np.median(scan().positions, axis=0)
    chosen = {tuple(p) for p in part.positions}
    inside = [tuple(p) in chosen for p in scan().positions]
    distance = np.linalg.norm(scan().positions - middle, axis=1)
    assert distance[inside].max() <= distance[np.logical_not(inside)].min() + 1e-9
    i = int(np.flatnonzero(inside)[4])
    assert np.array_equal(part.counts[4], scan().counts[i])
    masks = np.ones(scan().counts.shape, bool)
    masks[i, 0, 0] = False
    kept = central_part(replace(scan(), mask=masks), 30).mask
    assert kept is not None
    assert not kept[4, 0, 0]


def test_a_trial_tells_a_good_start_from_a_bad_one() -> None:
    part = central_part(scan(), 64)
    assert try_out(part, scan().probe, 5).fit < 0.3 * try_out(part, scan(-6.0).true_probe, 5).fit
    assert try_out(part, scan().probe, 3) == try_out(part, scan().probe, 3)
