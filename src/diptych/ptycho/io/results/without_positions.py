"""Results of other programs that leave something out: what is missing is said in the flags."""

from __future__ import annotations

from dataclasses import replace

from diptych.ptycho.scan import Reconstruction


def flagged(result: Reconstruction, notes: tuple[str, ...] = ()) -> Reconstruction:
    """``result`` with ``notes`` among its flags, and with one that says so where it has no positions."""
    missing = () if len(result.positions) else ("the file holds no positions: only the image and the probe are known",)
    return replace(result, flags=(*result.flags, *notes, *missing))
