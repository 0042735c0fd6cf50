"""``prefer export`` and ``import``."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, table
from diptych.cli.prefer import Folder, given_options, home_of, logged, open_ledger
from diptych.errors import InputError, to_type
from diptych.prefer.options import SessionOptions
from diptych.runtime.option_fields import Choices

if TYPE_CHECKING:
    from diptych.prefer.exchange.predecessor import Moved
    from diptych.prefer.ledger.ledger import Ledger


@verb(SessionOptions)
@logged
def export(
    folder: Folder = None,
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder to write to.")],
    layout: Annotated[
        Literal["rows", "state", "csv"], Parameter(help="Row folders, one state file, or CSV beside PNG files.")
    ] = "rows",
    choices: Choices,
) -> Report:
    """Write the judgements of a session for other programs."""
    from diptych.prefer.exchange.row_folders import export_rows
    from diptych.prefer.exchange.tables import to_csv
    from diptych.prefer.session.folder import merged, prompt_of, read_settings

    home = home_of(folder, choices)
    options = merged(read_settings(home), given_options(choices))
    with open_ledger(home) as ledger:
        if layout == "csv":
            return Report({"file": str(to_csv(ledger, out))}, [f"wrote {out}"])
        prompt = prompt_of(ledger, options) or ""
        moved = export_rows(ledger, out, prompt) if layout == "rows" else _state(ledger, out, prompt)
    return _report(out, moved)


@verb(SessionOptions)
@logged
def import_(
    folder: Folder = None,
    /,
    *,
    source: Annotated[
        Path, Parameter(name="--from", help="Data root, folder of a prompt, or a latent_state_*.npz file.")
    ],
    anchor: Annotated[
        Literal["prompt"] | None, Parameter(help="Rows that are no latents are differences from the anchor of this.")
    ] = None,
    choices: Choices,
) -> Report:
    """Take rows of another program into a session. A new session stores the options that are given and the length of
    the rows; fits use the rows with --use-legacy.
    """
    from diptych.prefer.exchange.row_folders import import_rows
    from diptych.prefer.exchange.state_file import import_state
    from diptych.prefer.ledger.ledger import Ledger
    from diptych.prefer.session.folder import SETTINGS, merged, read_settings, with_dimension, write_settings

    given = given_options(choices)
    prompt = given.get("prompt")
    if prompt is None:
        raise InputError("import", "no prompt is given", "--prompt with the prompt of the rows")
    if not source.exists():
        raise InputError(f"--from {source}", "does not exist", "a folder or a state file")
    home = home_of(folder, choices)
    new, settings = not (home / SETTINGS).exists(), merged(read_settings(home), given)
    with Ledger.open(home) as ledger:
        take = import_state if source.is_file() else import_rows
        moved = take(ledger, source, prompt, anchor=anchor, dimension=(settings.model_extra or {}).get("dimension"))
    if new:
        write_settings(home, with_dimension(settings, moved.dimension))
    if settings.use_legacy:
        return _report(ledger.folder, moved)
    purpose = "Fits leave imported rows out: pass --use-legacy to use them. To store that"
    note = to_type(purpose, f"diptych prefer settings {shlex.quote(str(home))} --use-legacy")
    return dataclasses.replace(_report(ledger.folder, moved), note=note)


def _state(ledger: Ledger, out: Path, prompt: str) -> Moved:
    """The state file of the dimension and frame that were judged last."""
    from diptych.prefer.exchange.state_file import export_state

    for said in reversed(ledger.judgements()):
        candidate = ledger.candidate(said.judgement.ids[0], image=False)
        if candidate.frame.prompt == prompt:
            out.mkdir(parents=True, exist_ok=True)
            return export_state(ledger, out, candidate.frame, candidate.dimension)[1]
    raise InputError(ledger.folder, f"has no judgements of {prompt!r}", "the prompt of its judgements (--prompt)")


def _report(where: Path, moved: Moved) -> Report:
    data: dict[str, Any] = {"folder": str(where), **dataclasses.asdict(moved)}
    return Report(data, [table({"folder": str(where), "moved": str(moved)})])
