"""Named sets of reconstruction options; docs/studio.md lists them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A set of options by name.

    Parameters
    ----------
    title : str
        What the page shows.
    use : str
        When to choose it, in one sentence.
    values : dict
        The options that differ from their defaults.
    """

    title: str
    use: str
    values: dict[str, Any] = field(default_factory=dict)


OF_THE_SCAN = ("prepare", "drop", "bad_frames", "auto_mask", "saturated")
"""Options that say what of the scan is used, not how it is reconstructed."""

PRESETS = {
    "standard": Preset("Standard", "Default options: engine, epochs and stopping are chosen automatically."),
    "quick": Preset(
        "Quick look",
        "At most 15 epochs on whole-pixel positions, to see within seconds whether the scan is readable.",
        {"epochs": 15, "subpixel": "round"},
    ),
    "modes": Preset(
        "Several modes", "Three incoherent probe modes: partial coherence, vibration, a fly scan.", {"modes": 3}
    ),
    "low-dose": Preset(
        "Low dose",
        "Maximum likelihood with 5 % of the pixels held out, which stops before noise is fitted.",
        {"engine": "ml", "held_out": 0.05},
    ),
    "drift": Preset(
        "Thick or drifting",
        "As many probe modes as lower the held-out fit, and positions refined where a test confirms that they are "
        "wrong: a stage or sample that drifts, a sample somewhat thicker than the depth of field.",
        {"modes": "auto", "correct_positions": "auto"},
    ),
    "unstable": Preset(
        "Unstable beam",
        "A fitted intensity factor for every frame, and two probe modes.",
        {"engine": "ml", "frame_factors": "on", "modes": 2},
    ),
    "dirty": Preset(
        "Bad pixels", "Hot, stuck and dead pixels that are found in the frames are masked.", {"auto_mask": True}
    ),
}
