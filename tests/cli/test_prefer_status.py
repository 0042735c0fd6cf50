"""The line about work that takes long: which image is being made, and what for."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from diptych.cli.prefer import status
from diptych.prefer.session.changes import AHEAD, IMAGES, TRIED
from diptych.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(monkeypatch: pytest.MonkeyPatch, reports: list[Progress], stream: io.StringIO) -> str:
    """What stands on ``stream`` after these reports."""
    monkeypatch.setattr(status, "FIRST", 0.0)
    shown = status.Status(stream)
    with shown.doing("making a screen"):
        for report in reports:
            shown(report)
        time.sleep(0.3)
    shown.close()
    return stream.getvalue()


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ([Progress(IMAGES, 0, 4)], "image 1 of 4"),
        ([Progress(IMAGES, 3, 4), Progress("ml", 9, 20)], "image 4 of 4, ml 9 of 20"),
        ([Progress(TRIED, 2, 8), Progress("ml", 9, 20)], "trying 3 of 8 settings, ml 9 of 20"),
        ([Progress(AHEAD, 0, 1), Progress("ml", 9, 20)], "first finishing an image for a later screen, ml 9 of 20"),
        ([Progress(TRIED, 8, 8), Progress("ml", 9, 9), Progress(IMAGES, 0, 4)], "image 1 of 4 (Ctrl-C stops)"),
    ],
)
def test_the_line_says_which_image_is_made_and_what_for(
    monkeypatch: pytest.MonkeyPatch, reports: list[Progress], said: str
) -> None:
    assert said in written(monkeypatch, reports, io.StringIO())


def test_an_image_for_a_later_screen_that_has_begun_is_still_named_when_a_screen_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "FIRST", 0.0)
    stream = io.StringIO()
    shown = status.Status(stream)
    shown(Progress(AHEAD, 0, 1))
    with shown.doing("making a screen"):
        time.sleep(0.3)
    shown.close()
    assert "first finishing an image for a later screen" in stream.getvalue()


def test_a_line_on_a_terminal_does_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = written(monkeypatch, [Progress(TRIED, 2, 8), Progress("maximum likelihood", 100, 2000)], Terminal())
    lines = [part for part in text.split("\r\x1b[K") if part]
    assert lines
    assert max(map(len, lines)) < 40


def test_work_that_may_take_long_is_named_while_it_is_done(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    works: list[str] = []
    reports: list[Progress] = []
    doing = status.Status.doing

    def named(shown: status.Status, work: str) -> Any:
        works.append(work)
        return doing(shown, work)

    monkeypatch.setattr(status.Status, "doing", named)
    monkeypatch.setattr(status.Status, "__call__", lambda shown, progress: reports.append(progress))
    assert cli("prefer", "simulate", "s", "--dimension", 256, "--labels", 6, "--prompt", "a").code == 0
    assert works == ["opening the session", "simulating"]
    judged = [(one.done, one.total) for one in reports if one.stage == "judgements"]
    assert judged == [(4, 6), (6, 6)]
    works.clear()
    assert cli("prefer", "score", "s").code == 0
    assert cli("prefer", "best", "s", "--out", "b.png").code == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("q\n"))
    assert cli("prefer", "label", "s").code == 0
    assert [work for work in works if work != "opening the session"] == [
        "fitting",
        "making the best image",
        "making a screen of images",
    ]
    assert works.count("opening the session") == 3
