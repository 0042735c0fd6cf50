"""What all charts share: colours that the colour-blind tell apart, and grey that can be read on white and on black."""

from __future__ import annotations

from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito."""

GREY = "#7a7a7a"
"""4.3 to 1 against white, 4.4 to 1 against the dark page."""

LEGEND: dict[str, Any] = {"top": 0, "textStyle": {"color": GREY}}


def axis(**more: Any) -> dict[str, Any]:
    """An axis of ECharts of type ``value``, with more options laid over."""
    return {
        "type": "value",
        "axisLabel": {"color": GREY},
        "nameTextStyle": {"color": GREY},
        "axisLine": {"lineStyle": {"color": GREY}},
        "splitLine": {"lineStyle": {"color": "rgba(128, 128, 128, 0.25)"}},
        **more,
    }
