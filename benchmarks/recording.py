"""Record time, images and memory of one run. Imports NumPy only, because it also runs in the peers' environment."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STATUS = Path("/proc/self/status")


def marked(epoch: int) -> bool:
    """Whether the image of this epoch is recorded: the first twelve, then every eighth part of the epochs done."""
    if epoch <= 12:
        return True
    mark = 12
    while mark < epoch:
        mark += max(1, mark // 8)
    return mark == epoch


def next_mark(epoch: int) -> int:
    """The first marked epoch after ``epoch``."""
    epoch += 1
    while not marked(epoch):
        epoch += 1
    return epoch


class Recorder:
    """A stopwatch and the images at marked epochs; the clock is stopped while images are written.

    Parameters
    ----------
    folder : Path
        Gets one NPY file per image, and ``record.json``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seconds = 0.0
        self._since: float | None = None
        self.images: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def seconds(self) -> float:
        """Seconds on the clock."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def start(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stop the clock."""
        self._seconds, self._since = self.seconds, None

    def keep(self, epoch: int, image: NDArray[Any], origin: tuple[float, float]) -> None:
        """Write an image (H, W) whose pixel [0, 0] has the coordinate ``origin`` (y, x)."""
        name = f"{len(self.images):05d}.npy"
        np.save(self._folder / name, image.astype(np.complex64, copy=False), allow_pickle=False)
        self.images.append(
            {"epoch": epoch, "seconds": self.seconds, "origin": [float(value) for value in origin], "file": name}
        )

    def write(self, **facts: Any) -> None:
        """Write ``record.json``: the images, and ``facts`` (JSON values)."""
        (self._folder / "record.json").write_text(json.dumps({**facts, "images": self.images}), encoding="utf-8")


def memory_mb(key: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process in MB; NaN on systems that do not report it."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key)), float("nan"))


def forget_peak() -> float:
    """Reset the peak and return the MB in use now; NaN on systems that do not report it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return float("nan")
    return memory_mb("VmRSS")
