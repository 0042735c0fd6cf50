from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from diptych.errors import InputError
from diptych.prefer import Judgement, Ledger, Session
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state import sessions
from diptych.studio.state.prefer.desks import Desks


@pytest.fixture
def desks(tmp_path: Path) -> Desks:
    with Session.open(tmp_path / "lake", decoder="synthetic", dimension=256, synchronous=True) as session:
        for candidate in session.ask(3):
            session.tell(Judgement.rate(candidate, good=True))
    return Desks(Studio(StudioOptions(data=(tmp_path,))))


def test_a_session_that_is_open_is_exported_whole_renamed_and_deleted(desks: Desks, tmp_path: Path) -> None:
    desks.open(tmp_path / "lake")
    sessions.export(desks, tmp_path / "lake", tmp_path / "copy.zip")
    with zipfile.ZipFile(tmp_path / "copy.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
    with Ledger.open(tmp_path / "elsewhere" / "lake", read_only=True) as ledger:
        assert len(ledger.judgements()) == 3
        assert all(ledger.candidate(one.judgement.ids[0]).image is not None for one in ledger.judgements())
    with pytest.raises(InputError, match="name"):
        sessions.rename(desks, tmp_path / "lake", "../up")
    sessions.rename(desks, tmp_path / "lake", "sea")
    assert not desks.is_open(tmp_path / "lake")
    with pytest.raises(InputError, match="has no session"):
        sessions.delete(desks, tmp_path / "lake")
    assert desks.open(tmp_path / "sea").session.rows == 3
    sessions.delete(desks, tmp_path / "sea")
    assert not (tmp_path / "sea").exists()
    desks.studio.close()


def test_nothing_outside_and_no_other_folder_is_deleted(desks: Desks, tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path.parent, tmp_path / "nothing"):
        with pytest.raises(InputError):
            sessions.delete(desks, wrong)
    assert (tmp_path / "lake").is_dir()
    desks.studio.close()
