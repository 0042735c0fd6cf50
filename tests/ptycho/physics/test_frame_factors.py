"""Factors of each pattern's intensity: what a result says of them."""

from __future__ import annotations

import torch

from diptych.ptycho.engines.flags.base import INTENSITY, MISREAD, NO_READING, POOR_FIT, by_kind, wrong_reading
from diptych.ptycho.physics.frame_factors import FrameFactors


def fitted(before: float) -> FrameFactors:
    """Factors that vary by 20 %; ``before`` is the held-out fit without them, NaN where the user asked for them."""
    factors = FrameFactors(2, torch.float32, torch.device("cpu"))
    factors.values, factors.fitted, factors.fit_before = torch.tensor([0.8, 1.2]), True, before
    return factors


def test_nothing_is_said_where_they_were_not_fitted() -> None:
    assert FrameFactors(2, torch.float32, torch.device("cpu")).flag(1.1, 1e5) == ()


def test_factors_by_evidence_are_a_flag_of_the_beam_only_where_the_reading_may_be_right() -> None:
    said = by_kind(fitted(1.9).flag(1.1, 1e5))
    assert list(said) == [INTENSITY]
    assert "20.0%" in said[INTENSITY][0]
    assert INTENSITY not in by_kind(fitted(1.9).flag(1.1, 1e5, wrong_reading=True))
    assert INTENSITY in by_kind(fitted(float("nan")).flag(1.1, 1e5, wrong_reading=True))


def test_factors_that_ended_near_1_are_no_flag_unless_they_were_asked_for() -> None:
    def nearly_constant(before: float) -> FrameFactors:
        factors = fitted(before)
        factors.values = torch.tensor([0.996, 1.004])
        return factors

    assert nearly_constant(2.85).flag(1.24, 1e5) == ()
    assert INTENSITY in by_kind(nearly_constant(float("nan")).flag(1.24, 1e5))


def test_which_flags_mean_a_wrong_reading() -> None:
    assert wrong_reading([f"{POOR_FIT}: x", f"{MISREAD}: y"])
    assert wrong_reading([f"{NO_READING}: x"])
    assert not wrong_reading([f"{POOR_FIT}: x", "misread"])
