"""Learning rates: warm-up, and what each schedule does after it."""

from __future__ import annotations

import pytest

from diptych.ptycho.neural.training.schedules import factor, plateaus


def at(name: str, update: int, **changes: object) -> float:
    return factor(name, update, **{"total": 100, "per_epoch": 10, "warmup": 0, **changes})


@pytest.mark.parametrize("name", ["cosine", "constant", "exponential", "plateau"])
def test_the_rate_rises_from_zero_to_its_peak(name: str) -> None:
    rises = [at(name, update, warmup=5) for update in range(6)]
    assert rises[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert at(name, 0) == pytest.approx(1.0)


def test_cosine_falls_to_one_percent_at_the_last_update() -> None:
    values = [at("cosine", update, warmup=10) for update in range(10, 100)]
    assert values[0] == pytest.approx(1.0)
    assert values[-1] == pytest.approx(0.01)
    assert values == sorted(set(values), reverse=True)
    assert at("cosine", 54, warmup=9) == pytest.approx(0.505, abs=0.01)


def test_exponential_falls_by_five_percent_per_epoch() -> None:
    assert [at("exponential", update) for update in (0, 9, 10, 35)] == pytest.approx([1, 1, 0.95, 0.95**3])


def test_constant_stays() -> None:
    assert {at("constant", update) for update in (0, 50, 99)} == {1.0}


def test_plateau_halves_after_three_epochs_without_a_lower_loss_and_ends_at_a_twentieth() -> None:
    falling = [5.0, 4.0, 3.0]
    assert plateaus(falling) == 0
    assert plateaus([*falling, 3.0, 3.5]) == 0
    assert plateaus([*falling, 3.0, 3.5, 3.1]) == 1
    # A lower loss starts the count anew; a repeated one does not.
    assert plateaus([*falling, 3.0, 3.5, 2.0, 2.0, 2.0]) == 0
    assert plateaus([*falling, 3.0, 3.5, 3.1, 3.0, 3.0, 3.0]) == 2
    assert at("plateau", 99, losses=[*falling, 3.0, 3.5, 3.1]) == 0.5
    assert at("plateau", 99, losses=[1.0] * 50) == 1 / 20
    assert at("plateau", 99, losses=[float("nan")] * 4) == 0.5
