"""A reconstruction under way: progress, fit and held-out fit, object and probe."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from nicegui import ui
from numpy.typing import NDArray

from diptych.studio.components.logs import show_log
from diptych.studio.components.viewer.palettes import indices, palette
from diptych.studio.state.reconstruct.page import ReconstructPage

FITS = {"fit": "fit", "held_out_fit": "held-out fit"}
IMAGES = {"phase": "Phase", "amplitude": "Amplitude", "probe": "Probe"}


class Watching:
    """The part of the page about the run.

    Parameters
    ----------
    state : ReconstructPage
        The run, shared by all tabs.
    """

    def __init__(self, state: ReconstructPage) -> None:
        self.state = state
        self._length, self._curve, self._preview = -1, 0, 0
        with ui.row().classes("items-center gap-3"):
            self.status = ui.label().props("role=status").mark("run-status")
            self.other = ui.label().classes("text-sm").mark("run-of")
            self.log = ui.button("Log", on_click=self._log).props("outline dense no-caps")
        self.progress = ui.linear_progress(0, show_value=False).props('aria-label="Progress of the reconstruction"')
        with ui.row().classes("w-full gap-4 items-start") as self.views:
            self.images: dict[str, ui.element] = {}
            self.columns: dict[str, ui.column] = {}
            for name, title in IMAGES.items():
                with ui.column().classes("grow basis-[200px] max-w-[360px] gap-1") as column:
                    ui.label(title).classes("text-sm")
                    self.images[name] = ui.element("img").classes("w-full").props(f'alt="{title} so far"')
                    self.images[name].style("image-rendering: pixelated")
                column.set_visibility(False)
                self.columns[name] = column
            with ui.column().classes("grow basis-[320px] min-w-0 gap-1"):
                ui.label("Fit in each epoch, on a sample of the pixels (1: explained down to photon noise)").classes(
                    "text-sm"
                )
                self.chart = ui.echart(state.curve.chart(FITS)).classes("w-full h-64")
                self.chart.props('role="img" aria-label="Fit and held-out fit against epoch"')

    def watch(self) -> None:
        """Show what there is now."""
        state, job, curve = self.state, self.state.job, self.state.curve
        self.status.set_text(status_text(state))
        other = state.of_another_scan
        self.other.set_text(f"This run is of {other}, not of the scan above." if other else "")
        self.other.set_visibility(bool(other))
        self.log.set_visibility(state.run is not None)
        self.progress.set_visibility(state.running)
        report = job.progress if job is not None else None
        self.progress.set_value(report.done / report.total if report is not None and report.total else 0)
        self.views.set_visibility(job is not None or curve.length > 0)
        if (id(curve), curve.length) != (self._curve, self._length):
            self._curve, self._length = id(curve), curve.length
            self.chart.options.clear()
            self.chart.options.update(curve.chart(FITS))
            self.chart.update()
        preview = job.preview if job is not None else {}
        if preview and id(preview) != self._preview:
            self._preview = id(preview)
            for name, values in preview.items():
                if name in self.images:
                    self.images[name].props["src"] = preview_picture(values)
        for column in self.columns.values():  # The result below takes their place.
            column.set_visibility(bool(preview) and state.result is None)

    def _log(self) -> None:
        if self.state.run is not None:
            show_log(self.state.run)


def status_text(state: ReconstructPage) -> str:
    """One line about the run: how far it is, or how it ended."""
    job = state.job
    if job is None:
        return "" if state.run is None else f"Showing the earlier run {state.studio.folders.shown(state.run)}."
    if job.state == "queued":
        return "Waiting for the job before this one."
    if job.state == "failed":
        return f"The run failed: {job.error}"
    found = job.result or {}
    if job.state == "cancelled":
        return (
            "Stopped. The best state so far is saved; Resume continues it."
            if found
            else "Stopped before the first epoch."
        )
    if job.state == "done":
        return (
            f"Done after {found.get('epochs')} epochs, {found.get('seconds')} s: fit {_number(found.get('fit'))}, "
            f"held-out fit {_number(found.get('held_out_fit'))}. {found.get('stop_reason') or ''}"
        )
    report = job.progress
    if report is None:
        return "Starting: the scan is read."
    values = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in report.values.items())
    return f"{report.stage}: {report.done} of {report.total or '?'}. {values}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "n/a"


def preview_picture(values: NDArray[Any]) -> str:
    """A preview (h, w) as the address of a PNG; the range is that of the inner 99 % of the values."""
    from PIL import Image

    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    # A palette: three colours for each pixel take three times as long to compress.
    image = Image.fromarray(indices(values, float(low), float(high) if high > low else float(low) + 1.0))
    image.putpalette(palette("viridis").tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
