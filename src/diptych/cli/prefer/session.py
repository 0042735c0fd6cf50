"""``prefer best``, ``score``, ``rows`` and ``sessions``: what there is, and how good."""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, Verbatim, rows_table, steps, table
from diptych.cli.prefer import Folder, home_of, logged, open_ledger, opened_session
from diptych.cli.scans import Overwrite
from diptych.prefer.options import SessionOptions, without_effect
from diptych.runtime.files import check_output, write_text
from diptych.runtime.logging import LOGGER
from diptych.runtime.option_fields import Choices

if TYPE_CHECKING:
    from diptych.prefer.judgement import Candidate
    from diptych.prefer.session.session import Session

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
    """Save the best image. Print Python code that decodes it again, or, of a reconstruction, its settings as YAML for
    `diptych reconstruct --config`, which are also written beside the image.
    """
    from diptych.prefer.decoders.protocols import config_of, measured_text
    from diptych.prefer.exchange.pictures import save_picture, snippet
    from diptych.prefer.session.scoring import underfitted
    from diptych.prefer.session.state import DOUBT

    check_output(out, (".png",), overwrite=True)
    open_ledger(home_of(folder, choices)).close()  # a session that is not there is said before a file that is
    check_output(out, (".png",), overwrite=overwrite)
    with opened_session(folder, choices, create=False) as (session, status), status.doing("making the best image"):
        session.wait()
        doubt, scan = session.scores().doubt, (session.options.model_extra or {}).get("scan") or "SCAN"
        candidate = session.best(seen=seen, safe=safe)
        mean, spread = (float(values[0]) for values in session.score([candidate]))
        home, settings = session.ledger.folder, config_of(session.decoder, candidate.latent)
        smooth = underfitted(session.ledger, candidate)
    save_picture(candidate, out)
    written = write_settings_file(settings, out.with_suffix(".yaml"), overwrite=overwrite) if settings else None
    code = _as_yaml(written, settings) if written else snippet(candidate, out, home)
    data = {
        "file": str(out),
        "value": mean,
        "deviation": spread,
        "seen": bool(candidate.id),
        "id": candidate.id or None,
    }
    more = {"settings": settings, "settings_file": str(written)} if written else {}
    frame = dataclasses.asdict(candidate.frame)
    use = _how_to_use(written, str(scan))
    which = (
        f"image {candidate.id}, which was judged"
        if candidate.id
        else "a new one; --seen chooses among those you have judged"
    )
    told = {"file": str(out), "image": which, "value": f"{mean:.2f}, standard deviation {spread:.2f}"}
    told |= {"fit": fits.removeprefix("fit ")} if (fits := measured_text(candidate)) else {}
    note = "\n".join([*filter(None, (smooth, doubt and f"{DOUBT}: {doubt}")), ""])
    return Report({**data, **more, "frame": frame, "snippet": code}, [table(told), note, use, "", Verbatim(code)])


def write_settings_file(settings: dict[str, Any], path: Path, *, overwrite: bool) -> Path:
    """Write settings as YAML; returns the file."""
    import yaml

    from diptych.prefer.ledger.files import storing

    check_output(path, (".yaml",), overwrite=overwrite)
    with storing(path):
        write_text(path, yaml.safe_dump(settings, sort_keys=False))
    return path


def _as_yaml(file: Path, settings: dict[str, Any]) -> str:
    """The settings as YAML, below the name of their file."""
    import yaml

    return f"# {file}\n{yaml.safe_dump(settings, sort_keys=False).rstrip()}"


def _how_to_use(settings: Path | None, scan: str) -> Verbatim:
    """The command that takes the settings, or, of an image, what the code is for."""
    if settings is None:
        return Verbatim("Python code that makes the image again:")
    command = shlex.join(["diptych", "reconstruct", scan, "--config", str(settings)])
    return steps(("To reconstruct with these settings", command))


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

    with opened_session(folder, choices, create=False) as (session, status), status.doing("fitting"):
        session.wait()
        state, scores = session.state, session.scores()
        data: dict[str, Any] = {"scorer": state.scorer, "judgements": state.report, **dataclasses.asdict(scores)}
        told = {"model": state.scorer, "judgements": state.report, "reach": f"{scores.reach:.2f} sigma"}
        if cross_validate:
            validated = session.cross_validate()
            data["cross_validation"] = dataclasses.asdict(validated)
            told["cross-validation"] = f"{validated.agreement}, {validated.folds} folds"
        rows = [scored(session, path, load_picture(path)) for path in images or []]
    return Report({**data, "images": rows}, [table(told), str(scores), *([rows_table(rows)] if rows else [])])


def scored(session: Session, path: Path, picture: Candidate) -> dict[str, Any]:
    """The value of a saved image, or why it has none: the utility of the images of one model says nothing about those
    of another.
    """
    ours, other = session.frame, picture.frame
    different = [f"{name} {getattr(other, name)!r}, not {getattr(ours, name)!r}" for name in other.differences(ours)]
    if picture.dimension != session.dimension:
        different.append(f"dimension {picture.dimension}, not {session.dimension}")
    if different:
        why = f"not of this session: {'; '.join(different)}"
        return {"image": str(path), "value": math.nan, "deviation": math.nan, "note": why}
    mean, spread = session.score([picture])
    return {"image": str(path), "value": float(mean[0]), "deviation": float(spread[0]), "note": ""}


@verb(SessionOptions, without=without_effect("prompt"))
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
            count, skips = ledger.rows, ledger.skips
            line = f"[rows] live={count} disk={count} disp={count}" + (f" skips={skips}" if skips else "")
            LOGGER.info(line)
            print(line, flush=True)
            if seconds is not None and time.monotonic() - began + PERIOD > seconds:
                return Report({"session": str(home), "rows": count, "skips": skips})
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
    listed = [{"judgements" if name == "rows" else name: value for name, value in one.items()} for one in found]
    for one in listed:
        one["judgements"] -= one["skips"]
    return Report(
        {"root": str(where), "sessions": found}, [rows_table(listed) if found else f"{where}: holds no sessions."]
    )
