"""The gauge: what ptychographic data leave undetermined, and what is therefore removed before comparing."""

from __future__ import annotations

from typing import Literal

from diptych.ptycho.evaluate.options import Gauge
from diptych.ptycho.scan import Canvas, Reconstruction

REMOVED = {
    "full": "global complex scale, phase ramp and shift removed",
    "scale": "global complex scale removed",
    "phase": "global phase removed",
    "none": "nothing removed",
}
"""What each gauge removes, as text."""


def resolve_gauge(gauge: Gauge | Literal["auto"], result: Reconstruction | Canvas) -> tuple[Gauge, str]:
    """Choose the gauge to remove, with a sentence that names it and the reason.

    ``auto`` removes what the data leave free. With a refined probe these are the complex scale, the phase ramp and the
    shift, which probe and object can exchange; with a fixed probe only the global phase.

    Parameters
    ----------
    gauge : {"auto", "full", "scale", "phase", "none"}
        Gauge requested.
    result : Reconstruction or Canvas
        Its recorded options say how the probe was treated.

    Returns
    -------
    (str, str)
        One of the gauges other than ``auto``, and the sentence.
    """
    if gauge != "auto":
        return gauge, f"{REMOVED[gauge]} (as requested)"
    options = result.provenance.get("options") if isinstance(result, Reconstruction) else None
    probe = options.get("probe") if isinstance(options, dict) else None
    if probe == "fixed":
        return "phase", f"{REMOVED['phase']} (the probe was held fixed)"
    why = (
        "the probe was refined" if probe is not None else "the treatment of the probe is not recorded; assumed refined"
    )
    return "full", f"{REMOVED['full']} ({why})"
