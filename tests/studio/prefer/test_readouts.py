"""Every readout of the Prefer page, as a person sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nicegui", reason="needs NiceGUI (pip install 'diptych[studio]')")

from nicegui import ElementFilter, ui

from diptych.errors import UnavailableError
from diptych.prefer import Judgement, Session
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.ledger.ledger import Ledger
from diptych.studio.components.stage import Stage
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from studio.simulation import Scenario, eventually, visit

pytestmark = pytest.mark.integration

ALL = [
    "Dataset rows",
    "Rows (disk)",
    "Positives",
    "Negatives",
    "Comparisons",
    "Skips",
    "Last labels",
    "Dimension",
    "Value scorer",
    "Train score",
    "Leave-one-out agreement",
    "Chance level",
    "Predicted values",
    "Ridge training",
    "XGB active",
    "Training",
    "Last train",
    "Step scores",
    "Judgements used",
    "Agreement with yourself",
    "Advice",
    "Images",
    "Queue remaining",
    "||z − anchor||",
    "Angle from the anchor",
]


def simulate(tmp_path: Path, scenario: Scenario) -> None:
    """Run a scenario with a user of the Prefer page, and a studio with the data folder ``tmp_path / "data"``."""
    from diptych.studio.pages import prefer

    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    visit(Studio(StudioOptions(data=(data,))), scenario, prefer.register)


def prepared(tmp_path: Path, labels: int, dimension: int = 256, **options: Any) -> None:
    """A session in the data folder with some judgements, every second one good."""
    (tmp_path / "data").mkdir(exist_ok=True)
    with Session.open(
        tmp_path / "data" / "lake", decoder="synthetic", dimension=dimension, prompt="a lake", **options
    ) as session:
        for index, candidate in enumerate(session.ask(labels) if labels else ()):
            session.tell(Judgement.rate(candidate, good=index % 2 == 0))
        session.wait()


def shown(user: Any, name: str) -> str:
    return text(user, f"readout {name}")


def text(user: Any, marker: str) -> str:
    """What a label says; empty while it is hidden."""
    with user:
        return "".join(label.text for label in ElementFilter(marker=marker, kind=ui.label) if label.visible)


def stage(user: Any) -> Stage:
    (found,) = user.find(Stage).elements
    return found  # type: ignore[no-any-return]


async def opened(user: Any, rows: int | None = None) -> None:
    await user.open("/prefer?session=lake")
    if rows is not None:
        await eventually(lambda: shown(user, "Dataset rows") == str(rows), f"{rows} rows were not shown")


def answer(user: Any, act: str, index: int = 0) -> None:
    """Send what the browser sends."""
    element, tile = stage(user), stage(user).props["view"]["tiles"][index]
    sent = {"serial": f"{act}-{tile['token']}", "act": act, "value": 0}
    sent["pictures"] = [{"token": tile["token"], "hash": tile["hash"]}]
    for listener in element._event_listeners.values():
        if listener.type == "answer":
            element._handle_event({"id": listener.id, "listener_id": listener.id, "args": sent})


def test_no_data(tmp_path: Path) -> None:
    prepared(tmp_path, 0)

    async def scenario(user: Any, studio: Studio) -> None:
        await opened(user, 0)
        await eventually(lambda: shown(user, "Images") == "ready")
        known = {name: shown(user, name) for name in ALL}
        assert known["Rows (disk)"] == known["Positives"] == known["Negatives"] == known["Comparisons"] == "0"
        nothing = ("Last labels", "Train score", "Leave-one-out agreement", "Last train", "Step scores", "Advice")
        assert {known[name] for name in (*nothing, "Agreement with yourself")} == {"n/a"}
        assert known["Value scorer"] == "contrastive (untrained, rows=0)"
        assert (known["Ridge training"], known["XGB active"], known["Training"]) == ("idle", "no", "idle")
        assert known["Dimension"] == "256"
        assert text(user, "breadcrumb") == "Nothing saved yet."
        assert text(user, "cv score") == "CV score: n/a"
        assert text(user, "guidance") == "Effective guidance: 0.00"
        assert not text(user, "mismatch")
        captions = [tile["caption"] for tile in stage(user).props["view"]["tiles"]]
        assert captions == [f"Item {number} • Value: n/a" for number in range(1, 5)]

    simulate(tmp_path, scenario)


def test_one_label(tmp_path: Path) -> None:
    prepared(tmp_path, 0)

    async def scenario(user: Any, studio: Studio) -> None:
        await opened(user, 0)
        await eventually(lambda: stage(user).props["view"]["tiles"])
        answer(user, "good")
        await eventually(lambda: shown(user, "Dataset rows") == "1")
        assert (shown(user, "Rows (disk)"), shown(user, "Positives"), shown(user, "Negatives")) == ("1", "1", "0")
        assert shown(user, "Last labels") == "+1"
        assert shown(user, "Value scorer").startswith("contrastive (")
        assert text(user, "breadcrumb").startswith("Saved sample #1 → lake")
        assert text(user, "last action").startswith("Saved sample #1 → lake")
        assert stage(user).props["view"]["tiles"][0]["mark"] == "good"
        await user.should_see("Saved sample #1")

    simulate(tmp_path, scenario)


def test_fifty_labels(tmp_path: Path) -> None:
    prepared(tmp_path, 50)

    async def scenario(user: Any, studio: Studio) -> None:
        await opened(user, 50)
        await eventually(lambda: "ok" in shown(user, "Value scorer"))
        await eventually(lambda: shown(user, "Train score") != "n/a")
        known = {name: shown(user, name) for name in ALL}
        assert known["Value scorer"] == "contrastive (ok, rows=50)"
        assert (known["Positives"], known["Negatives"]) == ("25", "25")
        assert known["Last labels"].count(",") == 4
        assert "of 50" in known["Train score"]
        assert "of 50" in known["Leave-one-out agreement"]
        assert known["Step scores"].count(",") == 7
        assert "20 more labels" in known["Advice"]
        assert known["Last train"] != "n/a"
        assert known["||z − anchor||"].count(",") == 3
        user.find(marker="cv").click()
        await eventually(lambda: "of 50" in text(user, "cv score"))
        assert "folds, computed 20" in text(user, "cv score")

    simulate(tmp_path, scenario)


def test_ridge_and_its_status(tmp_path: Path) -> None:
    prepared(tmp_path, 8, utility="ridge")

    async def scenario(user: Any, studio: Studio) -> None:
        await opened(user, 8)
        await eventually(lambda: shown(user, "Ridge training") == "ok")
        assert shown(user, "XGB active") == "no"

    simulate(tmp_path, scenario)


def test_another_dimension(tmp_path: Path) -> None:
    prepared(tmp_path, 4, dimension=512)
    prepared(tmp_path, 0, dimension=256)

    async def scenario(user: Any, studio: Studio) -> None:
        await opened(user, 4)
        assert text(user, "mismatch") == "Dataset recorded at d=512 (ignored); current latent dim d=256"
        assert "4 not used (other dimension)" in shown(user, "Judgements used")
        assert shown(user, "Train score") == "n/a"

    simulate(tmp_path, scenario)


def test_rows_of_another_program_are_shown(tmp_path: Path) -> None:
    prepared(tmp_path, 1)

    async def scenario(user: Any, studio: Studio) -> None:
        await opened(user, 1)
        with Ledger.open(tmp_path / "data" / "lake") as ledger:
            ledger.judge(Judgement.rate(ledger.judgements()[0].judgement.ids[0], good=False))
        await eventually(lambda: shown(user, "Rows (disk)") == "2 (+1 by other programs)")
        assert shown(user, "Dataset rows") == "1"

    simulate(tmp_path, scenario)


@pytest.mark.parametrize("why", ["the decode failed: out of memory", "http://localhost:1: no decoder answers"])
def test_a_failed_decode_and_a_decoder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    prepared(tmp_path, 0)

    def failed(*_: Any) -> Any:
        raise UnavailableError(why)

    async def scenario(user: Any, studio: Studio) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Synthetic, "_decode", failed)
            await opened(user, 0)
            await eventually(lambda: stage(user).props["view"]["problem"] == why)
            await eventually(lambda: shown(user, "Images") == "failed")
            assert stage(user).props["view"]["tiles"] == []
        for listener in stage(user)._event_listeners.values():
            if listener.type == "retry":
                stage(user)._handle_event({"id": listener.id, "listener_id": listener.id, "args": {}})
        await eventually(lambda: len(stage(user).props["view"]["tiles"]) == 4)
        await eventually(lambda: shown(user, "Images") == "ready")

    simulate(tmp_path, scenario)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path, 0)

    def full(*_: Any, **__: Any) -> int:
        raise UnavailableError("lake: the disk is full; nothing was stored.")

    async def scenario(user: Any, studio: Studio) -> None:
        await opened(user, 0)
        await eventually(lambda: stage(user).props["view"]["tiles"])
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "judge", full)
            answer(user, "good")
            await eventually(lambda: "disk is full" in stage(user).props["view"]["problem"])
            assert text(user, "last action").startswith("Not saved.")
            await user.should_see("Not saved.")
        assert shown(user, "Rows (disk)") == "0"

    simulate(tmp_path, scenario)


def test_debug_shows_the_last_decode_and_the_log(tmp_path: Path) -> None:
    prepared(tmp_path, 0)

    async def scenario(user: Any, studio: Studio) -> None:
        await opened(user, 0)
        (panel,) = user.find(marker="debug").elements
        panel.set_value(True)
        await eventually(lambda: shown(user, "Last decode").endswith(" s"))
        assert shown(user, "Size") == "64 x 64"
        assert "std 1." in shown(user, "Latents") or "std 0.9" in shown(user, "Latents")
        await eventually(lambda: "[batch] new batch" in text(user, "log"))

    simulate(tmp_path, scenario)


def test_empty_states_say_what_to_do(tmp_path: Path) -> None:
    async def scenario(user: Any, studio: Studio) -> None:
        await user.open("/prefer")
        await user.should_see("No session yet. Try it now, or begin one below.")
        await user.open("/prefer?session=nothing")
        await user.should_see("nothing: has no session. Begin one under this name.")
        await user.open("/prefer?session=../../etc")
        await user.should_see("lies outside the data folders")

    simulate(tmp_path, scenario)


def test_a_session_is_begun_and_its_mode_chosen(tmp_path: Path) -> None:
    async def scenario(user: Any, studio: Studio) -> None:
        await user.open("/prefer")
        user.find(marker="session name").clear().type("hills")
        user.find(marker="option dimension").clear().type("256")
        user.find(marker="begin").click()
        await eventually(lambda: (tmp_path / "data" / "hills" / "session.json").is_file())
        await user.open("/prefer?session=hills")
        (mode,) = user.find(marker="mode").elements
        assert isinstance(mode, ui.toggle)
        mode.set_value("queue")
        await eventually(lambda: text(user, "queue-left") == "Queue remaining: 6")
        mode.set_value("gallery")
        await eventually(lambda: "pictures, page 1" in text(user, "gallery count"))

    simulate(tmp_path, scenario)
