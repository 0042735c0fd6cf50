"""``prefer settings``: the options that a session stores."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, table
from diptych.cli.prefer import Folder, given_options, home_of, logged
from diptych.prefer.options import SessionOptions
from diptych.runtime.option_fields import Choices


@verb(SessionOptions)
@logged
def settings(
    folder: Folder = None,
    /,
    *,
    unset: Annotated[
        list[str] | None,
        Parameter(
            help="Options to forget, such as warm_start; defaults hold again.", negative=(), consume_multiple=True
        ),
    ] = None,
    choices: Choices,
) -> Report:
    """Show the options that a session stores; store those that are given, and forget those of --unset."""
    from diptych.prefer.session.folder import change_settings

    home = home_of(folder, choices)
    # Without a folder, the prompt finds the session, and is not a change.
    given = {name: value for name, value in given_options(choices).items() if folder is not None or name != "prompt"}
    stored = change_settings(home, given, unset or ()).model_dump(mode="json", exclude_unset=True)
    return Report({"session": str(home), "settings": stored}, [table({"session": str(home), **stored})])
