"""The values that a job reported so far, for curves."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.runtime.history import read_columns
from diptych.studio.state.charts import COLOURS, LEGEND, axis

if TYPE_CHECKING:
    from diptych.runtime.jobs import Job


class Curve:
    """Fit and held-out fit against the number of reports; filled from the job's thread.

    Parameters
    ----------
    columns : dict of str to list, optional
        Columns of an earlier run.
    """

    def __init__(self, columns: dict[str, list[float]] | None = None) -> None:
        self._lock = threading.Lock()
        self._columns = {name: list(values) for name, values in (columns or {}).items()}
        self._last: Any = None
        self.length = max((len(values) for values in self._columns.values()), default=0)

    def add(self, job: Job) -> None:
        """Note what a job reported; a listener of :meth:`~diptych.runtime.jobs.Job.listen`."""
        report = job.progress
        if report is None or report is self._last or "fit" not in report.values:
            return
        with self._lock:
            self._last = report
            for name in ("fit", "held_out_fit"):
                self._columns.setdefault(name, []).append(float(report.values.get(name, math.nan)))
            self.length += 1

    def chart(self, names: dict[str, str]) -> dict[str, Any]:
        """The curves as options of ECharts; undefined values are left out.

        Parameters
        ----------
        names : dict of str to str
            Columns and how they are called.
        """
        with self._lock:
            series = [
                {
                    "name": label,
                    "type": "line",
                    "symbolSize": 4,
                    "data": [
                        [i + 1, v] for i, v in enumerate(self._columns.get(key, [])) if math.isfinite(v) and v > 0
                    ],
                }
                for key, label in names.items()
            ]
        return {
            "animation": False,
            "color": list(COLOURS),
            "tooltip": {"trigger": "axis"},
            "legend": LEGEND,
            "grid": {"left": 56, "right": 16, "top": 36, "bottom": 40},
            "xAxis": axis(name="epoch", nameLocation="middle", nameGap=24, minInterval=1),
            "yAxis": axis(type="log"),
            "series": series,
        }


def read_history(path: Path) -> dict[str, list[float]]:
    """The numeric columns of a run's ``metrics.csv``; empty where there is none."""
    try:
        return read_columns(path)
    except OSError:
        return {}
