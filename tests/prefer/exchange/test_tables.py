"""The judgements as a table."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from diptych.errors import UnavailableError
from diptych.prefer.exchange.tables import COLUMNS, records, to_csv, to_dataframe
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger

FRAME = Frame('a "lake",\nat dusk', model="tiny", width=8, height=8, steps=4, guidance=1.5)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger.open(tmp_path / "session")
    image = np.full((4, 4, 3), 9, dtype=np.uint8)
    a, b = ledger.show(
        [Candidate(np.ones(8), FRAME, image, provenance={"proposal": "line"}), Candidate(np.zeros(8) + 2, FRAME)]
    )
    for said in (Judgement.pair(b, a, 0.5), Judgement.stars(a, 4), Judgement.rate(b, True)):
        ledger.judge(said)
    ledger.undo()
    return ledger


def test_csv_has_a_line_per_judged_candidate_and_its_image(ledger: Ledger, tmp_path: Path) -> None:
    path = to_csv(ledger, tmp_path / "out")
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["kind"], line["role"], line["candidate"], line["value"], line["counts"]) for line in lines] == [
        ("pair", "0", "000001-1", "0", "True"),
        ("pair", "1", "000001-0", "0", "True"),
        ("stars", "0", "000001-0", "4", "True"),
        ("rate", "0", "000001-1", "1", "False"),
    ]
    assert lines[0]["prompt"] == FRAME.prompt
    assert (lines[0]["weight"], lines[0]["image"], lines[1]["guidance"]) == ("0.5", "", "1.5")
    assert json.loads(lines[1]["provenance"]) == {"proposal": "line"}
    assert np.all(np.asarray(Image.open(tmp_path / "out" / lines[1]["image"])) == 9)
    assert to_csv(ledger, tmp_path / "out").read_bytes() == path.read_bytes()


def test_a_dataframe_has_the_same_lines_or_says_what_is_missing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UnavailableError, match=r"needs pandas, which is not installed\. Run 'pip install pandas'"):
        to_dataframe(ledger)
    given: dict[str, object] = {}
    frame = SimpleNamespace(from_records=lambda rows, columns: given.update(rows=rows, columns=columns) or "frame")
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=frame))
    assert to_dataframe(ledger) == "frame"
    assert given == {"rows": list(records(ledger)), "columns": list(COLUMNS)}
