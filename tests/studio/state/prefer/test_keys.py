from __future__ import annotations

from typing import get_args

import pytest

from diptych.studio.state.prefer.keys import ANSWERS, MODES, Answers, Mode, keys_of, listed


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("answers", get_args(Answers))
def test_every_key_means_one_thing_and_is_explained(mode: Mode, answers: Answers) -> None:
    keys = keys_of(mode, answers)
    assert len({key.key for key in keys}) == len(keys)
    assert {"skip", "undo", "help"} <= {key.act for key in keys}
    assert all(key.help in listed(keys) for key in keys)
    assert mode in MODES
    assert answers in ANSWERS


def test_a_pair_is_answered_by_arrows_digits_and_a_tie() -> None:
    acts = {key.key: (key.act, key.value) for key in keys_of("pair", "rate")}
    assert acts["arrowleft"] == acts["1"] == ("best", 0)
    assert acts["arrowright"] == acts["2"] == ("best", 1)
    assert acts["t"] == ("tie", 0)


def test_digits_are_stars_or_choose_the_best() -> None:
    assert {key.key: key.act for key in keys_of("batch", "stars")}["5"] == "stars"
    assert {key.key: key.act for key in keys_of("batch", "rate")}["9"] == "best"
    assert {key.key: key.act for key in keys_of("queue", "rate")}["5"] == "stars"
