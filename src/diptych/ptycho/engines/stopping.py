"""When to stop, and which state to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WORSE = 1.005
"""A held-out fit above the best so far by this factor counts as worse; smaller differences are noise."""

LOST = 1.5
"""An engine that detects convergence itself has left the solution where its held-out fit is this many times the best.
Measured: wrong positions at 5e7 photons made it 2.6 times the best. Fitting noise raises it too, but far less; how
much depends on the dose."""

WINDOW = 20
"""Least number of epochs over which a gain is measured."""

LEAST_GAIN = 0.002
"""Relative drop of the held-out fit within the window, below which a run stops."""

MISFIT = 1.3
"""Above this fit something other than photon noise limits the result, and gains below ``LEAST_GAIN`` end the run."""

DESCENDING = 0.25
"""Relative drop of the loss (mean half deviance) within the window above which an engine that detects convergence
itself goes on, even where the held-out fit does not drop: it is far from any minimum. The held-out pixels are few, and
on the way their fit may wander for 40 epochs (raster at 1e8 and 1e9 photons, unknown probe)."""

STILL_DESCENDING = 0.01
"""The same where there are many photons, and noise is hardly fitted. Blocks on a raster with an unknown probe, 1e7 to
1e9 photons: the loss still fell by 2 to 14 % in 20 epochs where the run ended at 1.4 to 30 times the photon limit."""

STALLED_LEVEL, STALLED_WINDOW, STALLED_GAIN, STALLED_DESCENT = 1.07, 5, 0.002, 0.01
"""Where more probe modes or refined positions leave the mean of fit and held-out fit above the first, and so many
epochs lower the held-out fit by less than the third, and the fit by less than the last, what is missing is of another
kind. Means over so many epochs are compared: the held-out fit of a measured star goes up and down by 0.5 %."""


def stalled(held_out: Sequence[float], fits: Sequence[float], pixels: int) -> str:
    """Why to stop after more modes were added, or positions refined; an empty string as long as that still gains.

    Parameters
    ----------
    held_out, fits : sequence of float
        Held-out fit and fit after each epoch since then.
    pixels : int
        How many pixels are held out: the fewer, the less certain is it that the model misfits.
    """
    if len(held_out) < 2 * STALLED_WINDOW:
        return ""
    # Two standard errors of the mean of fit and held-out fit: that of a mean deviance of n pixels is sqrt(2 / n).
    if not (fits[-1] + held_out[-1]) / 2 > STALLED_LEVEL + math.sqrt(2 / max(pixels, 1)):
        return ""
    if _drop(held_out) > STALLED_GAIN or _drop(fits) > STALLED_DESCENT:
        return ""
    return f"the held-out fit dropped by less than {STALLED_GAIN:.1%} in {STALLED_WINDOW} epochs"


def _drop(values: Sequence[float]) -> float:
    """Relative drop from the mean of the last window but one to that of the last."""
    return 1 - sum(values[-STALLED_WINDOW:]) / sum(values[-2 * STALLED_WINDOW : -STALLED_WINDOW])


STAGNATED_FIT = 3.0
"""PIE has stagnated when it ends above this fit and above the excess below."""

STAGNATED_EXCESS = 2e-3
"""Deviance above that of shot noise, per photon: about 1e-4 where PIE still converges, 7e-3 and more where it
stagnated."""

REFINEMENT_LEAST = 4
"""Epochs of PIE from a network's image before it can count as slow."""

REFINEMENT_QUICK, REFINEMENT_SLOW = 0.5, 0.9
"""It goes on while two epochs bring the held-out fit below the second share; near the solution only while one brings it
below the first."""


def stagnated(report: Mapping[str, float]) -> bool:
    """Whether PIE that ends with this ``fit`` and ``excess`` is in a local minimum."""
    return not (report["fit"] <= STAGNATED_FIT or report["excess"] <= STAGNATED_EXCESS)


def refinement_gains(fits: Sequence[float], near: bool) -> bool:
    """Whether PIE that corrects a network's image still gains quickly.

    Parameters
    ----------
    fits : sequence of float
        Held-out fit after each epoch.
    near : bool
        Whether the image fits nearly.
    """
    done = len(fits)
    quick = not near or done < 2 or fits[-1] < REFINEMENT_QUICK * fits[-2]
    return quick and (done < REFINEMENT_LEAST or fits[-1] < REFINEMENT_SLOW * fits[-3])


class StopRule:
    """Decides from the held-out fit (the fit itself where nothing is held out) when to stop.

    Parameters
    ----------
    patience : int or None
        Consecutive epochs with a worse held-out fit after which the engine is considered to fit noise. None: the engine
        lowers its loss at every step and detects convergence itself; the gain within the window then only counts where
        the model, not photon noise, limits the result.
    many_photons : bool
        Whether there are so many photons in a pattern that noise is hardly fitted, and convergence takes long.
    """

    def __init__(self, patience: int | None, many_photons: bool = False) -> None:
        self._patience = patience
        self._descending = STILL_DESCENDING if many_photons else DESCENDING
        self.values: list[float] = []
        self.best = math.inf
        self._fit = math.nan
        self._losses: list[float] = []
        self._worse = 0

    def keeps(self, value: float, fit: float, loss: float = math.nan) -> bool:
        """Add an epoch's held-out fit, fit and loss (NaN where the engine computes none).

        True when its state is as good as the best so far and should be kept.
        """
        self.values.append(value)
        self._fit = fit
        self._losses.append(loss)
        if not math.isfinite(value):
            self._worse += 1
            return False
        self.best = min(self.best, value)
        if self._patience is None:
            # The last state is kept, unless it is far worse than the best: at low dose the held-out fit soon rises
            # slightly with the noise that is fitted, while the object's low frequencies, which hardly affect the fit,
            # still converge. Where the model, not noise, limits the fit, both only wander about the best.
            return value <= (self.best if fit > STALLED_LEVEL else LOST * self.best)
        self._worse = self._worse + 1 if value > WORSE * self.best else 0
        return self._worse == 0

    def reason(self) -> str:
        """Why to stop now, or an empty string."""
        if self._patience is not None and self._worse >= self._patience:
            return f"the held-out fit got worse for {self._patience} epochs: the engine began to fit noise"
        window = max(WINDOW, self._patience or 0)
        if len(self.values) <= window:
            return ""
        gained = 1 - min(self.values[-window:]) / min(self.values[:-window])
        if gained < LEAST_GAIN and (self._patience is not None or self._misfits(window)):
            return f"the held-out fit dropped by less than {LEAST_GAIN:.1%} in {window} epochs"
        return ""

    def _misfits(self, window: int) -> bool:
        """Whether the model, not photon noise, limits the fit: it is high, and the loss no longer falls quickly."""
        now, before = self._losses[-1], self._losses[-1 - window]
        return self._fit > MISFIT and not now < (1 - self._descending) * before
