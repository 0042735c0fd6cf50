"""Keys of the Prefer page: what each one does in each mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["batch", "queue", "pair", "upload"]
Answers = Literal["rate", "best", "stars"]

MODES: dict[Mode, str] = {"batch": "Batch", "queue": "Queue", "pair": "Pair", "upload": "Upload"}
ANSWERS: dict[Answers, str] = {"rate": "Good / Bad", "best": "Best of", "stars": "Stars"}

NUMBERED = 9
"""Digits that choose an image."""


@dataclass(frozen=True)
class Key:
    """One key.

    Parameters
    ----------
    key : str
        As the browser names it, lower case.
    act : str
        ``good``, ``bad``, ``best``, ``stars``, ``skip``, ``tie``, ``undo``, ``move`` or ``help``.
    value : int
        Image (from 0) of ``best``, number of stars, or direction of ``move``; else 0.
    help : str
        What it does, for the list of keys.
    """

    key: str
    act: str
    value: int = 0
    help: str = ""


def keys_of(mode: Mode, answers: Answers) -> tuple[Key, ...]:
    """The keys of a mode, in the order of the list that ``?`` shows."""
    first = {"batch": _batch, "queue": _queue, "pair": _pair, "upload": _queue}[mode](answers)
    return (
        *first,
        Key(" ", "skip", help="Space: skip the picture" + ("s" if mode == "pair" else "")),
        Key("u", "undo", help="U: undo the last answer, and show its picture again"),
        Key("?", "help", help="?: show this list"),
    )


def listed(keys: tuple[Key, ...]) -> tuple[str, ...]:
    """The lines of the list of keys."""
    return tuple(dict.fromkeys(key.help for key in keys if key.help))


def _rating(subject: str) -> tuple[Key, ...]:
    return (Key("g", "good", help=f"G: {subject} is good"), Key("b", "bad", help=f"B: {subject} is bad"))


def _stars(subject: str) -> tuple[Key, ...]:
    return tuple(Key(str(stars), "stars", stars, f"1 to 5: stars for {subject}") for stars in range(1, 6))


def _batch(answers: Answers) -> tuple[Key, ...]:
    moves = tuple(
        Key(f"arrow{name}", "move", step, "Arrows: choose a picture")
        for name, step in (("left", -1), ("right", 1), ("up", -2), ("down", 2))
    )
    if answers == "stars":
        return (*_stars("the chosen picture"), *_rating("the chosen picture"), *moves)
    best = tuple(
        Key(str(index + 1), "best", index, "1 to 9: the best picture of the screen") for index in range(NUMBERED)
    )
    return (*_rating("the chosen picture"), *best, *moves) if answers == "rate" else (*best, *moves)


def _queue(answers: Answers) -> tuple[Key, ...]:
    arrows = (
        Key("arrowright", "good", help="Right arrow: accept"),
        Key("arrowleft", "bad", help="Left arrow: reject"),
    )
    rating = (Key("g", "good", help="G: accept (good)"), Key("b", "bad", help="B: reject (bad)"))
    return (*rating, *arrows, *_stars("the picture"))


def _pair(answers: Answers) -> tuple[Key, ...]:
    return (
        Key("1", "best", 0, "1 or left arrow: the left picture is better"),
        Key("arrowleft", "best", 0, "1 or left arrow: the left picture is better"),
        Key("2", "best", 1, "2 or right arrow: the right picture is better"),
        Key("arrowright", "best", 1, "2 or right arrow: the right picture is better"),
        Key("t", "tie", help="T: both are equally good"),
    )
