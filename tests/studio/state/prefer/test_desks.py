from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state.prefer.desks import Desks

from .conftest import message, settled, until


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Desks]:
    (tmp_path / "data").mkdir()
    studio = Studio(StudioOptions(data=(tmp_path / "data",)))
    found = Desks(studio)
    yield found
    found.close_all()
    studio.close()


OPTIONS = {"decoder": "synthetic", "dimension": 256, "prompt": "a lake"}


def test_one_desk_a_folder(desks: Desks) -> None:
    folder = desks.folder("lake")
    with pytest.raises(InputError, match="has no session"):
        desks.open(folder)
    desk = desks.open(folder, OPTIONS, new=True)
    assert desks.open(folder) is desk
    assert desks.named(desk.key) is desk
    assert desks.named("other") is None
    desks.close(folder)
    with pytest.raises(InputError, match="has a session"):
        desks.open(folder, OPTIONS, new=True)


@pytest.mark.parametrize("given", ["../outside", "/etc", "", ".", "a\0b"])
def test_sessions_stay_in_the_data_folders(desks: Desks, given: str) -> None:
    with pytest.raises(InputError):
        desks.folder(given)


@pytest.mark.parametrize("name", ["scan", "model"])
def test_files_named_by_options_stay_in_the_data_folders(desks: Desks, name: str) -> None:
    decoder = "reconstruction" if name == "scan" else "diffusion"
    with pytest.raises(InputError, match="outside the data folders"):
        desks.open(desks.folder("lake"), {"decoder": decoder, "prompt": "x", name: "/etc/hostname"}, new=True)
    assert not (desks.studio.folders.roots[0] / "lake").exists()


def test_changed_options_keep_rows_and_choices_and_a_wrong_one_changes_nothing(desks: Desks) -> None:
    folder = desks.folder("lake")
    desk = desks.open(folder, OPTIONS, new=True)
    desk.start()
    until(lambda: desk.line.current is not None)
    settled(desk)
    desk.answer(message(desk, "good")).result()
    desk.choose(mode="pair")
    changed = desks.change(folder, {"utility": "ridge", "batch": 6})
    assert (changed.session.options.utility, changed.lines["batch"].size) == ("ridge", 6)
    assert (changed.mode, changed.base, len(changed.breadcrumbs)) == ("pair", 1, 1)
    with pytest.raises(InputError):
        desks.change(folder, {"batch": 0})
    assert desks.open(folder).session.options.batch == 6
    assert desks.change(folder, {"utility": None}).session.options.utility is None


def test_reset_keeps_the_judgements_beside(desks: Desks) -> None:
    folder = desks.folder("lake")
    desk = desks.open(folder, OPTIONS, new=True)
    desk.start()
    until(lambda: desk.line.current is not None)
    settled(desk)
    desk.answer(message(desk, "good")).result()
    kept = desks.reset(folder)
    assert desks.open(folder).session.rows == 0
    assert desks.open(folder).session.options.prompt == "a lake"
    assert desks.open(desks.folder(kept)).session.rows == 1


def test_pictures_that_wait_for_an_answer_are_there_when_the_session_is_opened_again(desks: Desks) -> None:
    folder = desks.folder("lake")
    desk = desks.open(folder, OPTIONS, new=True)
    desk.start()
    until(lambda: desk.line.current is not None)
    settled(desk)
    seen = [tile["hash"] for tile in desk.view()["tiles"]]
    desk.session.upload(np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8))
    desks.close(folder)
    again = desks.open(folder)
    again.start()
    assert [tile["hash"] for tile in again.view()["tiles"]] == seen
    again.choose(mode="upload")
    assert len(again.view()["tiles"]) == 1
    again.choose(mode="batch")
    for index in range(4):
        again.answer(message(again, "good", index)).result()
    assert again.session.rows == 4
    until(lambda: [tile["hash"] for tile in again.view()["tiles"]] != seen)
