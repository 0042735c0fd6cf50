"""What the held-out pixels of trials say for a choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gain:
    """Held-out fits of the trials without and with what was chosen."""

    before: float
    after: float

    @property
    def text(self) -> str:
        """In words."""
        return f"held-out deviance {100 * (self.after / self.before - 1):+.0f} % in trials"
