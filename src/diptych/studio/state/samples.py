"""Pictures of the home page: what goes into each panel, and what comes out; made here when they are first asked for."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from diptych.studio.components.viewer.palettes import palette
from diptych.studio.state.reconstruct.look import log_png, png

NAMES = ("pattern", "object", "judged-0", "judged-1", "judged-2", "judged-3")


@lru_cache(maxsize=len(NAMES))
def sample(name: str) -> bytes | None:
    """A picture (PNG) of :data:`NAMES`; None for another name."""
    if name in ("pattern", "object"):
        return _scan(name)
    if name in NAMES:
        return _judged(int(name.rpartition("-")[2]))
    return None


def _scan(name: str) -> bytes:
    """One pattern of a simulated scan, or the phase of its true object around it."""
    from diptych.ptycho.simulate import simulate

    scan = simulate(object="natural", probe="zone-plate", size=64, step=8.0, patterns=4, dose=1e6, seed=0)
    if name == "pattern":
        return log_png(scan.counts[0], None)
    assert scan.truth is not None
    phase = np.angle(scan.truth.values)
    low, high = phase.min(), phase.max()
    shade = (phase - low) / max(float(high - low), 1e-12)
    return png(palette("viridis")[(shade * 253).astype(np.uint8) + 2])


def _judged(number: int) -> bytes:
    """A picture of the synthetic decoder."""
    from diptych.prefer.decoders.synthetic import Synthetic

    decoder = Synthetic(256)
    latent = np.random.default_rng(number).standard_normal(256).astype(np.float32)
    return png(decoder.decode(latent * np.float32(16 / np.linalg.norm(latent))))
