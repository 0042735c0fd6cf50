from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from diptych.errors import UnavailableError
from diptych.prefer import Session
from diptych.prefer.judgement import image_hash
from diptych.studio.state.prefer.desk import Desk

from .conftest import message, settled, until


def test_an_answer_is_on_disk_when_it_is_acknowledged(desk: Desk, session: Session) -> None:
    sent = message(desk, "good")
    ack = desk.answer(sent).result()
    assert (ack.rows, ack.error, session.rows) == (1, False, 1)
    (record,) = session.ledger.judgements()
    judged = session.ledger.candidate(record.judgement.ids[0])
    assert judged.image is not None
    assert image_hash(judged.image) == sent["pictures"][0]["hash"]
    assert desk.view()["tiles"][0]["mark"] == "good"
    assert "Saved sample #1 → lake" in desk.last_action
    assert desk.breadcrumbs[0].endswith("(+1)")


def test_the_same_message_and_a_second_click_store_one_row(desk: Desk, session: Session) -> None:
    sent = message(desk, "good")
    first, again = desk.answer(sent).result(), desk.answer(sent).result()
    second_click = desk.answer({**sent, "serial": "another"}).result()
    assert again is first
    assert (first.rows, second_click.rows, second_click.error, session.rows) == (1, 0, False, 1)


def test_a_changed_mind_replaces_the_row(desk: Desk, session: Session) -> None:
    desk.answer(message(desk, "good")).result()
    desk.answer(message(desk, "bad")).result()
    assert [record.judgement.value for record in session.ledger.judgements()] == [0]
    assert desk.saved == session.rows == 1
    assert desk.view()["tiles"][0]["mark"] == "bad"


@pytest.mark.parametrize(
    "change",
    [
        {"pictures": []},
        {"pictures": None},
        {"pictures": [{"token": "other", "hash": "0"}]},
        {"pictures": "<script>"},
        {"act": "delete"},
        {"act": ["good"]},
        {"act": "stars", "value": 9},
        {"act": "stars", "value": True},
        {"act": "tie"},
    ],
)
def test_a_wrong_message_stores_nothing_and_says_so(desk: Desk, session: Session, change: dict[str, Any]) -> None:
    ack = desk.answer({**message(desk, "good"), **change}).result()
    assert ack.error
    assert ack.text.startswith("Not saved")
    assert session.rows == 0


def test_an_answer_to_a_picture_that_was_not_seen_is_refused(desk: Desk, session: Session) -> None:
    sent = message(desk, "good")
    other = desk.view()["tiles"][1]["hash"]
    ack = desk.answer({**sent, "pictures": [{**sent["pictures"][0], "hash": other}]}).result()
    assert ack.error
    assert "another picture" in ack.text
    assert session.rows == 0


def test_pictures_stay_until_all_are_judged(desk: Desk) -> None:
    before = [tile["token"] for tile in desk.view()["tiles"]]
    for index in range(3):
        desk.answer(message(desk, "good", index)).result()
        settled(desk)
        assert [tile["token"] for tile in desk.view()["tiles"]] == before
    desk.answer(message(desk, "bad", 3)).result()
    until(lambda: [tile["token"] for tile in desk.view()["tiles"]] != before)
    assert not any(tile["mark"] for tile in desk.view()["tiles"])


def test_refresh_on_label_renews_the_batch(desk: Desk) -> None:
    desk.refresh, before = True, desk.view()["tiles"][0]["token"]
    desk.answer(message(desk, "good")).result()
    until(lambda: desk.view()["tiles"][0]["token"] != before)


def test_best_of_and_stars(desk: Desk, session: Session) -> None:
    desk.answer(message(desk, "best", 2)).result()
    (record,) = session.ledger.judgements()
    assert (record.judgement.kind, len(record.judgement.ids)) == ("best", 4)
    settled(desk)
    until(lambda: not desk.view()["tiles"][0]["mark"])
    desk.weight = 2.5
    desk.answer(message(desk, "stars", 1, value=4)).result()
    last = session.ledger.judgements()[-1].judgement
    assert (last.kind, last.value, last.weight) == ("stars", 4, 2.5)


def test_a_queue_goes_on_at_once_and_fills_up(desk: Desk, session: Session) -> None:
    desk.choose(mode="queue")
    settled(desk)
    assert desk.line.remaining == 6
    following = desk.view()["ahead"][0][0]["token"]
    number = desk.view()["number"]
    desk.answer(message(desk, "good")).result()
    view = desk.view()
    assert (view["tiles"][0]["token"], view["number"]) == (following, number + 1)
    settled(desk)
    assert desk.line.remaining == 6
    assert session.rows == 1


def test_pictures_decoded_ahead_are_recorded_as_shown_when_they_are(desk: Desk, session: Session) -> None:
    desk.choose(mode="queue")
    settled(desk)
    shown = sum(event.kind == "screen" for event in session.ledger.events())
    assert shown == 2  # the batch, and one picture of the queue
    desk.answer(message(desk, "good")).result()
    assert sum(event.kind == "screen" for event in session.ledger.events()) == 3


