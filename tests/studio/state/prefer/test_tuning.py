from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import diptych
from diptych.errors import InputError
from diptych.prefer import Judgement, Session
from diptych.prefer.decoders.protocols import config_of
from diptych.prefer.session.fitting import Fitting
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.runtime.options import read_yaml
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.tuning import begin, common_text, save, scan_of, shared_options, tunes, winner
from diptych.studio.state.reconstruct.page import ReconstructPage

from .conftest import message, settled, until


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.npz"
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0), path)
    return path


@pytest.mark.integration
def test_settings_are_beneath_the_pictures_and_the_winner_is_saved(
    tmp_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session.open(tmp_path / "tune", decoder="reconstruction", scan=str(scan), threads=1) as session:
        desk = Desk(session)
        desk.start()
        until(lambda: desk.line.current is not None, seconds=300)
        settled(desk)
        tiles = desk.view()["tiles"]
        assert "likelihood poisson, epochs 100, alpha 0.3" in tiles[0]["note"]
        # The settings of all but the first picture are random, and some of them earn a flag.
        measures = r"fit \d+\.\d\d, held out \d+\.\d\d(, flags: [a-z, -]+)?; likelihood"
        assert [tile["note"] for tile in tiles if not re.match(measures, tile["note"])] == []
        assert len({tile["note"] for tile in tiles}) == 4
        assert tunes(session)
        with pytest.raises(InputError, match="no best image yet"):
            winner(session)
        # The winner is asked for while the fit to the only answer is still running.
        fit = Fitting._fit
        monkeypatch.setattr(Fitting, "_fit", lambda fitting: (time.sleep(1.0), fit(fitting))[1])
        desk.answer(message(desk, "best", 2)).result()
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


def test_a_session_has_the_reading_and_the_options_of_the_page(tmp_path: Path) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0)
    wrong = dataclasses.replace(scan, counts=scan.counts.swapaxes(1, 2))
    diptych.save(wrong, tmp_path / "scan.npz")
    studio = Studio(StudioOptions(data=(tmp_path,)))
    page = ReconstructPage(studio)
    page.open("scan.npz")
    page.reread({"orientation": 4})
    page.values = {"modes": 2, "drop": "3-5", "prepare": "{crop: 8}", "epochs": 7, "error_bars": True}
    assert page.look is not None
    folder = begin(studio, page.look.path, page.load, page.values)
    assert begin(studio, page.look.path, page.load, page.values) == folder
    other = begin(studio, page.look.path, {}, page.values)
    assert other != folder
    with Session.open(folder) as session:
        np.testing.assert_array_equal(session.decoder.scan.counts, scan.counts)  # type: ignore[attr-defined]
        assert "orientation 4" in common_text(session)
        settings = config_of(session.decoder, session.decoder.start)  # type: ignore[attr-defined]
        assert session.decoder.options.error_bars is False  # type: ignore[attr-defined]
    assert {name: settings[name] for name in ("orientation", "modes", "drop", "epochs")} == {
        "orientation": 4,
        "modes": 2,
        "drop": "3-5",
        "epochs": 100,
    }
    (folder / "tuned.yaml").write_text(yaml.safe_dump(settings))
    fresh = ReconstructPage(studio)
    fresh.open("scan.npz")
    fresh.configure(folder / "tuned.yaml", alone=True)
    assert fresh.look is not None
    np.testing.assert_array_equal(fresh.look.scan.counts, scan.counts)
    assert fresh.values["modes"] == 2
    assert json.loads(fresh.values["prepare"]) == {"crop": 8}
    studio.close()


def test_an_engine_without_what_is_searched_is_not_shared() -> None:
    assert shared_options({"engine": "rpie", "batch": 8, "modes": 1}) == {"engine": "rpie", "batch": 8, "modes": 1}
    assert shared_options({"engine": "dm", "batch": 8, "modes": 1}) == {"modes": 1}
    assert shared_options({"epochs": 3, "likelihood": "poisson", "step": 0.5}) == {}
