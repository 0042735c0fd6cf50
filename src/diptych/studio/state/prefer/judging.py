"""Messages of the browser as judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diptych.errors import InputError
from diptych.prefer.judgement import Judgement
from diptych.studio.state.prefer.screens import Tile

MOST_PICTURES = 64
"""Pictures that one message can be about."""


@dataclass(frozen=True)
class Ack:
    """What became of an answer.

    Attributes
    ----------
    serial : str
        That of the message.
    rows : int
        Rows that were stored for it; 0 if none.
    text : str
        What the person is told.
    error : bool
        Whether it was refused or could not be stored.
    """

    serial: str
    rows: int
    text: str
    error: bool = False


def judgements_of(
    message: Mapping[str, Any], names: Sequence[str], pictures: int, weight: float
) -> tuple[Judgement, ...]:
    """The judgements of a message about candidates, the chosen one first.

    Parameters
    ----------
    message : mapping
        ``act`` is good, bad, stars (``value`` 1 to 5), best, tie or skip.
    names : sequence of str
        Ids of the candidates.
    pictures : int
        Number of pictures on their screen; "best" is about all of them.
    weight : float

    Raises
    ------
    InputError
        If it is no answer, or not one about these candidates.
    """
    act, value = message.get("act"), message.get("value", 0)
    if act in ("good", "bad") and len(names) == 1:
        return (Judgement.rate(names[0], act == "good", weight),)
    if act == "stars" and len(names) == 1 and isinstance(value, int) and not isinstance(value, bool):
        return (Judgement.stars(names[0], value, weight),)
    if act == "best" and len(names) == pictures > 1:
        if pictures == 2:
            return (Judgement.pair(names[0], names[1], weight),)
        return (Judgement.choose(names[0], names, weight),)
    if act == "tie" and len(names) == 2:
        return (Judgement.tie(names[0], names[1], weight),)
    if act == "skip" and names:
        return tuple(Judgement.skip(name) for name in names)
    raise InputError(
        "answer",
        f"{str(act)[:20]!r} for {len(names)} of {pictures} pictures",
        "good, bad or stars for one picture, best for all of a screen, tie for two, or skip",
        "Nothing was saved.",
    )


def marks_of(message: Mapping[str, Any], tiles: Sequence[Tile]) -> list[tuple[Tile, str]]:
    """How each picture is marked after the answer."""
    act = str(message.get("act"))
    if act == "best":
        return [(tile, "best" if index == 0 else "not best") for index, tile in enumerate(tiles)]
    mark = {"stars": f"{message.get('value')} of 5 stars", "skip": "skipped"}.get(act, act)
    return [(tile, mark) for tile in tiles]


def settings_text(settings: Mapping[str, Any]) -> str:
    """Reconstruction settings on one line; empty for a picture of a generator."""
    shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def listed(given: Any) -> list[Any]:
    """What a message has where a list belongs; empty for anything else."""
    return list(given)[:MOST_PICTURES] if isinstance(given, list | tuple) else []