def test_pairs_and_ties(desk: Desk, session: Session) -> None:
    desk.choose(mode="pair")
    settled(desk)
    sent = message(desk, "best", 1)
    desk.answer(sent).result()
    desk.answer(message(desk, "tie")).result()
    desk.answer({**message(desk, "skip"), "pictures": message(desk, "tie")["pictures"]}).result()
    assert [record.judgement.kind for record in session.ledger.judgements()] == ["pair", "tie", "skip", "skip"]
    winner = session.ledger.candidate(session.ledger.judgements()[0].judgement.ids[0])
    assert winner.image is not None
    assert image_hash(winner.image) == sent["pictures"][0]["hash"]


def test_undo_shows_the_picture_again(desk: Desk, session: Session) -> None:
    desk.choose(mode="queue")
    settled(desk)
    judged, epoch = desk.view()["tiles"][0]["token"], desk.view()["epoch"]
    desk.answer(message(desk, "bad")).result()
    ack = desk.undo().result()
    view = desk.view()
    assert (ack.rows, session.rows, desk.saved) == (1, 0, 0)
    assert view["tiles"][0]["token"] == judged
    assert not view["tiles"][0]["mark"]
    assert view["epoch"] > epoch
    assert desk.answer(message(desk, "good", serial="new")).result().rows == 1
    assert desk.undo().result().rows == 1
    assert desk.undo().result().error


def test_undo_reaches_answers_of_an_earlier_desk(session: Session) -> None:
    first = Desk(session)
    first.start()
    until(lambda: first.line.current is not None)
    settled(first)
    seen = first.view()["tiles"][0]["hash"]
    first.answer(message(first, "good")).result()
    first.close()
    later = Desk(session)
    assert later.undo().result().rows == 1
    assert seen in [tile["hash"] for tile in later.view()["tiles"]]
    later.close()


def test_a_late_answer_of_another_tab_does_not_count_twice(desk: Desk, session: Session) -> None:
    desk.choose(mode="queue")
    settled(desk)
    sent = message(desk, "good")
    desk.answer(sent).result()
    late = desk.answer({**sent, "serial": "other tab", "act": "bad"}).result()
    assert (late.rows, session.rows) == (0, 1)
    assert "another tab" in late.text


def test_a_full_disk_is_seen_and_the_picture_stays(
    desk: Desk, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.choose(mode="queue")
    settled(desk)
    sent = message(desk, "good")

    def full(*_: Any) -> int:
        raise UnavailableError("the disk is full; nothing was stored")

    with monkeypatch.context() as patched:
        patched.setattr(session.ledger, "judge", full)
        ack = desk.answer(sent).result()
    assert ack.error
    assert "disk is full" in desk.view()["problem"]
    assert desk.view()["tiles"][0]["token"] == sent["pictures"][0]["token"]
    assert session.rows == 0
    desk.retry()
    settled(desk)
    assert not desk.view()["problem"]
    assert desk.answer({**sent, "serial": "again"}).result().rows == 1


def test_a_decoder_that_fails_is_reported_and_tried_again(tmp_path: Any, broken: Any) -> None:
    with Session.open(tmp_path / "gone", decoder=broken) as session:
        desk = Desk(session)
        desk.start()
        until(lambda: desk.view()["problem"])
        assert desk.view()["problem"] == "no decoder answers"
        assert desk.view()["tiles"] == []
        broken.works = True
        desk.retry()
        until(lambda: desk.view()["tiles"])
        assert not desk.view()["problem"]
        desk.close()


def test_answers_of_many_threads_are_one_row_each(desk: Desk, session: Session) -> None:
    messages = [message(desk, "good", index, serial=f"{thread}-{index}") for thread in range(4) for index in range(4)]
    acks = []
    threads = [threading.Thread(target=lambda one=one: acks.append(desk.answer(one).result())) for one in messages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.rows == sum(ack.rows for ack in acks) == 4


def test_captions_have_values_once_there_is_a_fit(desk: Desk, session: Session) -> None:
    assert all(tile["caption"].endswith("Value: n/a") for tile in desk.view()["tiles"])
    for index, act in enumerate(("good", "bad", "good", "bad")):
        desk.answer(message(desk, act, index)).result()
    session.wait()
    until(lambda: desk.view()["tiles"] and not desk.view()["tiles"][0]["caption"].endswith("n/a"))
    expected = session.score([desk.line.current.tiles[0].candidate])[0][0]  # type: ignore[union-attr]
    assert np.isfinite(expected)


def test_listeners_are_told_until_they_leave(desk: Desk) -> None:
    told: list[int] = []
    leave = desk.subscribe(lambda: told.append(1))
    desk.answer(message(desk, "good")).result()
    assert told
    leave()
    told.clear()
    desk.answer(message(desk, "bad", 1)).result()
    assert not told
