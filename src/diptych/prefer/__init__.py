"""What the person says: images are proposed, judged, and proposed better.

Everything is loaded on first use; importing this package decodes nothing and loads no weights.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.prefer.judgement import Candidate, Frame, Judgement, Observations
    from diptych.prefer.ledger import Ledger

_HOMES = {
    "Candidate": "diptych.prefer.judgement",
    "Frame": "diptych.prefer.judgement",
    "Judgement": "diptych.prefer.judgement",
    "Ledger": "diptych.prefer.ledger",
    "Observations": "diptych.prefer.judgement",
    "Session": "diptych.prefer.session",
}

__all__ = ["Candidate", "Frame", "Judgement", "Ledger", "Observations", "Session"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'diptych.prefer' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
