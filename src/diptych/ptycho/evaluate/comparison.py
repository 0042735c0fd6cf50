"""The result of ``compare``: a table with one row per method, curves and aligned images, and how they are saved."""

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
from diptych.ptycho.evaluate.report import Detail, lit_text
from diptych.ptycho.evaluate.resolution import RingCorrelation
from diptych.ptycho.physics.measured import Box
from diptych.runtime.files import replacing, write_text
from diptych.runtime.run_directory import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUTH = "truth"
"""Name of the reference where it is the true object."""

COLUMNS = ("model", "metric", "value", "unit", "convention", "gauge", "reason", "note")
"""Columns of ``comparison.csv``."""

CURVE_COLUMNS = ("model", "frequency", "correlation", "samples")
"""Columns of ``frc.csv``."""

MEASURED = ("seconds", "patterns_per_second", "shift_y_px", "shift_x_px")
"""Numbers of a row that are not metrics: time and the registration offset."""

_UNITS = {"seconds": "s", "patterns_per_second": "1/s", "shift_y_px": "px", "shift_x_px": "px"}
_SHOWN = ("complex_error", "phase_rms_rad", "amplitude_ssim", "phase_ssim", "frc50")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several reconstructions of one scan, evaluated on one area against one reference.

    Parameters
    ----------
    scan : str
        Name of the scan.
    reference : str
        ``"truth"``, or the name of the method that the others are compared with.
    box : (y0, y1, x0, x1)
        Half-open box of object pixel coordinates, the same for all methods.
    rows : list of dict
        One per method, in the order given: ``method``, ``kind``, ``seconds``, ``timed`` (``measured`` here or
        ``recorded`` in the file), ``patterns_per_second``, the registration offset ``shift_y_px`` and ``shift_x_px``,
        ``gauge``, every metric of :func:`diptych.evaluate`, and ``error``, the reason why a method has no numbers.
        Unknown values are None, undefined metrics NaN.
    details : dict of str to dict of str to Detail
        By method and metric: unit, convention, gauge, and the reason where a metric is undefined.
    curves : dict of str to RingCorrelation
        Fourier ring correlation of each result with the reference.
    aligned : dict of str to (H, W) complex64
        The reference (under its name) and the results aligned with it, all on ``box``.
    pixel_m : (float, float), optional
        Object pixel (y, x) in metres, where known.
    notes : tuple of str
        Remarks that affect the interpretation.
    mask : (h, w) bool, optional
        Pixels of the box that count for all methods: those that light reached. None: all do.
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
    mask: NDArray[np.bool_] | None = None

    def __str__(self) -> str:
        return self.table()

    def __getitem__(self, method: str) -> dict[str, Any]:
        """The row of a method."""
        return next(row for row in self.rows if row["method"] == method)

    @property
    def origin(self) -> tuple[int, int]:
        """Coordinate (y, x) of pixel [0, 0] of the aligned images."""
        return self.box[0], self.box[2]

    @property
    def errors(self) -> dict[str, str]:
        """Why methods have no numbers, by method."""
        return {row["method"]: row["error"] for row in self.rows if row["error"] is not None}

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of the columns."""
        return list(dict.fromkeys(name for details in self.details.values() for name in details))

    def table(self) -> str:
        """The main numbers as text, one method per line, then reference, area, gauges, notes and errors."""
        shown = [name for name in _SHOWN if name in self.metrics] or self.metrics[: len(_SHOWN)]
        head = ["method", "seconds", "patterns/s", *shown]
        lines = [
            head,
            *([_cell(row[key]) for key in ("method", "seconds", "patterns_per_second", *shown)] for row in self.rows),
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [f"{line[0]:<{widths[0]}}  " + "  ".join(map(str.rjust, line[1:], widths[1:])) for line in lines]
        y0, y1, x0, x1 = self.box
        text += [
            f"reference: {self.reference}",
            f"area: y {y0}..{y1}, x {x0}..{x1} ({y1 - y0} x {x1 - x0} px), the same for all; {self._counts}",
        ]
        gauges: dict[tuple[str, str], list[str]] = {}
        for method, details in self.details.items():
            for way in dict.fromkeys((detail.convention, detail.gauge) for detail in details.values()):
                gauges.setdefault(way, []).append(method)
        text += [f"gauge, {convention} ({', '.join(names)}): {gauge}" for (convention, gauge), names in gauges.items()]
        return "\n".join(
            [
                *text,
                *(f"note: {note}" for note in self.notes),
                *(f"{method} failed: {why}" for method, why in self.errors.items()),
            ]
        )

    @property
    def lit_share(self) -> float | None:
        """Share of the box that counts; None where it is not known which pixels light reached."""
        return None if self.mask is None else float(self.mask.mean())

    @property
    def _counts(self) -> str:
        return "all of it counts" if self.lit_share is None else f"{lit_text(self.lit_share)} counts"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the images and curves as JSON values; null where a number is unknown or undefined."""
        details = {key: {name: asdict(detail) for name, detail in each.items()} for key, each in self.details.items()}
        found: dict[str, Any] = plain(
            {
                "scan": self.scan,
                "reference": self.reference,
                "box": self.box,
                "lit_share": self.lit_share,
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
        """Write one line per method and number; the columns are ``COLUMNS``."""
        return _text(path, _csv(COLUMNS, self._long()))

    def frc_to_csv(self, path: str | Path) -> Path:
        """Write the ring correlations: method, frequency (fraction of Nyquist), correlation, independent samples."""
        lines = (
            (method, repr(float(f)), repr(float(c)), repr(float(n)))
            for method, curve in self.curves.items()
            for f, c, n in zip(curve.frequency, curve.correlation, curve.samples, strict=True)
        )
        return _text(path, _csv(CURVE_COLUMNS, lines))

    def to_npz(self, path: str | Path) -> Path:
        """Write the aligned complex images under the methods' names, ``origin`` and ``pixel_m`` (NaN where unknown)."""
        from diptych.ptycho.io.files import writing
        from diptych.ptycho.io.source import write_npz

        pixel = np.asarray(self.pixel_m if self.pixel_m is not None else (np.nan, np.nan))
        with writing(Path(path)) as temporary:
            write_npz(temporary, {**self.aligned, "origin": np.asarray(self.origin), "pixel_m": pixel})
        return Path(path)

    def plot(self) -> Figure:
        """Figure of amplitudes, phases and ring correlations; see :func:`diptych.plot`."""
        import diptych

        return diptych.plot(self)

    def save(self, directory: str | Path) -> Path:
        """Write ``comparison.csv``, ``comparison.json``, ``frc.csv``, ``aligned.npz`` and ``comparison.png`` into a
        folder.

        Raises
        ------
        InputError
            If the folder cannot be created.
        """
        folder = Path(directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                folder, f"cannot be used as a folder ({error.strerror})", "", "Name another one."
            ) from None
        self.to_csv(folder / "comparison.csv")
        self.to_json(folder / "comparison.json")
        self.frc_to_csv(folder / "frc.csv")
        self.to_npz(folder / "aligned.npz")
        with replacing(folder / "comparison.png") as temporary:
            self.plot().savefig(temporary, dpi=150)
        return folder

    def _long(self) -> Iterator[tuple[str, ...]]:
        for row in self.rows:
            method = row["method"]
            for name in MEASURED:
                if row[name] is not None:
                    note = row["timed"] if name in MEASURED[:2] else "removed by the alignment"
                    yield method, name, repr(float(row[name])), _UNITS[name], "", "", "", note
            for name, detail in self.details.get(method, {}).items():
                about = (detail.unit, detail.convention, detail.gauge, detail.reason or "", detail.note or "")
                yield method, name, repr(float(row[name])), *about
            if row["error"] is not None:
                yield method, "error", "nan", "", "", "", row["error"], ""


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
    """Write ``text`` to ``path``. Raises InputError when its folder does not exist."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(path, f"the folder {path.parent} does not exist", "", "Create it, or choose another path.")
    write_text(path, text)
    return path
