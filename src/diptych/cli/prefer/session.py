"""``prefer best``, ``score``, ``rows`` and ``sessions``: what there is, and how good."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, rows_table, table
from diptych.cli.prefer import Folder, home_of, logged, open_ledger, open_session
from diptych.cli.scans import Overwrite
from diptych.prefer.options import SessionOptions
from diptych.runtime.files import check_output
from diptych.runtime.logging import LOGGER
from diptych.runtime.option_fields import Choices

PERIOD = 1.0
"""Seconds between two counts."""


@verb(SessionOptions)
@logged
def best(
    folder: Folder = None,
    /,
    *,
    out: Annotated[Path, Parameter(help="The .png file to write; it holds the latent, too.")] = Path("best.png"),
    seen: Annotated[bool, Parameter(help="The judged image that is thought best, not a new one.", negative=())] = False,
    safe: Annotated[bool, Parameter(help="The new or judged image of highest lower bound.", negative=())] = False,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Save the best image and print Python code that decodes it again."""
    from diptych.prefer.exchange.pictures import save_picture, snippet

    check_output(out, (".png",), overwrite=overwrite)
    with open_session(folder, choices, create=False) as session:
        session.wait()
        candidate = session.best(seen=seen, safe=safe)
        mean, spread = (float(values[0]) for values in session.score([candidate]))
    save_picture(candidate, out)
    code = snippet(candidate, out)
    data = {
        "file": str(out),
        "value": mean,
        "deviation": spread,
        "seen": bool(candidate.id),
        "id": candidate.id or None,
    }
    return Report({**data, "frame": dataclasses.asdict(candidate.frame), "snippet": code}, [table(data), "", code])


@verb(SessionOptions)
@logged
def score(
    folder: Folder = None,
    /,
    *,
    images: Annotated[
        list[Path] | None, Parameter(help="Also score these saved images.", negative=(), consume_multiple=True)
    ] = None,
    cross_validate: Annotated[
        bool, Parameter(help="Also compute the agreement with held-out judgements.", negative=())
    ] = False,
    choices: Choices,
) -> Report:
    """Fit, and report leave-one-out agreement and the expected gain from more judgements."""
    from diptych.prefer.exchange.pictures import load_picture

    with open_session(folder, choices, create=False) as session:
        session.wait()
        state, scores = session.state, session.scores()
        data: dict[str, Any] = {"scorer": state.scorer, "judgements": state.report, **dataclasses.asdict(scores)}
        if cross_validate:
            data["cross_validation"] = dataclasses.asdict(session.cross_validate())
        saved = [load_picture(path) for path in images or []]
        means, spreads = session.score(saved)
    rows = [
        {"image": str(path), "value": float(mean), "deviation": float(spread)}
        for path, mean, spread in zip(images or [], means, spreads, strict=True)
    ]
    return Report({**data, "images": rows}, [table(data), str(scores), *([rows_table(rows)] if rows else [])])


@verb(SessionOptions)
@logged
def rows(
    folder: Folder = None,
    /,
    *,
    seconds: Annotated[
        float | None, Parameter(help="Stop after this time, s; without it at Ctrl-C. 0: count once.")
    ] = None,
    choices: Choices,
) -> Report:
    """Count the judgements that are on the disk, from whatever process they come."""
    home, began = home_of(folder, choices), time.monotonic()
    with open_ledger(home) as ledger:
        while True:
            count = ledger.rows
            line = f"[rows] live={count} disk={count} disp={count}"
            LOGGER.info(line)
            print(line, flush=True)
            if seconds is not None and time.monotonic() - began + PERIOD > seconds:
                return Report({"session": str(home), "rows": count})
            time.sleep(PERIOD)


@verb()
@logged
def sessions(
    root: Annotated[Path | None, Parameter(help="Folder of sessions; without it $IPO_DATA_ROOT, or data.")] = None,
    /,
    *,
    choices: Choices,
) -> Report:
    """List sessions, the last one used first."""
    from diptych.prefer.exchange.environment import data_root
    from diptych.prefer.session.folder import sessions as find

    found = [dataclasses.asdict(one) for one in find(root)]
    where = root if root is not None else data_root()
    return Report(
        {"root": str(where), "sessions": found}, [rows_table(found) if found else f"{where}: holds no sessions."]
    )
