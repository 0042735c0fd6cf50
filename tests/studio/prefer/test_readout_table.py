"""Every readout of the Prefer page in every state that it can be in, as one table."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nicegui", reason="needs NiceGUI (pip install 'diptych[studio]')")

from diptych.errors import UnavailableError
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.ledger.ledger import Ledger
from diptych.studio.context import Studio
from studio.prefer.test_readouts import ALL, answer, opened, prepared, shown, simulate, stage, text
from studio.simulation import eventually

pytestmark = pytest.mark.integration

BESIDE = {
    "Last action": "last action",
    "Breadcrumb": "breadcrumb",
    "CV score": "cv score",
    "Effective guidance": "guidance",
    "Other dimension": "mismatch",
}
"""What is beside the readouts, and how the page marks it."""

NOTHING: dict[str, str] = {
    "Dataset rows": "0",
    "Rows (disk)": "0",
    "Positives": "0",
    "Negatives": "0",
    "Comparisons": "0",
    "Skips": "0",
    "Last labels": "n/a",
    "Dimension": "256",
    "Value scorer": r"contrastive \(untrained, rows=0\)",
    "Train score": "n/a",
    "Leave-one-out agreement": "n/a",
    "Chance level": "n/a",
    "Predicted values": "n/a",
    "Ridge training": "idle",
    "XGB active": "no",
    "Training": "idle",
    "Last train": "n/a",
    "Step scores": "n/a",
    "Judgements used": r".*0 judgements.*|no judgements.*|.*none.*",
    "Agreement with yourself": "n/a",
    "Advice": "n/a",
    "Images": "ready",
    "Queue remaining": r"\d+",
    "||z − anchor||": r"\d+\.\d(, \d+\.\d){3}",
    "Angle from the anchor": r"\d+°(, \d+°){3}",
    "Last action": ".*",
    "Breadcrumb": r"Nothing saved yet\.",
    "CV score": "CV score: n/a",
    "Effective guidance": r"Effective guidance: 0\.00",
    "Other dimension": "",
    "Captions": r"Item 1 • Value: n/a\|Item 2 • Value: n/a\|Item 3 • Value: n/a\|Item 4 • Value: n/a",
    "Problem": "",
}
"""All of them, with no data: regular expressions."""

NO_PICTURES = {"Images": "failed", "||z − anchor||": "n/a", "Angle from the anchor": "n/a", "Captions": ""}

ONE = {
    "Dataset rows": "1",
    "Rows (disk)": "1",
    "Positives": "1",
    "Last labels": r"\+1",
    "Value scorer": r"contrastive \(.*rows=1\)",
    "Judgements used": r"1 judgements? used.*|.*1.*",
    "Train score": r"100% \(1 of 1\)",
    "Leave-one-out agreement": r"100% \(1 of 1\)",
    "Chance level": r"100% \(1 of 1\)",
    "Predicted values": r"not to be trusted yet: they rest on 1 judgement, fewer than 20",
    "Last train": r"\d{4}-\d\d-\d\dT.*, \d+ ms",
    "Step scores": r"-?\d+\.\d\d(, -?\d+\.\d\d){7}",
    "Advice": r"20 more labels: expected gain .* sigma.*",
    "Captions": r"(Item \d • Value: (-?\d+\.\d\d|n/a)\|?){4}",
    "Last action": r"Saved sample #1 → lake.*",
    "Breadcrumb": r"Saved sample #1 → lake.*",
}


async def nothing_more(user: Any, patch: pytest.MonkeyPatch) -> None:
    """The page as it opens."""
    await eventually(lambda: stage(user).props["view"]["tiles"])


async def one_answer(user: Any, patch: pytest.MonkeyPatch) -> None:
    await nothing_more(user, patch)
    answer(user, "good")
    await eventually(lambda: shown(user, "Dataset rows") == "1")


async def computed(user: Any, patch: pytest.MonkeyPatch) -> None:
    await nothing_more(user, patch)
    await eventually(lambda: shown(user, "Train score") != "n/a")
    user.find(marker="cv").click()
    await eventually(lambda: "of 50" in text(user, "cv score"))


async def failing(user: Any, patch: pytest.MonkeyPatch) -> None:
    await eventually(lambda: stage(user).props["view"]["problem"])


async def gone(user: Any, patch: pytest.MonkeyPatch) -> None:
    """The decoder ends after the first answer; what comes next cannot be drawn."""
    await one_answer(user, patch)

    def refused(*_: Any) -> Any:
        raise UnavailableError("http://localhost:1: no decoder answers")

    patch.setattr(Synthetic, "_decode", refused)
    for listener in stage(user)._event_listeners.values():
        if listener.type == "renew":
            stage(user)._handle_event({"id": listener.id, "listener_id": listener.id, "args": {}})
    await eventually(lambda: stage(user).props["view"]["problem"])


async def full(user: Any, patch: pytest.MonkeyPatch) -> None:
    await nothing_more(user, patch)

    def refused(*_: Any, **__: Any) -> int:
        raise UnavailableError("lake: the disk is full; nothing was stored.")

    patch.setattr(Ledger, "judge", refused)
    answer(user, "good")
    await eventually(lambda: "disk is full" in stage(user).props["view"]["problem"])


@dataclass(frozen=True)
class State:
    """How the session is made, what happens on the page, and what differs from :data:`NOTHING` then."""

    labels: int = 0
    dimensions: tuple[int, ...] = (256,)
    broken: str = ""
    act: Callable[[Any, pytest.MonkeyPatch], Awaitable[None]] = nothing_more
    differs: dict[str, str] = field(default_factory=dict)


SHARE = r"\d+% \(\d+ of 50\)"
STATES = {
    "no data": State(),
    "one label": State(act=one_answer, differs=ONE),
    "fifty labels": State(
        50,
        act=computed,
        differs={
            "Dataset rows": "50",
            "Rows (disk)": "50",
            "Positives": "25",
            "Negatives": "25",
            "Last labels": r"[+-]1(, [+-]1){4}",
            "Value scorer": r"contrastive \(ok, rows=50\)",
            "Train score": SHARE,
            "Leave-one-out agreement": SHARE,
            "Chance level": r"50% \(25 of 50\)",
            "Predicted values": r"ok|not to be trusted yet: leave-one-out agreement \d+ of 50 \(chance: 25\) is not.*",
            "Last train": r"\d{4}-\d\d-\d\dT.*, \d+ ms",
            "Step scores": r"-?\d+\.\d\d(, -?\d+\.\d\d){7}",
            "Judgements used": r"50 judgements used.*",
            "Advice": r"20 more labels: expected gain .* sigma.*",
            "CV score": rf"CV score: {SHARE}, \d+ folds, computed 20.*",
            "Captions": r"(Item \d • Value: -?\d+\.\d\d\|?){4}",
        },
    ),
    "another dimension": State(
        4,
        dimensions=(512, 256),
        differs={
            "Dataset rows": "4",
            "Rows (disk)": "4",
            "Positives": "2",
            "Negatives": "2",
            "Last labels": r"[+-]1(, [+-]1){3}",
            "Value scorer": r"contrastive \(untrained, rows=.*\)",
            "Last train": r"n/a|\d{4}-\d\d-\d\dT.*, \d+ ms",
            "Judgements used": r".*4 not used \(other dimension\).*",
            "Other dimension": r"Dataset recorded at d=512 \(ignored\); current latent dim d=256",
        },
    ),
    "failed decode": State(
        broken="the decode failed: out of memory",
        act=failing,
        differs={**NO_PICTURES, "Problem": "the decode failed: out of memory"},
    ),
    "disk full": State(
        act=full,
        differs={
            "Last action": r"Not saved\..*",
            "Problem": ".*the disk is full; nothing was stored.*",
        },
    ),
    "decoder gone": State(
        act=gone,
        differs={
            **ONE,
            "Images": "failed",
            "Problem": ".*no decoder answers",
            "Last action": "New pictures",
        },
    ),
}


def read(user: Any) -> dict[str, str]:
    """Every readout as the page shows it."""
    view = stage(user).props["view"]
    return {
        **{name: shown(user, name) for name in ALL},
        **{name: text(user, marker) for name, marker in BESIDE.items()},
        "Captions": "|".join(tile["caption"] for tile in view["tiles"]),
        "Problem": view["problem"],
    }


def test_the_table_has_every_readout_of_the_page() -> None:
    from diptych.studio.pages.prefer import side

    assert [*side.DATA, *side.MODEL, *side.PERSON, *side.PICTURES] == ALL
    assert set(NOTHING) == {*ALL, *BESIDE, "Captions", "Problem"}
    assert all(set(state.differs) <= set(NOTHING) for state in STATES.values())


@pytest.mark.parametrize("name", STATES)
def test_every_readout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    state = STATES[name]
    prepared(tmp_path, state.labels, dimension=state.dimensions[0])
    for dimension in state.dimensions[1:]:
        prepared(tmp_path, 0, dimension=dimension)
    expected = {**NOTHING, **state.differs}

    def wrong(user: Any) -> dict[str, str]:
        return {key: value for key, value in read(user).items() if not re.fullmatch(expected[key], value)}

    async def scenario(user: Any, studio: Studio) -> None:
        with monkeypatch.context() as patch:
            if state.broken:

                def failed(*_: Any) -> Any:
                    raise UnavailableError(state.broken)

                patch.setattr(Synthetic, "_decode", failed)
            await opened(user, state.labels)
            await state.act(user, patch)
            try:
                await eventually(lambda: not wrong(user), seconds=8)
            except AssertionError:
                raise AssertionError(f"{name}: {wrong(user)}") from None

    simulate(tmp_path, scenario)
