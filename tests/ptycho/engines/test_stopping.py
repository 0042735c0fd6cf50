"""The stop rule on courses of the held-out fit made up for it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from diptych.ptycho.engines.stopping import StopRule, refinement_gains, stalled


def follow(rule: StopRule, values: Iterable[float], fit: float | None = None) -> tuple[int, str, int]:
    """Epochs until the rule speaks, what it says, and the last epoch it would keep; ``fit`` by default as held out."""
    kept = epoch = 0
    for epoch, value in enumerate(values, 1):
        if rule.keeps(value, value if fit is None else fit):
            kept = epoch
        if rule.reason():
            return epoch, rule.reason(), kept
    return epoch, "", kept


def test_goes_on_while_the_fit_gains() -> None:
    course = 1 + 50 * np.exp(-np.arange(200) / 60)
    assert follow(StopRule(8), course) == (200, "", 200)


def test_stops_when_noise_is_being_fitted_and_keeps_the_best() -> None:
    down, up = 1 + 3 * np.exp(-np.arange(30) / 6), 1.03 + 0.01 * np.arange(1, 50)
    epoch, reason, kept = follow(StopRule(8), np.concatenate([down, up]))
    assert "fit noise" in reason
    assert epoch == 38
    assert kept == 30


def test_sits_through_a_bump_shorter_than_its_patience() -> None:
    course = np.geomspace(10, 1, 60)
    course[20:27] = 8.0
    assert follow(StopRule(8), course)[:2] == (60, "")
    course[20:28] = 8.0
    assert follow(StopRule(8), course)[0] == 28


def test_stops_on_a_plateau() -> None:
    course = np.concatenate([np.geomspace(100, 5, 30), np.full(100, 5.0)])
    epoch, reason, _ = follow(StopRule(8), course)
    assert "dropped by less than 0.2%" in reason
    assert 45 <= epoch <= 60


def test_chance_ups_and_downs_on_the_way_down_do_not_stop_it() -> None:
    rng = np.random.default_rng(0)
    course = np.geomspace(30, 1.5, 150) * (1 + 0.01 * rng.standard_normal(150))
    assert follow(StopRule(8), course)[:2] == (150, "")


def test_an_engine_that_tells_by_itself_is_only_stopped_by_a_misfit_plateau() -> None:
    assert follow(StopRule(None), np.concatenate([np.geomspace(100, 1.1, 20), np.linspace(1.1, 1.25, 100)]))[:2] == (
        120,
        "",
    )
    epoch, reason, _ = follow(StopRule(None), np.concatenate([np.geomspace(100, 20, 20), np.full(60, 20.0)]))
    assert epoch < 60
    assert reason


@pytest.mark.parametrize(
    ("factor", "many_photons", "stops"),
    [(0.97, False, False), (0.998, False, True), (0.998, True, False), (0.9998, True, True)],
)
def test_a_loss_that_falls_outweighs_a_held_out_fit_that_does_not(
    factor: float, many_photons: bool, stops: bool
) -> None:
    """Where there are many photons slower falls count, too."""
    rule, loss = StopRule(None, many_photons), 200.0
    for epoch in range(60):
        rule.keeps(400.0 + epoch % 3, 200.0, loss)
        loss *= factor
    assert bool(rule.reason()) == stops


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_state_is_never_kept(value: float) -> None:
    rule = StopRule(8)
    assert rule.keeps(3.0, 3.0)
    assert not rule.keeps(value, value)
    assert not StopRule(None).keeps(value, value)
    epoch, reason, kept = follow(StopRule(8), [5.0, 4.0, *([value] * 40)])
    assert (epoch, kept) == (10, 2)
    assert reason


def test_an_engine_that_tells_by_itself_keeps_its_last_state_unless_that_is_far_worse() -> None:
    """Over-fitting at few photons is small; wrong positions at 5e7 photons made the last epoch 2.6 times the best."""
    assert follow(StopRule(None), [9.0, 1.1, 1.12, 1.2], fit=1.0)[2] == 4
    assert follow(StopRule(None), [600.0, 169.0, 170.0, 300.0, 444.0], fit=1.0)[2] == 3
    assert follow(StopRule(None), [600.0, 169.0, 444.0, 171.0], fit=1.0)[2] == 4


def test_where_the_model_limits_the_fit_the_best_state_is_kept() -> None:
    assert follow(StopRule(None), [9.0, 1.29, 1.30, 1.295], fit=1.1)[2] == 2
    assert follow(StopRule(None), [9.0, 1.29, 1.30, 1.295], fit=0.8)[2] == 4


def test_a_misfit_that_more_modes_or_positions_leave_ends_the_run_where_they_no_longer_gain() -> None:
    falling = list(np.geomspace(1.5, 1.3, 15))
    many, few = 100_000, 160

    def ends(held_out: list[float], fit: float, pixels: int = many) -> bool:
        return "dropped by less than" in stalled(held_out, [fit] * len(held_out), pixels)

    assert not ends(falling, 1.1)
    assert not ends([*falling, *([1.3] * 2)], 1.1)
    assert ends([1.290 + 0.006 * (-1) ** n for n in range(12)], 1.1)
    assert ends([*falling, *([1.3] * 11)], 1.1)
    assert not ends([*falling, *([1.2] * 11)], 0.9), "noise is all that is left"
    # 160 pixels do not tell such a misfit from noise, nor does it count while the fit still falls.
    assert ends([1.25] * 12, 0.95)
    assert not ends([1.25] * 12, 0.95, few)
    assert stalled([1.3] * 12, list(np.geomspace(1.4, 1.2, 12)), many) == ""


@pytest.mark.parametrize(
    ("fits", "near", "gains"),
    [
        ([9.0], True, True),
        ([9.0, 4.0], True, True),
        ([9.0, 5.0], True, False),
        ([9.0, 8.0, 7.5], False, True),
        ([9.0, 8.0, 7.5, 7.1], False, True),
        ([9.0, 8.0, 7.5, 7.3], False, False),
    ],
)
def test_pie_from_a_networks_image_goes_on_while_it_gains_quickly(fits: list[float], near: bool, gains: bool) -> None:
    assert refinement_gains(fits, near) is gains
