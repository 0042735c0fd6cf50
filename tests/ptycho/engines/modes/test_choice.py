"""When more probe modes are tried in a run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import diptych
from diptych.ptycho.engines.modes import choice as modes_choice
from diptych.ptycho.engines.modes.choice import MOVABLE, RECORDED, REFINED, ModeChoice
from diptych.ptycho.engines.modes.states import State
from diptych.ptycho.engines.modes.trials import Grown, ModesFound
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.engines.request import Request

IMAGE, PROBE = torch.ones(4, 4), torch.ones(1, 2, 2)
POOR = {"fit": 1.8, "held_out_fit": 2.0}
STALLED, FALLING = [2.0] * 12, [2.0 * 0.98**i for i in range(12)]


def with_modes(probe: Tensor) -> State:
    return State(IMAGE, probe, None, None)


class Trials:
    """Answers in turn, and counts the questions."""

    def __init__(self, *answers: Grown) -> None:
        self.answers = list(answers)

    def __call__(self, image: Tensor, probe: Tensor, positions: int) -> Grown:
        return self.answers.pop(0)


def test_modes_are_tried_once_the_poor_fit_no_longer_falls() -> None:
    more = torch.ones(3, 2, 2)
    choice = ModeChoice(Trials(Grown(with_modes(more), ModesFound(1, 3, 2.0, 1.2))))
    explained = {"fit": 0.9, "held_out_fit": 1.15}
    assert choice.more(IMAGE, PROBE, explained, STALLED, True, MOVABLE) is None
    for fits in (FALLING, STALLED[:11]):
        assert choice.more(IMAGE, PROBE, POOR, fits, False, MOVABLE) is None
        assert choice.awaited(POOR, fits, False, MOVABLE)
    assert not choice.awaited(explained, FALLING, False, MOVABLE)
    assert choice.more(IMAGE, PROBE, POOR, STALLED, False, MOVABLE) is more
    assert choice.found == ModesFound(1, 3, 2.0, 1.2)
    assert choice.more(more.new_ones(1), PROBE, POOR, STALLED, False, REFINED) is None, "added once"


def test_modes_are_tried_again_after_positions_were_refined_or_were_suspected_in_vain() -> None:
    for first, where in ((Grown(), REFINED), (Grown(moved=True), RECORDED), (Grown(moved=True), REFINED)):
        trials = Trials(first, Grown())
        choice = ModeChoice(trials)
        for positions in (MOVABLE, MOVABLE, where, where):
            assert choice.more(IMAGE, PROBE, POOR, STALLED, False, positions) is None
        assert trials.answers == []
    trials = Trials(Grown(), Grown())
    choice = ModeChoice(trials)
    for positions in (MOVABLE, RECORDED):
        choice.more(IMAGE, PROBE, POOR, STALLED, False, positions)
    assert len(trials.answers) == 1, "nothing has changed since"


def test_modes_that_were_added_are_tried_again_where_refined_positions_then_halved_the_misfit() -> None:
    more, most = torch.ones(2, 2, 2), torch.ones(5, 2, 2)
    trials = Trials(
        Grown(with_modes(more), ModesFound(1, 2, 3.0, 2.2)), Grown(with_modes(most), ModesFound(2, 5, 1.55, 1.3))
    )
    choice = ModeChoice(trials)
    assert choice.more(IMAGE, PROBE, POOR, STALLED, False, MOVABLE) is more
    for fits, positions in (([1.4] * 12, MOVABLE), ([1.4] * 12, RECORDED), ([1.7] * 12, REFINED)):
        assert choice.more(IMAGE, PROBE, POOR, fits, False, positions) is None
    assert not choice.awaited(POOR, [1.9, 1.8, 1.7], False, REFINED), "an excess of 0.7 of 1.2"
    assert choice.awaited(POOR, [2.0, 1.7, 1.5], False, REFINED)
    assert choice.more(IMAGE, PROBE, POOR, [1.5] * 12, False, REFINED) is most
    assert choice.found is not None
    assert (choice.found.before, choice.found.modes) == (1, 5)
    share = (2.2 / 3.0) * (1.3 / 1.55)
    assert choice.found.fit / choice.found.fit_before == pytest.approx(share), "what the positions gained is not theirs"
    assert choice.more(IMAGE, PROBE, POOR, [1.1] * 12, False, REFINED) is None, "once more, not twice"


def test_modes_are_tried_again_at_any_fit_where_the_trials_ended_for_better_positions() -> None:
    trials = Trials(Grown(with_modes(torch.ones(2, 2, 2)), ModesFound(1, 2, 4.0, 3.0), moved=True), Grown())
    choice = ModeChoice(trials)
    choice.more(IMAGE, PROBE, POOR, STALLED, False, MOVABLE)
    for positions in (MOVABLE, RECORDED, REFINED, REFINED):
        assert choice.more(IMAGE, PROBE, POOR, [2.9] * 12, False, positions) is None
    assert trials.answers == []


@pytest.mark.parametrize("where", [MOVABLE, REFINED])
def test_readings_are_those_of_refined_positions_once_they_are(where: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=9, step=3.0, dose=1e4, seed=0)
    asked: list[bool] = []
    monkeypatch.setattr(Request, "verdict_at", lambda _, refined: asked.append(refined))
    monkeypatch.setattr(modes_choice, "grow_modes", lambda *given: given[4]() or Grown())
    problem = make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.0, seed=0)
    choice = modes_choice.mode_choice(Request(scan, ReconstructionOptions()), problem)
    choice.more(IMAGE, PROBE, POOR, STALLED, False, where)
    assert asked == [where == REFINED]


def test_the_state_comes_back() -> None:
    first = ModeChoice(Trials(Grown(with_modes(torch.ones(3, 2, 2)), ModesFound(1, 3, 2.5, 1.25))))
    first.more(IMAGE, PROBE, POOR, STALLED, False, MOVABLE)
    second = ModeChoice(Trials())
    second.restore(first.state())
    assert second.found == first.found
    near = [1.2, 1.15, 1.1]
    for choice in (first, second):
        assert not choice.awaited(POOR, near, False, MOVABLE)
        assert not choice.awaited(POOR, [1.2] * 3, False, REFINED), "more than half of the excess is left"
        assert choice.awaited(POOR, near, False, REFINED)


def test_without_trials_nothing_is_awaited() -> None:
    choice = ModeChoice()
    assert not choice.awaited(POOR, FALLING, False, MOVABLE)
    assert choice.more(IMAGE, PROBE, POOR, STALLED, True, MOVABLE) is None
