"""The result of an evaluation: metrics, each with the conventions it was computed under."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from diptych.errors import DiptychError
from diptych.ptycho.physics.measured import Box

if TYPE_CHECKING:
    from diptych.ptycho.evaluate.align import Alignment
    from diptych.ptycho.evaluate.resolution import RingCorrelation


class UndefinedMetricError(DiptychError):
    """A metric is undefined for these images; the message is the reason reported with the NaN."""


@dataclass(frozen=True)
class Detail:
    """The conventions of one metric.

    Parameters
    ----------
    convention : str
        ``"textbook"`` or ``"ptychopinn"``.
    gauge : str
        What was removed before comparing, and why.
    box : (y0, y1, x0, x1)
        Half-open box of object pixel coordinates that was compared.
    lit_share : float, optional
        Share of the box that light reached; only this counts. None: not known, or not asked for; the whole box counts.
    unit : str
        Unit of the value, ``""`` for a pure number.
    data_range : float, optional
        Peak (PSNR) or range (SSIM) that the metric was given.
    reason : str, optional
        Why the value is NaN or infinite.
    note : str, optional
        Remark that affects the interpretation of the value.
    """

    convention: str
    gauge: str
    box: Box
    unit: str = ""
    data_range: float | None = None
    reason: str | None = None
    note: str | None = None
    lit_share: float | None = None

    @property
    def area(self) -> str:
        """The compared area as text: the box, and the share of it that counts."""
        y0, y1, x0, x1 = self.box
        counts = "all of it counts" if self.lit_share is None else f"{lit_text(self.lit_share)} counts"
        return f"y {y0}..{y1}, x {x0}..{x1} ({y1 - y0} x {x1 - x0} px); {counts}"


class Metrics(Mapping[str, float]):
    """A mapping from metric name to value, with the conventions of each in ``details``.

    Parameters
    ----------
    values : mapping of str to float
        NaN where a metric is undefined; ``details[name].reason`` then says why.
    details : mapping of str to Detail
        One for each value.
    alignment : Alignment, optional
        The compared images and the parameters that were removed.
    curves : mapping of str to RingCorrelation, optional
        The Fourier ring correlation curves of the FRC values.
    """

    def __init__(
        self,
        values: Mapping[str, float],
        details: Mapping[str, Detail],
        alignment: Alignment | None = None,
        curves: Mapping[str, RingCorrelation] | None = None,
    ) -> None:
        self._values = dict(values)
        self.details = dict(details)
        self.alignment = alignment
        self.curves = dict(curves or {})

    def __getitem__(self, key: str) -> float:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return "Metrics(" + ", ".join(f"{key}={value:.4g}" for key, value in self.items()) + ")"

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``metrics`` (null where not finite), ``details`` per metric, and ``alignment`` if known."""
        out: dict[str, Any] = {
            "metrics": {key: value if math.isfinite(value) else None for key, value in self.items()},
            "details": {
                key: {k: v for k, v in asdict(detail).items() if v is not None} for key, detail in self.details.items()
            },
        }
        if self.alignment is not None:
            out["alignment"] = self.alignment.to_dict()
        return out

    def to_json(self, indent: int | None = 2) -> str:
        """:meth:`to_dict` as strict JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def table(self) -> str:
        """The values as text, one metric a line, then the gauges, the areas and the reasons of undefined values."""
        width = max((len(key) for key in self), default=0)
        lines, remarks = [], []
        for key, value in self.items():
            detail = self.details[key]
            lines.append(f"{key:<{width}}  {value:>10.4g} {detail.unit if math.isfinite(value) else ''}".rstrip())
            for text in (detail.reason, detail.note):
                if text:
                    remarks.append((text, key))
        for label in ("gauge", "area"):
            seen: dict[str, str] = {}
            for detail in self.details.values():
                seen.setdefault(getattr(detail, label), detail.convention)
            lines += [f"{label} ({convention}): {text}" for text, convention in seen.items()]
        grouped: dict[str, list[str]] = {}
        for text, key in remarks:
            grouped.setdefault(text, []).append(key)
        lines += [f"{', '.join(keys)}: {text}" for text, keys in grouped.items()]
        return "\n".join(lines)


class Collector:
    """Collects metrics that share a convention, a gauge and an area; undefined ones are NaN with a reason.

    Parameters
    ----------
    shared : Detail
        The conventions common to all of them.
    """

    def __init__(self, shared: Detail) -> None:
        self.shared = shared
        self.values: dict[str, float] = {}
        self.details: dict[str, Detail] = {}

    def add(
        self,
        key: str,
        compute: Callable[[], float],
        *,
        unit: str = "",
        data_range: float | None = None,
        note: str | None = None,
    ) -> None:
        """Compute one metric and record it with its conventions."""
        reason = None
        try:
            value = float(compute())
        except UndefinedMetricError as error:
            value, reason = math.nan, str(error)
        if math.isinf(value):
            reason = "the images are identical"
        self.values[key] = value
        self.details[key] = replace(self.shared, unit=unit, data_range=data_range, reason=reason, note=note)

    def remark(self, key: str, note: str) -> None:
        """Add a note to a recorded metric."""
        detail = self.details[key]
        self.details[key] = replace(detail, note=note if detail.note is None else f"{detail.note}; {note}")


def lit_text(share: float) -> str:
    """The share of an area that light reached, as text."""
    return "all of it was illuminated and" if share == 1 else f"the illuminated part, {100 * share:.3g} % of it,"
