"""Preference learning: images are proposed and judged, and better ones are proposed.

Everything is loaded on first use; importing this package decodes nothing and loads no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.prefer.judgement import Candidate, Frame, Judgement, Observations
    from diptych.prefer.ledger.ledger import Ledger
    from diptych.prefer.session.session import Session

_MODULES = {
    "Candidate": "diptych.prefer.judgement",
    "Frame": "diptych.prefer.judgement",
    "Judgement": "diptych.prefer.judgement",
    "Ledger": "diptych.prefer.ledger.ledger",
    "Observations": "diptych.prefer.judgement",
    "Session": "diptych.prefer.session.session",
}

__all__ = ["Candidate", "Frame", "Judgement", "Ledger", "Observations", "Session"]


__getattr__, __dir__ = lazy_names(__name__, _MODULES, globals())
