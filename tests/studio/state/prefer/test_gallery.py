from __future__ import annotations

import math
import re
import zipfile

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.prefer import Judgement, Session
from diptych.studio.state.fields import parsed
from diptych.studio.state.prefer import archive
from diptych.studio.state.prefer.gallery import arranged, entries
from diptych.studio.state.prefer.matching import Matching
from diptych.studio.state.prefer.options import changes, recent, utility_fields


@pytest.fixture
def judged(session: Session) -> Session:
    shown = session.ask(6)
    session.tell(Judgement.rate(shown[0], good=True))
    session.tell(Judgement.rate(shown[1], good=False))
    session.tell(Judgement.stars(shown[2], 4))
    session.tell(Judgement.pair(shown[3], shown[4]))
    session.wait()
    return session


def test_the_gallery_lists_sorts_and_filters(judged: Session) -> None:
    found = entries(judged)
    assert [one.labels for one in found] == ["+1", "-1", "stars4", "pair", "other", ""]
    assert [one.rating for one in found[:5]] == [1, -1, 0.5, 0.5, -0.5]
    values = [one.value for one in arranged(found, "value", "all")]
    assert values == sorted(values, reverse=True)
    assert np.isfinite(values).all()
    assert next(one.labels for one in arranged(found, "rating", "good")) == "+1"
    assert len(arranged(found, "newest", "bad")) == 2
    assert [one.labels for one in arranged(found, "newest", "open")] == [""]
    assert arranged(found, "oldest", "all", "no such prompt") == []


def test_values_are_unknown_before_a_fit(session: Session) -> None:
    session.ask(2)
    assert all(math.isnan(one.value) for one in entries(session))


def test_state_goes_out_and_comes_in(judged: Session, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("state")
    file = folder / archive.state_name(judged)
    archive.state_file(judged, file)
    with Session.open(
        tmp_path_factory.mktemp("other"), decoder="synthetic", dimension=256, prompt="a lake", use_legacy=True
    ) as other:
        archive.read_state(other, file)
        assert other.rows == 3  # two ratings and one pair; stars cannot be represented in this file
    for wrong in ("state.txt", "state.npz"):
        (folder / wrong).write_bytes(b"no state")
        with pytest.raises(InputError, match=re.escape(wrong)):
            archive.read_state(judged, folder / wrong)


def test_the_table_has_the_pictures(judged: Session, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("table") / "table.zip"
    archive.table(judged, path)
    with zipfile.ZipFile(path) as found:
        names = found.namelist()
    assert "judgements.csv" in names
    assert sum(name.endswith(".png") for name in names) == 5


def test_uploads_that_are_no_pictures_are_named(session: Session) -> None:
    with pytest.raises(InputError, match=r"photo\.png"):
        archive.read_image(b"<script>", "../../photo.png")


def test_a_match_never_gets_worse(session: Session) -> None:
    target = session.prepare(1)[0].image
    assert target is not None
    matching = Matching(session, target)
    assert matching.readout == "MSE: n/a"
    matching.step(5)
    first = matching.best
    matching.step(20)
    assert first is not None
    assert matching.best is not None
    assert matching.best.error <= first.error
    assert "MSE: " in matching.readout
    assert np.array_equal(matching.candidate().latent, matching.best.latent)


def test_form_values(session: Session) -> None:
    depth = next(field for field in utility_fields("xgboost") if field.name == "depth")
    assert parsed(depth, 3.0) == 3
    assert parsed(depth, "") is None
    with pytest.raises(InputError):
        parsed(depth, "many")
    assert changes(session, {"batch": 4, "utility": "contrastive", "warm_start": None}) == {}
    assert changes(session, {"batch": 5, "prompt": None}) == {"batch": 5, "prompt": None}
    assert list(recent(["a lake", "", "a lake"])) == ["a lake"]
