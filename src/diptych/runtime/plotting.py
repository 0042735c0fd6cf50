"""matplotlib, loaded so that a setting of the user's environment cannot stop a run at its last step."""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger("diptych")


def load_matplotlib() -> None:
    """Import matplotlib, without the backend that ``MPLBACKEND`` names where matplotlib does not know it.

    Figures are written to files and never opened in a window, so no backend is needed; a warning names the variable.
    """
    name = os.environ.get("MPLBACKEND")
    if "matplotlib" in sys.modules or not name:
        return
    # Its own import would fail on an unknown name, and leave a half-loaded package that cannot be imported again.
    del os.environ["MPLBACKEND"]
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = name
    try:
        matplotlib.rcParams["backend"] = name
    except ValueError:
        log.warning(
            "MPLBACKEND=%s names no backend of matplotlib, and is ignored; unset it, or use MPLBACKEND=agg", name
        )
