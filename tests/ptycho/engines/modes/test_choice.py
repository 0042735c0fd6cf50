"""When more probe modes are tried in a run."""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.ptycho.engines.modes.choice import MOVABLE, RECORDED, REFINED, ModeChoice
from diptych.ptycho.engines.modes.trials import Grown, ModesFound

IMAGE, PROBE = torch.ones(4, 4), torch.ones(1, 2, 2)
POOR = {"fit": 1.8, "held_out_fit": 2.0}
STALLED, FALLING = [2.0] * 12, [2.0 * 0.98**i for i in range(12)]


class Trials:
    """Answers in turn, and counts the questions."""

    def __init__(self, *answers: Grown) -> None:
        self.answers = list(answers)

    def __call__(self, image: Tensor, probe: Tensor, positions: int) -> Grown:
        return self.answers.pop(0)


def test_modes_are_tried_once_the_poor_fit_no_longer_falls() -> None:
    more = torch.ones(3, 2, 2)
    choice = ModeChoice(Trials(Grown(more, ModesFound(1, 3, 2.0, 1.2))))
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
    trials = Trials(Grown(more, ModesFound(1, 2, 3.0, 2.2)), Grown(most, ModesFound(2, 5, 1.55, 1.3)))
    choice = ModeChoice(trials)
    assert choice.more(IMAGE, PROBE, POOR, STALLED, False, MOVABLE) is more
    for fits, positions in (([1.4] * 12, MOVABLE), ([1.4] * 12, RECORDED), ([1.7] * 12, REFINED)):
        assert choice.more(IMAGE, PROBE, POOR, fits, False, positions) is None
    assert not choice.awaited(POOR, [1.9, 1.8, 1.7], False, REFINED), "an excess of 0.7 of 1.2"
    assert choice.awaited(POOR, [2.0, 1.7, 1.5], False, REFINED)
    assert choice.more(IMAGE, PROBE, POOR, [1.5] * 12, False, REFINED) is most
    assert choice.found == ModesFound(1, 5, 3.0, 1.3)
    assert choice.more(IMAGE, PROBE, POOR, [1.1] * 12, False, REFINED) is None, "once more, not twice"


def test_the_state_comes_back() -> None:
    first = ModeChoice(Trials(Grown(torch.ones(3, 2, 2), ModesFound(1, 3, 2.5, 1.25))))
    first.more(IMAGE, PROBE, POOR, STALLED, False, MOVABLE)
    second = ModeChoice(Trials())
    second.restore(first.state())
    assert second.found == first.found
    assert second.more(IMAGE, PROBE, POOR, STALLED, False, REFINED) is None


def test_without_trials_nothing_is_awaited() -> None:
    choice = ModeChoice()
    assert not choice.awaited(POOR, FALLING, False, MOVABLE)
    assert choice.more(IMAGE, PROBE, POOR, STALLED, True, MOVABLE) is None
