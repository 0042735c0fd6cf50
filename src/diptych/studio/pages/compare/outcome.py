"""What is seen: the results side by side, and once they are compared differences, flicker, metrics and curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from diptych.errors import DiptychError
from diptych.studio.components.sliders import Slider
from diptych.studio.components.viewer.element import ImageViewer
from diptych.studio.state.charts import COLOURS, GREY, LEGEND, axis
from diptych.studio.state.compare.compared import Compared, display_name
from diptych.studio.state.compare.page import ComparePage

GRID = "display: grid; gap: 16px; width: 100%; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr))"
THRESHOLDS = ((0.5, "0.5"), (1 / 7, "1/7"))


class Outcome:
    """The lower part of the page, built anew when the choice or the comparison changes.

    Parameters
    ----------
    state : ComparePage
        What is chosen and found, shared by all tabs.
    """

    def __init__(self, state: ComparePage) -> None:
        self.state = state
        self._shown: tuple[Any, ...] = ()
        self.area = ui.column().classes("w-full gap-4")

    def watch(self) -> None:
        """Build the views of what is there now, if that has changed."""
        state = self.state
        try:
            state.collect()
        except DiptychError as error:
            self._problem(str(error))
            return
        now = (tuple(state.files.items()), id(state.compared))
        if now == self._shown:
            return
        self._shown = now
        self.area.clear()
        with self.area:
            if state.compared is not None:
                self._comparison(state.compared)
            elif state.files:
                self._side_by_side(state.keys(), "results")
            else:
                ui.label("Choose results above to see them side by side: they zoom and move together.")

    def _problem(self, text: str) -> None:
        if self._shown == (text,):
            return
        self._shown = (text,)
        self.area.clear()
        with self.area:
            ui.label(text).props("role=alert").classes("text-negative")

    def _side_by_side(self, keys: dict[str, str], group: str, quantity: str = "phase") -> None:
        with ui.element("div").style(GRID):
            for name, key in keys.items():
                ImageViewer(key, title=name, group=f"{group}-{id(self)}", quantity=quantity, height="52vh")

    def _comparison(self, found: Compared) -> None:
        for name, why in found.errors.items():
            ui.label(f"{name} was not compared: {why}").props("role=alert").classes("text-negative")
        views: dict[str, Callable[[], None]] = {
            "Side by side": lambda: self._side_by_side(self.state.aligned_keys(), "aligned"),
            "Difference": lambda: self._differences(found),
            "Flicker": self._flicker,
            "Metrics": lambda: metrics_table(found),
            "Ring correlation": lambda: curves_chart(found),
        }
        with ui.tabs().props("dense no-caps align=left outside-arrows mobile-arrows").classes("w-full") as tabs:
            for name in views:
                ui.tab(name)
        with ui.tab_panels(tabs, value="Side by side", animated=False).classes("w-full bg-transparent"):
            for name, build in views.items():
                with ui.tab_panel(name).classes("p-0"):
                    build()
        self._remarks(found)

    def _differences(self, found: Compared) -> None:
        keys = self.state.difference_keys()
        if not keys:
            ui.label("There are no aligned images to subtract: the results share no area with the reference.")
            return
        ui.label(f"Each result, aligned, minus {display_name(found.reference)}.")
        self._side_by_side(keys, "difference", "phase-difference")

    def _flicker(self) -> None:
        keys = list(self.state.aligned_keys().values())
        if len(keys) < 2:
            ui.label("Flicker needs two aligned images.")
            return
        ui.label("The aligned images in turn, in one place and with one colour range. B shows the next one.")
        with ui.row().classes("items-center gap-4"):
            switch = ui.switch("Flicker", value=False)
            period = Slider(min=200, max=2000, step=100, value=600).classes("w-48")
            period.props('label aria-label="Milliseconds per image"')
            ui.label().bind_text_from(period, "value", lambda value: f"{value} ms per image")
        viewer = ImageViewer(keys, height="60vh")

        def apply() -> None:
            viewer.flicker(int(period.value) if switch.value else 0)

        switch.on_value_change(apply)
        period.on_value_change(apply)

    def _remarks(self, found: Compared) -> None:
        ui.label(f"Reference: {display_name(found.reference)}.")
        for note in found.notes:
            ui.label(note).classes("text-sm")


def metrics_table(found: Compared) -> None:
    """The metrics with what was removed before comparing, and a button that downloads them as CSV."""
    columns = [{"name": "metric", "label": "Metric", "field": "metric", "align": "left"}] + [
        {"name": name, "label": name, "field": name, "align": "right"} for name in found.values
    ]
    table = ui.table(columns=columns, rows=found.rows(), row_key="metric").classes("w-full")
    table.props('dense flat bordered wrap-cells aria-label="Metrics of each result"')
    for name, gauge in found.gauges.items():
        ui.label(f"Gauge of {name}: {gauge}").classes("text-sm")
    button = ui.button("Download CSV", icon="download").mark("download-metrics")
    button.on_click(lambda: ui.download.content(found.to_csv().encode(), "comparison.csv"))


def curves_chart(found: Compared) -> None:
    """The Fourier ring correlations with their thresholds, and a button that downloads them as CSV."""
    if not found.curves:
        ui.label("No ring correlation: the images are flat, or too small.")
        return
    about = "Fourier ring correlation with the reference against spatial frequency, for " + ", ".join(found.curves)
    ui.echart(curves_options(found)).classes("w-full h-96").props(f'role="img" aria-label="{_attribute(about)}"')
    button = ui.button("Download CSV", icon="download").mark("download-curves")
    button.on_click(lambda: ui.download.content(found.curves_csv().encode(), "frc.csv"))


def curves_options(found: Compared) -> dict[str, Any]:
    """The chart of the ring correlations, as options of ECharts."""
    series: list[dict[str, Any]] = [
        {"name": name, "type": "line", "showSymbol": False, "data": [list(p) for p in zip(*curve, strict=True)]}
        for name, curve in found.curves.items()
    ]
    lines = [{"yAxis": value, "label": {"formatter": text, "color": GREY}} for value, text in THRESHOLDS]
    series[0]["markLine"] = {"symbol": "none", "silent": True, "lineStyle": {"color": GREY}, "data": lines}
    return {
        "animation": False,
        "color": list(COLOURS),
        "legend": LEGEND,
        "tooltip": {"trigger": "axis"},
        "grid": {"left": 56, "right": 40, "top": 40, "bottom": 48},
        "xAxis": axis(min=0, name="spatial frequency / Nyquist", nameLocation="middle", nameGap=28),
        "yAxis": axis(max=1, name="correlation"),
        "series": series,
    }


def _attribute(text: str) -> str:
    return text.replace('"', "'").replace("\\", "/")
