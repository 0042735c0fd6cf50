"""Factors of each pattern's intensity, for a beam whose intensity varies between frames.

The expected counts of pattern m are ``f_m I_m + b``. For given object and probe the Poisson likelihood is largest at
``f = sum(k - b) / sum(I)`` over fitted pixels (exactly so without a background), so no engine iterates on factors:
they are eliminated (variable projection: Golub and Pereyra, Inverse Problems 19, R1, 2003). By the envelope theorem
the gradient in object and probe is that at fixed factors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST, MOST = 1e-3, 1e3
"""Bounds of a factor: an empty frame has none."""

SPREAD = (0.01, 0.02)
"""A beam varies where its intensity does by more than the second of these beyond counting noise; by more than the first
where that is :data:`CLEAR` times the noise."""

CLEAR = 6.0
"""See :data:`SPREAD`. Measured on scans without fault whose object is not yet found: 1.3 % at 1e4 photons (noise 1 %),
1.3 % at 1e5 and 0.5 % at 1e6 with Gaussian probes; intensities within 5 % (2.9 % rms) spread by 2.8 to 3.4 %."""


def beam_varies(spread: float, noise: float) -> bool:
    """Whether a relative ``spread`` of the patterns' intensities, beyond counting noise, is that of a beam.

    Parameters
    ----------
    spread : float
        Standard deviation over mean, counting noise subtracted.
    noise : float
        Relative counting noise (rms) of a pattern's total: one over the root of its photons.
    """
    return spread > max(SPREAD[0], min(SPREAD[1], CLEAR * noise))


class FrameFactors:
    """The factors of a scan, (M,), whether they are fitted, and the held-out fit that was reached without them.

    Parameters
    ----------
    patterns : int
        M.
    """

    def __init__(self, patterns: int, dtype: torch.dtype, device: torch.device) -> None:
        self.values = torch.ones(patterns, dtype=dtype, device=device)
        self.fitted = False
        self.fit_before = math.nan
        self.on_trial = False

    def of(self, index: Tensor) -> Tensor | None:
        """Factors (B, 1, 1) of some patterns (B,); None where they are not fitted."""
        return self.values[index, None, None] if self.fitted else None

    def fit(
        self, index: Tensor, counts: Tensor, intensity: Tensor, background: Tensor | None, valid: Tensor | None
    ) -> Tensor:
        """Fit and return the factors (B, 1, 1) of some patterns.

        Parameters
        ----------
        index : (B,) int64 tensor
            Which patterns.
        counts, intensity : (B, N, N) tensors
            Measured counts, and the predicted ones at factor 1 without background.
        background : (N, N) tensor or None
            Expected background.
        valid : (B, N, N) real tensor, optional
            1 at fitted pixels, else 0. None: all are fitted.
        """
        signal = counts if background is None else counts - background
        if valid is not None:
            signal, intensity = signal * valid, intensity * valid
        found = signal.sum((1, 2)) / intensity.sum((1, 2)).clamp(min=1e-30)
        self.values[index] = found.clamp(LEAST, MOST)
        return self.values[index, None, None]

    def spread(self) -> float:
        """Standard deviation over mean."""
        values = self.values.double()
        return float(values.std(correction=0) / values.mean())

    def vary(self, photons: float) -> bool:
        """Whether factors at an object that was fitted without them tell of a beam that varies, at ``photons`` in a
        pattern on average. Fitted together, a smooth variation over the scan is also the object's.
        """
        noise = 1 / math.sqrt(max(photons, 1e-30))
        return beam_varies(math.sqrt(max(self.spread() ** 2 - noise**2, 0.0)), noise)

    def given_up(self, photons: float) -> bool:
        """Switch off factors that the engine had switched on and that do not :meth:`vary`; whether it was done."""
        done = self.fitted and math.isfinite(self.fit_before) and not self.vary(photons)
        if done:
            self.fitted = False
        return done

    def flag(self, held_out_fit: float, photons: float, wrong_reading: bool = False) -> tuple[str, ...]:
        """What a result says of them, with its held-out fit, at ``photons`` in a pattern on average; nothing where they
        were not fitted, or were switched on by the engine and ended near 1 within photon noise.

        Where the reading of the scan is wrong, factors that the engine switched on explain a part of that: they are no
        evidence of a varying beam (frames of fine lines in random order: 8 % at a constant beam).
        """
        asked = not math.isfinite(self.fit_before)
        if not self.fitted or not (asked or wrong_reading or self.vary(photons)):
            return ()
        if wrong_reading and not asked:
            return ("a factor per frame was fitted; it says nothing about the beam before the reading is right.",)
        text = f"beam intensity: varies by {self.spread():.1%} (rms) from frame to frame; a factor per frame was fitted"
        if not asked:
            text += f", held-out fit {self.fit_before:.2f} -> {held_out_fit:.2f}"
        return (text + ". frame_factors='off' (--frame-factors off) turns it off.",)
