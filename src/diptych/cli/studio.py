"""``studio``: both panels in the browser."""

from __future__ import annotations

from diptych.cli.generate import verb
from diptych.cli.output import Report
from diptych.runtime.option_fields import Choices
from diptych.studio.options import StudioOptions


@verb(StudioOptions)
def studio(*, choices: Choices) -> Report:
    """Open the browser app: reconstruct, train, compare, and teach it what you like."""
    from diptych.studio.server import run

    try:
        run(choices[StudioOptions])
    except KeyboardInterrupt:
        raise KeyboardInterrupt("studio has stopped; every label, and the best state of every run, is saved.") from None
    return Report({"status": "stopped"})
