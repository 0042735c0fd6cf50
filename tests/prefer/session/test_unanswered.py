"""Screens that wait for an answer, and what is said of counts and uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diptych.prefer import Judgement, Session
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.match import colours_lost
from diptych.prefer.session.answers import counted

D = 256


def opened(home: Path, **options: Any) -> Session:
    return Session.open(home, decoder="synthetic", dimension=D, synchronous=True, **{"prompt": "a lake", **options})


def waiting(session: Session) -> list[tuple[str, ...]]:
    return [tuple(one.id for one in screen) for screen in session.unanswered]


def test_a_screen_waits_until_one_of_its_images_is_judged(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        first = session.ask(2)
        second = session.ask(2)
        ids = [tuple(one.id for one in screen) for screen in (first, second)]
        assert waiting(session) == ids[::-1]
        session.tell(Judgement.rate(second[0], True))
        assert waiting(session) == []
        session.undo()
        assert waiting(session) == ids[::-1]
        (again,) = session.unanswered[:1]
        assert again[0].image is not None
        assert np.array_equal(again[0].image, second[0].image)
    with opened(tmp_path) as resumed:
        assert waiting(resumed) == ids[::-1]


def test_an_image_shown_again_that_was_judged_does_not_wait_and_nothing_waits_twice(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        judged = session.ask(1)
        session.tell(Judgement.skip(judged[0]))
        new = session.ask(2)
        session.show(*judged)
        session.show(*new)
        assert waiting(session) == [tuple(one.id for one in new)]


def test_screens_of_another_prompt_do_not_wait(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        session.ask(2)
    with opened(tmp_path, prompt="a hill") as other:
        assert waiting(other) == []


def test_counts_are_words() -> None:
    assert counted(1) == "1 judgement"
    assert counted(20, 1) == "20 judgements, 1 skip"


def test_only_a_decoder_without_an_encoder_loses_colours() -> None:
    class Encoding(Synthetic):
        def encode(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.ones(D, np.float32)

    assert "not its colours" in colours_lost(Synthetic(D))
    assert colours_lost(Encoding(D)) == ""
