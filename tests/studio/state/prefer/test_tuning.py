from __future__ import annotations

from pathlib import Path

import pytest

import diptych
from diptych.errors import InputError
from diptych.prefer import Judgement, Session
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.runtime.options import read_yaml
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.tuning import save, scan_of, tunes, winner

from .conftest import message, settled, until


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.npz"
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0), path)
    return path


@pytest.mark.integration
def test_settings_are_beneath_the_pictures_and_the_winner_is_saved(tmp_path: Path, scan: Path) -> None:
    with Session.open(tmp_path / "tune", decoder="reconstruction", scan=str(scan), threads=1) as session:
        desk = Desk(session)
        desk.start()
        until(lambda: desk.line.current is not None, seconds=300)
        settled(desk)
        tiles = desk.view()["tiles"]
        assert "likelihood poisson, epochs 100, alpha 0.3" in tiles[0]["note"]
        assert len({tile["note"] for tile in tiles}) == 4
        assert tunes(session)
        with pytest.raises(InputError, match="no best image yet"):
            winner(session)
        desk.answer(message(desk, "best", 2)).result()
        session.wait()
        best = winner(session)
        path = save(session, best)
        assert read_yaml(path) == best.settings
        options = ReconstructionOptions.build(best.settings)
        assert len(diptych.reconstruct(diptych.load(scan), options=options).history["fit"]) <= best.settings["epochs"]
        assert scan_of(session) == str(scan)
        desk.close()


def test_pictures_of_a_generator_have_no_settings(session: Session) -> None:
    for index, candidate in enumerate(session.ask(4)):
        session.tell(Judgement.rate(candidate, good=index % 2 == 0))
    session.wait()
    assert not tunes(session)
    with pytest.raises(InputError, match="not reconstructions"):
        winner(session)
