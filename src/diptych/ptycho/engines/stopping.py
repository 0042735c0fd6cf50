"""When to stop, and which state to keep."""

from __future__ import annotations

import math

WORSE = 1.005
"""A held-out fit this much above the best so far counts as worse; smaller differences are chance."""

WINDOW = 20
"""Epochs over which a gain is looked for, at least."""

LEAST_GAIN = 0.002
"""Share by which the held-out fit must drop within the window."""

MISFIT = 1.3
"""Above this fit, photon noise is no longer what limits the result, and gains below ``LEAST_GAIN`` are not worth
waiting for."""


class StopRule:
    """Follows the held-out fit (the fit itself where nothing is held out) and says when to stop.

    Parameters
    ----------
    patience : int or None
        Epochs in a row with a worse held-out fit after which the engine is taken to be fitting noise. None: the engine
        lowers its loss at every step and tells by itself when it has converged; the window of the held-out fit then
        only counts where the model, not the photons, limits the result.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self.values: list[float] = []
        self.best = math.inf
        self._fit = math.nan
        self._worse = 0

    def keeps(self, value: float, fit: float) -> bool:
        """Take in an epoch's held-out fit and its fit; True when the state is as good as the best so far and should be
        kept.
        """
        self.values.append(value)
        self._fit = fit
        if not math.isfinite(value):
            self._worse += 1
            return False
        self.best = min(self.best, value)
        # An engine that lowers its loss at every step is kept to the end: at low dose its held-out fit soon rises a
        # little with the noise it must take in, while the object's low frequencies, which weigh next to nothing in the
        # fit, still come in.
        self._worse = self._worse + 1 if value > WORSE * self.best and self._patience is not None else 0
        return self._worse == 0

    def reason(self) -> str:
        """Why to stop now, or an empty string."""
        if self._patience is not None and self._worse >= self._patience:
            return f"the held-out fit got worse for {self._patience} epochs: the engine had begun to fit noise"
        window = max(WINDOW, self._patience or 0)
        if len(self.values) <= window:
            return ""
        gained = 1 - min(self.values[-window:]) / min(self.values[:-window])
        if gained < LEAST_GAIN and (self._patience is not None or self._fit > MISFIT):
            return f"the held-out fit dropped by less than {LEAST_GAIN:.1%} in {window} epochs"
        return ""
