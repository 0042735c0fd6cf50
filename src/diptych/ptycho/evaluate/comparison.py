"""What ``compare`` returns: one row of numbers per arm, the curves and the aligned images, and the files they are
written to.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.evaluate.report import Box, Detail
from diptych.ptycho.evaluate.resolution import RingCorrelation
from diptych.runtime.files import write_text
from diptych.runtime.run_directory import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUTH = "truth"
"""What the reference is called where it is the true object."""

COLUMNS = ("model", "metric", "value", "unit", "convention", "gauge", "reason", "note")
"""Columns of ``comparison.csv``."""

CURVE_COLUMNS = ("model", "frequency", "correlation", "samples")
"""Columns of ``frc.csv``."""

MEASURED = ("seconds", "patterns_per_second", "shift_y_px", "shift_x_px")
"""Numbers of a row that are no metrics: time and the registration offset."""

_UNITS = {"seconds": "s", "patterns_per_second": "1/s", "shift_y_px": "px", "shift_x_px": "px"}
_SHOWN = ("complex_error", "phase_rms_rad", "amplitude_ssim", "phase_ssim", "frc50")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several reconstructions of one scan, judged on one area against one reference.

    Parameters
    ----------
    scan : str
        Name of the scan.
    reference : str
        ``"truth"``, or the name of the arm that the others are compared with.
    box : (y0, y1, x0, x1)
        Half-open box of object pixel coordinates, the same for all arms.
    rows : list of dict
        One per arm, in the order given: ``arm``, ``kind``, ``seconds``, ``timed`` (``measured`` here or ``recorded`` in
        the file), ``patterns_per_second``, the registration offset ``shift_y_px`` and ``shift_x_px``, ``gauge``, every
        metric of
        :func:`diptych.evaluate`, and ``error``, why an arm has no numbers. What is not known is None; an undefined
        metric NaN.
    details : dict of str to dict of str to Detail
        By arm and metric: unit, convention, gauge, and the reason where a metric is undefined.
    curves : dict of str to RingCorrelation
        Fourier ring correlation of each arm with the reference.
    aligned : dict of str to (H, W) complex64
        The reference (under its name) and the arms brought onto it, all on ``box``.
    pixel_m : (float, float), optional
        Object pixel (y, x) in metres, where known.
    notes : tuple of str
        What a careful reader should know.
    """

    scan: str
    reference: str
    box: Box
    rows: list[dict[str, Any]]
    details: dict[str, dict[str, Detail]]
    curves: dict[str, RingCorrelation]
    aligned: dict[str, NDArray[np.complex64]]
    pixel_m: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return self.table()

    def __getitem__(self, arm: str) -> dict[str, Any]:
        """The row of an arm."""
        return next(row for row in self.rows if row["arm"] == arm)

    @property
    def origin(self) -> tuple[int, int]:
        """Coordinate (y, x) of pixel [0, 0] of the aligned images."""
        return self.box[0], self.box[2]

    @property
    def errors(self) -> dict[str, str]:
        """Why arms have no numbers, by arm."""
        return {row["arm"]: row["error"] for row in self.rows if row["error"] is not None}

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of the columns."""
        return list(dict.fromkeys(name for details in self.details.values() for name in details))

    def table(self) -> str:
        """The main numbers as text, one arm a line, then reference, area, gauges, notes and errors."""
        shown = [name for name in _SHOWN if name in self.metrics] or self.metrics[: len(_SHOWN)]
        head = ["arm", "seconds", "patterns/s", *shown]
        lines = [
            head,
            *([_cell(row[key]) for key in ("arm", "seconds", "patterns_per_second", *shown)] for row in self.rows),
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [f"{line[0]:<{widths[0]}}  " + "  ".join(map(str.rjust, line[1:], widths[1:])) for line in lines]
        y0, y1, x0, x1 = self.box
        text += [
            f"reference: {self.reference}",
            f"area: y {y0}..{y1}, x {x0}..{x1} ({y1 - y0} x {x1 - x0} px), the same for all",
        ]
        gauges: dict[tuple[str, str], list[str]] = {}
        for arm, details in self.details.items():
            for way in dict.fromkeys((detail.convention, detail.gauge) for detail in details.values()):
                gauges.setdefault(way, []).append(arm)
        text += [f"gauge, {convention} ({', '.join(arms)}): {gauge}" for (convention, gauge), arms in gauges.items()]
        return "\n".join(
            [
                *text,
                *(f"note: {note}" for note in self.notes),
                *(f"{arm} failed: {why}" for arm, why in self.errors.items()),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the images and curves as JSON values; null where a number is unknown or undefined."""
        details = {arm: {name: asdict(detail) for name, detail in each.items()} for arm, each in self.details.items()}
        found: dict[str, Any] = plain(
            {
                "scan": self.scan,
                "reference": self.reference,
                "box": self.box,
                "pixel_m": self.pixel_m,
                "rows": self.rows,
                "details": details,
                "notes": self.notes,
            }
        )
        return found

    def to_json(self, path: str | Path) -> Path:
        """Write :meth:`to_dict` as strict JSON."""
        import json

        return _text(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def to_csv(self, path: str | Path) -> Path:
        """Write one line per arm and number; the columns are ``COLUMNS``."""
        return _text(path, _csv(COLUMNS, self._long()))

    def frc_to_csv(self, path: str | Path) -> Path:
        """Write the ring correlations: arm, frequency (fraction of Nyquist), correlation, independent samples of the
        ring.
        """
        lines = (
            (arm, repr(float(f)), repr(float(c)), repr(float(n)))
            for arm, curve in self.curves.items()
            for f, c, n in zip(curve.frequency, curve.correlation, curve.samples, strict=True)
        )
        return _text(path, _csv(CURVE_COLUMNS, lines))

    def to_npz(self, path: str | Path) -> Path:
        """Write the aligned complex images under the names of the arms, and ``origin`` and ``pixel_m`` (NaN where
        unknown).
        """
        from diptych.ptycho.io.files import writing
        from diptych.ptycho.io.source import write_npz

        pixel = np.asarray(self.pixel_m if self.pixel_m is not None else (np.nan, np.nan))
        with writing(Path(path)) as temporary:
            write_npz(temporary, {**self.aligned, "origin": np.asarray(self.origin), "pixel_m": pixel})
        return Path(path)

    def plot(self) -> Figure:
        """Amplitude and phase of the reference and of each arm on common colours, and the ring correlations."""
        from diptych.ptycho.figures.comparison import plot_arms

        return plot_arms(self)

    def save(self, directory: str | Path) -> Path:
        """Write ``comparison.csv``, ``comparison.json``, ``frc.csv``, ``aligned.npz`` and ``comparison.png`` into a
        folder.

        Raises
        ------
        InputError
            If the folder cannot be made.
        """
        from diptych.ptycho.figures.panels import save_figure

        folder = Path(directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be used as a folder ({error.strerror}); name another one.") from None
        self.to_csv(folder / "comparison.csv")
        self.to_json(folder / "comparison.json")
        self.frc_to_csv(folder / "frc.csv")
        self.to_npz(folder / "aligned.npz")
        save_figure(self.plot(), folder / "comparison.png")
        return folder

    def _long(self) -> Iterator[tuple[str, ...]]:
        for row in self.rows:
            arm = row["arm"]
            for name in MEASURED:
                if row[name] is not None:
                    note = row["timed"] if name in MEASURED[:2] else "removed by the alignment"
                    yield arm, name, repr(float(row[name])), _UNITS[name], "", "", "", note
            for name, detail in self.details.get(arm, {}).items():
                about = (detail.unit, detail.convention, detail.gauge, detail.reason or "", detail.note or "")
                yield arm, name, repr(float(row[name])), *about
            if row["error"] is not None:
                yield arm, "error", "nan", "", "", "", row["error"], ""


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.4g}"
    return "-" if value is None else str(value)


def _csv(columns: tuple[str, ...], lines: Iterator[tuple[str, ...]]) -> str:
    import io

    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return stream.getvalue()


def _text(path: str | Path, text: str) -> Path:
    """Write ``text`` to ``path``. Raises InputError when its folder is not there."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first, or choose another name.")
    write_text(path, text)
    return path
