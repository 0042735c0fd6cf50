from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import UnavailableError
from diptych.prefer import Session
from diptych.studio.state.prefer.desk import Desk

DEADLINE = 20.0


def until(test: Callable[[], Any], what: str = "", seconds: float = DEADLINE) -> None:
    """Wait until something holds; fail after a while."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, what or "it never happened"
        time.sleep(0.005)


def settled(desk: Desk) -> None:
    """Wait until the desk has nothing to do."""
    until(lambda: (not desk.line.coming and not desk.line.missing) or desk.line.problem, "no picture arrived")
    desk._worker.submit("settled", lambda: None).result(DEADLINE)


def message(desk: Desk, act: str, index: int = 0, serial: str = "", value: int = 0) -> dict[str, Any]:
    """What the browser sends for the picture at an index of the screen; about all pictures for best, tie and skip."""
    tiles = desk.view()["tiles"]
    chosen = (
        [tiles[index], *(tile for tile in tiles if tile is not tiles[index])]
        if act in ("best", "tie")
        else [tiles[index]]
    )
    pictures = [{"token": tile["token"], "hash": tile["hash"]} for tile in chosen]
    return {"serial": serial or tiles[index]["token"] + act, "act": act, "value": value, "pictures": pictures}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session.open(tmp_path / "lake", decoder="synthetic", dimension=256, prompt="a lake") as found:
        yield found


@pytest.fixture
def desk(session: Session) -> Iterator[Desk]:
    found = Desk(session)
    found.start()
    until(lambda: found.line.current is not None)
    settled(found)
    yield found
    found.close()


class Broken:
    """A decoder that fails until ``works`` is set."""

    def __init__(self) -> None:
        from diptych.prefer.decoders import open_decoder

        self._decoder = open_decoder("synthetic", prompt="a lake", dimension=256)
        self.name, self.space, self.dimension = "broken", "sphere", 256
        self.works = False

    @property
    def frame(self) -> Any:
        return self._decoder.frame

    @property
    def cost(self) -> float:
        return self._decoder.cost

    def decode(self, latent: Any) -> Any:
        if not self.works:
            raise UnavailableError("no decoder answers")
        return self._decoder.decode(latent)


@pytest.fixture
def broken() -> Broken:
    return Broken()
