"""What trials found about readings of scans, kept from one reconstruction to the next. Imports no torch."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from diptych.ptycho.scan import Scan

if TYPE_CHECKING:
    from diptych.ptycho.engines.flags.faint import Found
    from diptych.ptycho.engines.flags.trials import Verdict
    from diptych.runtime.cpu.parallel import Workers

KEPT = 8
"""Findings that are kept."""

T = TypeVar("T")


class Known:
    """Findings about scans, each made when first asked for.

    They depend on the scan alone, not on how it is reconstructed: who reconstructs one scan many times hands the same
    object to each run, and the trials are made once. Scans are known by their content.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, str], object] = OrderedDict()

    def readings(self, scan: Scan, workers: Workers | None = None) -> Verdict:
        """Which reading of the scan fits best in short trials, several at a time where there are workers."""
        from diptych.ptycho.engines.flags.misfit import try_readings

        return self._once("readings", scan, lambda scan: try_readings(scan, workers))

    def misread(self, scan: Scan, workers: Workers | None = None) -> str:
        """Why its positions must not be refined, or an empty string: see :func:`.moving.misreading`."""
        from diptych.ptycho.engines.flags.moving import misreading

        return self._once("misread", scan, lambda scan: misreading(scan, self.readings(scan, workers)))

    def faint(self, scan: Scan) -> Found:
        """Which reading of a faint scan its held-out pixels prefer."""
        from diptych.ptycho.engines.flags.faint import compare_readings

        return self._once("faint", scan, compare_readings)

    def _once(self, what: str, scan: Scan, find: Callable[[Scan], T]) -> T:
        key = what, digest(scan)
        if key not in self._found:
            self._found[key] = find(scan)
            while len(self._found) > KEPT:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        return self._found[key]  # type: ignore[return-value]


def digest(scan: Scan) -> str:
    """SHA-256 of what trials see of a scan."""
    found = hashlib.sha256()
    for array in (scan.counts, scan.positions, scan.mask, scan.background, scan.probe):
        found.update(b"none" if array is None else repr((array.shape, array.dtype.str)).encode())
        # One pattern at a time: a scan may fill half of the memory.
        for part in () if array is None else array:
            found.update(np.ascontiguousarray(part).data)
    found.update(repr((scan.geometry, scan.scale, scan.probe_calibrated)).encode())
    return found.hexdigest()
