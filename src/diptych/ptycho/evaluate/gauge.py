"""What ptychographic data leave undetermined, and hence what a comparison may remove."""

from __future__ import annotations

from typing import Literal

from diptych.ptycho.evaluate.options import Gauge
from diptych.ptycho.scan import Canvas, Reconstruction

_REMOVED = {
    "full": "global complex scale, phase ramp and shift removed",
    "scale": "global complex scale removed",
    "phase": "global phase removed",
    "none": "nothing removed",
}


def resolve_gauge(gauge: Gauge | Literal["auto"], result: Reconstruction | Canvas) -> tuple[Gauge, str]:
    """The gauge to remove, and a sentence that says what and why.

    ``auto`` removes what the data leave free: with the probe refined its scale, ramp and shift trade against the
    object's; with the probe fixed only the global phase is free.
    """
    if gauge != "auto":
        return gauge, f"{_REMOVED[gauge]} (as asked)"
    options = result.provenance.get("options") if isinstance(result, Reconstruction) else None
    probe = options.get("probe") if isinstance(options, dict) else None
    if probe == "fixed":
        return "phase", f"{_REMOVED['phase']} (the probe was held fixed)"
    why = "the probe was refined" if probe is not None else "nothing says how the probe was treated; taken as refined"
    return "full", f"{_REMOVED['full']} ({why})"
