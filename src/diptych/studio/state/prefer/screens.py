"""Pictures on the screen of the Prefer page, each with the token and the hash by which an answer names it."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, image_hash

REMEMBERED = 4096
"""Pictures whose tokens are known; an answer to an older one is refused."""


@dataclass(eq=False)
class Tile:
    """One picture.

    Attributes
    ----------
    candidate : Candidate
        Has an id once it was recorded as shown.
    token : str
        Name of the picture in messages of the browser.
    hash : str
        SHA-256 of its pixels, see :func:`~diptych.prefer.judgement.image_hash`.
    mark : str
        How it was judged; empty while it is not.
    caption : str
    note : str
        A second line, for instance reconstruction settings.
    positions : tuple of int
        Its judgements in the ledger.
    size : (height, width)
        Pixels.
    """

    candidate: Candidate
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    hash: str = field(init=False, default="")
    mark: str = ""
    caption: str = ""
    note: str = ""
    positions: tuple[int, ...] = ()
    size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        assert self.candidate.image is not None
        self.hash = image_hash(self.candidate.image)
        self.size = self.candidate.image.shape[0], self.candidate.image.shape[1]

    def release(self) -> None:
        """Drop the pixels, which are on disk."""
        self.candidate = replace(self.candidate, image=None)


@dataclass(eq=False)
class Screen:
    """Pictures that are shown together."""

    tiles: list[Tile]

    @property
    def shown(self) -> bool:
        """Whether it is recorded as shown."""
        return all(tile.candidate.id for tile in self.tiles)

    @property
    def open(self) -> list[Tile]:
        """The pictures that are not judged."""
        return [tile for tile in self.tiles if not tile.mark]


class Tokens:
    """The pictures that the browser was given, by token."""

    def __init__(self) -> None:
        self._screens: OrderedDict[str, tuple[Screen, Tile]] = OrderedDict()

    def add(self, screen: Screen) -> None:
        """Remember the pictures of a screen."""
        for tile in screen.tiles:
            self._screens[tile.token] = screen, tile
        while len(self._screens) > REMEMBERED:
            self._screens.popitem(last=False)

    def named(self, pictures: Sequence[Any]) -> tuple[Screen, list[Tile]]:
        """The screen and the tiles that a message names as ``{"token", "hash"}``.

        Raises
        ------
        InputError
            If a picture is unknown, is not the one that was seen, or is on another screen than the others.
        """
        found: list[Tile] = []
        screens: list[Screen] = []
        for picture in pictures:
            token, seen = (picture.get("token"), picture.get("hash")) if isinstance(picture, dict) else (None, None)
            if not isinstance(token, str) or token not in self._screens:
                raise InputError(
                    "answer", "names a picture that is not open", remedy="Nothing was saved; judge the one on screen."
                )
            screen, tile = self._screens[token]
            if seen != tile.hash:
                raise InputError(
                    "answer", "is for another picture than the one shown", remedy="Nothing was saved; reload the page."
                )
            found.append(tile)
            screens.append(screen)
        if not found or any(screen is not screens[0] for screen in screens) or len(set(map(id, found))) != len(found):
            raise InputError("answer", "names no picture, or one twice", "pictures of one screen")
        return screens[0], found

    def by_id(self, names: Sequence[str]) -> Screen | None:
        """The latest screen that has all of these candidates."""
        for screen, _ in reversed(self._screens.values()):
            if set(names) <= {tile.candidate.id for tile in screen.tiles}:
                return screen
        return None
