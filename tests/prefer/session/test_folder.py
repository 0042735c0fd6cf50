"""What a session stores: written by what opens it, as it was asked, and by nothing that reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.prefer import Candidate, Judgement, Session
from diptych.prefer.session.folder import change_settings, merged, read_settings, with_dimension

D = 256


def opened(folder: Path, **options: Any) -> Session:
    return Session.open(folder, **{"decoder": "synthetic", "synchronous": True, **options})


def test_options_hold_for_one_run_or_are_stored_or_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path, dimension=D, prompt="a lake", utility="ridge", warm_start="a hill") as session:
        session.tell(Judgement.rate(session.ask(1)[0], True))
    before = (tmp_path / "session.json").read_bytes()
    with opened(tmp_path, prompt="typo", utility="cosine", batch=2, dimension=512, remember=False) as session:
        assert (session.frame.prompt, session.dimension, session.options.batch) == ("typo", 512, 2)
    assert "for this run only" in caplog.text
    assert "prompt = 'typo'" in caplog.text
    assert (tmp_path / "session.json").read_bytes() == before
    with Session.open(tmp_path, unset=["warm_start", "utility"], batch=3, synchronous=True) as session:
        assert (session.state.utility, session.options.warm_start, session.options.batch) == ("contrastive", None, 3)
    stored = {"decoder": "synthetic", "dimension": D, "prompt": "a lake", "batch": 3}
    assert read_settings(tmp_path) == stored
    with pytest.raises(InputError, match="unset: warm_start is not stored; expected some of those that are: prompt, "):
        Session.open(tmp_path, unset=["warm_start"])
    # The options of a decoder go with its name.
    assert change_settings(tmp_path, {}, ["decoder"]).model_dump(exclude_unset=True) == {"prompt": "a lake", "batch": 3}
    with pytest.raises(InputError, match="has no session"):
        change_settings(tmp_path / "absent", {"batch": 1})
    assert not (tmp_path / "absent").exists()


def test_paths_mean_the_same_in_every_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, dose=1e3, seed=0), "data/scan.npz")
    written = ["data/scan.npz", "./data//scan.npz", "data/../data/scan.npz", str(tmp_path / "data" / "scan.npz")]
    assert {json.dumps(merged({}, {"decoder": "reconstruction", "scan": one}).model_dump()) for one in written} == {
        json.dumps(merged({}, {"decoder": "reconstruction", "scan": written[-1]}).model_dump())
    }
    with opened(Path("s"), decoder="reconstruction", scan="data/scan.npz", threads=1) as session:
        frame = session.frame
        monkeypatch.chdir("data")
        # The files of an open session stay where they are.
        latent = np.zeros(session.dimension, np.float32)
        session.tell(Judgement.rate(session.show(Candidate(latent, frame))[0], True))
        assert [path.name for path in (tmp_path / "data").iterdir()] == ["scan.npz"]
    assert read_settings(tmp_path / "s")["scan"] == str(tmp_path / "data" / "scan.npz")
    with Session.open("../s", synchronous=True) as session:
        assert session.frame == frame


def test_a_model_is_one_whatever_its_folder_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "link").symlink_to("tiny")
    monkeypatch.chdir(tmp_path)
    given = ["tiny", "tiny/", "./tiny", "link", str(tmp_path / "tiny") + "/"]
    found = [merged({}, {"decoder": "diffusion", "model": one, "prompt": "p"}).own("decoder").model for one in given]
    assert found == [str((tmp_path / "tiny").resolve())] * len(given)
    hub = [merged({}, {"decoder": "diffusion", "model": one}).own("decoder").model for one in ("a/b", "a/b/")]
    assert hub == ["a/b", "a/b"]


def test_judgements_of_another_scan_or_network_do_not_count(tmp_path: Path) -> None:
    for seed in (0, 1):
        scan = diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, dose=1e3, seed=seed)
        diptych.save(scan, tmp_path / f"{seed}.npz")
    with opened(tmp_path / "s", decoder="reconstruction", scan=str(tmp_path / "0.npz"), threads=1) as session:
        rng = np.random.default_rng(0)
        for _ in range(2):
            candidate = Candidate(rng.random(session.dimension, dtype=np.float32), session.frame)
            session.tell(Judgement.rate(session.show(candidate)[0], True))
        assert session.ledger.observations(session.frame, session.dimension).report.used == 2
    with Session.open(tmp_path / "s", scan=str(tmp_path / "1.npz"), synchronous=True) as session:
        assert session.ledger.observations(session.frame, session.dimension).report.unused == {"other model": 2}
    with opened(tmp_path / "t", dimension=D) as session:
        session.tell(Judgement.rate(session.ask(1)[0], True))
    with opened(tmp_path / "t", dimension=D, decoder_seed=3) as session:
        assert session.state.report == "0 judgements used; 1 not used (other model)"


def test_an_import_stores_the_dimension_where_the_decoder_has_one() -> None:
    assert with_dimension(merged({}, {"prompt": "p"}), 512).own("decoder").dimension == 512
    assert with_dimension(merged({}, {"dimension": D}), 512).own("decoder").dimension == D
    diffusion = merged({}, {"decoder": "diffusion", "prompt": "p"})
    assert with_dimension(diffusion, 512) == diffusion
