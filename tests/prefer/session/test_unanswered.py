"""Screens that wait for an answer, and what is said of counts and uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diptych.prefer import Judgement, Ledger, Session
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.judgement import Candidate, Frame
from diptych.prefer.match import colours_lost
from diptych.prefer.session.answers import counted
from diptych.prefer.session.scoring import underfitted

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


def test_a_chosen_reconstruction_that_fits_much_worse_than_another_is_named(tmp_path: Path) -> None:
    def made(fit: float | None) -> Candidate:
        about = {} if fit is None else {"measured": {"fit": fit - 0.3, "held_out_fit": fit}}
        return Candidate(np.full(4, 0.5, np.float32), Frame("a scan"), image, provenance=about)

    image = np.zeros((8, 8, 3), np.uint8)
    with Ledger.open(tmp_path) as ledger:
        (sharp, near, smooth, other), *_ = [ledger.show([made(fit) for fit in (1.1, 1.2, 1.5, None)])]
        said = underfitted(ledger, ledger.candidate(smooth.id))
        assert "fit 1.20, held out 1.50" in said
        assert f"image {sharp.id} has fit 0.80, held out 1.10" in said
        for one in (sharp, near, other):
            assert underfitted(ledger, ledger.candidate(one.id)) == ""


def test_counts_are_words() -> None:
    assert counted(1) == "1 judgement"
    assert counted(20, 1) == "20 judgements, 1 skip"


def test_only_a_decoder_without_an_encoder_loses_colours() -> None:
    class Encoding(Synthetic):
        def encode(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.ones(D, np.float32)

    assert "not its colours" in colours_lost(Synthetic(D))
    assert colours_lost(Encoding(D)) == ""
