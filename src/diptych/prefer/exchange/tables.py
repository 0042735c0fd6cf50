"""The judgements of a ledger as a table: CSV beside PNG files, or a pandas DataFrame."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from diptych.errors import UnavailableError
from diptych.prefer.ledger.files import storing
from diptych.prefer.ledger.ledger import Ledger
from diptych.runtime.files import replacing

COLUMNS = (
    *(
        "position",
        "time",
        "counts",
        "kind",
        "value",
        "weight",
        "source",
        "screen",
        "role",
        "candidate",
        "slot",
        "dimension",
    ),
    *(
        "prompt",
        "negative_prompt",
        "model",
        "width",
        "height",
        "steps",
        "guidance",
        "scheduler",
        "seed",
        "frame",
        "image",
        "provenance",
    ),
)
"""One line per judged candidate. ``role`` is 0 for the one rated, the winner or the best, and 1, 2, ... for the others;
``counts`` is false for judgements that were undone."""


def records(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Lines of the table in ledger order, including judgements that were undone."""
    undone = {event.target for event in ledger.events() if event.kind == "undo"}
    for event in ledger.events():
        said = event.judgement
        if said is None:
            continue
        about = {
            "position": event.position,
            "time": event.time,
            "counts": event.position not in undone,
            "kind": said.kind,
        }
        about |= {"value": said.value, "weight": said.weight, "source": event.source, "screen": event.screen}
        for role, name in enumerate(said.ids):
            candidate = ledger.candidate(name, image=False)
            image = ledger.image_file(name)
            frame = {column: getattr(candidate.frame, column) for column in COLUMNS if hasattr(candidate.frame, column)}
            shown = {"role": role, "candidate": name, "slot": candidate.slot, "dimension": candidate.dimension}
            last = {
                "frame": candidate.frame.key,
                "image": image.name if image else "",
                "provenance": json.dumps(dict(candidate.provenance)),
            }
            yield {**about, **shown, **frame, **last}


def to_csv(ledger: Ledger, folder: str | Path) -> Path:
    """Write ``judgements.csv`` and the PNG files that its column ``image`` names.

    Raises
    ------
    UnavailableError
        If the folder cannot be written, or the disk is full.
    """
    target = Path(folder)
    path = target / "judgements.csv"
    with storing(target):
        target.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for record in records(ledger):
                writer.writerow(record)
                source = ledger.image_file(record["candidate"])
                if source and not (target / source.name).exists():
                    with replacing(target / source.name) as copy:
                        shutil.copyfile(source, copy)
    return path


def to_dataframe(ledger: Ledger) -> Any:
    """The table as a pandas DataFrame.

    Raises
    ------
    UnavailableError
        If pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise UnavailableError(
            "a DataFrame needs pandas, which is not installed. Run 'pip install pandas', or export CSV."
        ) from None
    return pandas.DataFrame.from_records(list(records(ledger)), columns=list(COLUMNS))
