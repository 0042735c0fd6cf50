"""The automatic engine: when it changes stage, that the better guess goes on, and that a checkpoint holds in every
stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diptych.ptycho.engines import automatic as staged
from diptych.ptycho.engines.automatic import Automatic
from diptych.ptycho.engines.base import EngineInput
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.projection import Projections


def make(case: Any, seed: int = 0) -> Automatic:
    given = EngineInput(case.problem, torch.ones_like(case.image), case.probe, True, np.random.default_rng(seed))
    return Automatic(given, PieSettings(batch=4), LikelihoodSettings())


def stages_of(engine: Automatic, epochs: int) -> list[float]:
    return [engine.epoch()["stage"] for _ in range(epochs)]


def test_a_good_start_goes_straight_to_maximum_likelihood(make_case: Any) -> None:
    engine = make(make_case(double=False))
    stages = stages_of(engine, 45)
    assert set(stages) == {0.0, 3.0}
    assert staged.LEAST_START <= stages.count(0.0) <= staged.LONGEST_START
    assert stages == sorted(stages)
    assert isinstance(engine._engine, MaximumLikelihood)
    assert engine.epoch()["fit"] < 1.5


def mismatched(case: Any) -> Any:
    """Patterns given to the wrong positions: no start can fit them."""
    order = np.random.default_rng(0).permutation(len(case.problem))
    return replace(
        case, problem=replace(case.problem, counts=case.problem.counts[torch.from_numpy(order)].contiguous())
    )


def test_a_stagnated_guess_is_followed_by_the_rescue_once(make_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged, "RESCUE", 5)
    engine = make(mismatched(make_case(double=False)))
    stages = stages_of(engine, 100)
    assert stages == sorted(stages)
    assert set(stages) == {0.0, 1.0, 2.0, 3.0}
    assert stages.count(1.0) == 5


def test_the_better_of_two_starts_goes_on(make_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the second start ends worse than the first, the first one's state is taken up again."""
    monkeypatch.setattr(staged, "RESCUE", 2)
    case = make_case(double=False)
    for first_fit, takes_first in ((0.0, True), (1e9, False)):
        engine = make(case)
        stages_of(engine, 5)
        mark = torch.full_like(case.image, 0.5), case.probe * 0.9
        engine._enter("second guess", engine.image, engine.probe)
        engine._first = (*mark, first_fit)
        while engine.stage == "second guess":
            engine.epoch()
            assert torch.equal(engine.image, mark[0]) is takes_first
        assert torch.equal(engine.image, mark[0]) is takes_first


@pytest.mark.parametrize("epochs", [3, 16, 24, 45])
def test_state_and_restore_go_on_exactly_in_every_stage(
    make_case: Any, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    monkeypatch.setattr(staged, "RESCUE", 6)
    case = mismatched(make_case(double=False))
    engine, other = make(case), make(case, seed=7)
    stages_of(engine, epochs)
    other._rng.bit_generator.state = engine._rng.bit_generator.state
    other.restore({name: value.clone() for name, value in engine.state().items()})
    for _ in range(30):
        np.testing.assert_equal(other.epoch(), engine.epoch())
    assert torch.equal(other.image, engine.image)
    assert torch.equal(other.probe, engine.probe)


def test_the_stages_are_where_the_test_above_looks(make_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged, "RESCUE", 6)
    engine = make(mismatched(make_case(double=False)))
    kinds = []
    for epoch in range(1, 46):
        engine.epoch()
        if epoch in (3, 16, 24, 45):
            kinds.append(type(engine._engine))
    assert kinds[0] is Pie
    assert kinds[-1] is MaximumLikelihood
    assert Projections in kinds
