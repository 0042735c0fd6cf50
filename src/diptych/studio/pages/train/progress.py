"""A training under way: losses, a validation group, and at the end the network."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import ui

from diptych.errors import DiptychError
from diptych.runtime.jobs.records import JobRecord
from diptych.studio.components.logs import show_log
from diptych.studio.state.charts import COLOURS, LEGEND, axis
from diptych.studio.state.train.page import TrainPage

LOSSES = {"loss": "training", "validation_loss": "validation"}


class Watching:
    """The lower part of the page.

    Parameters
    ----------
    state : TrainPage
        What is trained, shared by all tabs.
    """

    def __init__(self, state: TrainPage) -> None:
        self.state = state
        self._epochs, self._picture, self._training = -1, "", ""
        self.empty = ui.label("Choose scans and press Train: losses and a validation group appear here while it runs.")
        with ui.row().classes("items-center gap-3"):
            self.status = ui.label().props("role=status")
            self.log = ui.button("Log", on_click=self._log).props("outline dense no-caps")
        self.progress = ui.linear_progress(0, show_value=False).props('aria-label="Progress of the training"')
        with ui.row().classes("w-full gap-4 items-start") as self.views:
            with ui.column().classes("grow basis-[420px] min-w-0"):
                ui.label("Loss after each epoch").props("role=heading aria-level=2").classes("text-lg")
                self.chart = ui.echart(loss_options({})).classes("w-full h-80")
                self.chart.props('role="img" aria-label="Training and validation loss against epoch"')
            with ui.column().classes("grow basis-[420px] min-w-0"):
                ui.label("A validation group").props("role=heading aria-level=2").classes("text-lg")
                self.waiting = ui.label("After the first epoch.")
                self.group = ui.image().classes("w-full bg-white rounded")
                self.group.props('fit=contain alt="Counts, predicted counts and patches of a validation group"')
        with ui.card().classes("w-full").props("flat bordered") as self.keeping:
            ui.label("The network").props("role=heading aria-level=2").classes("text-lg")
            self.where = ui.label().classes("font-mono text-sm break-all")
            with ui.row().classes("items-center gap-4"):
                self.name = ui.input("Name").props("outlined dense")
                ui.button("Keep", on_click=self._keep)
                ui.button("Use in Reconstruct", on_click=self._use, color=None).props("outline")
                self.kept = ui.label().props("role=status")

    def watch(self) -> None:
        """Show what there is now."""
        state, shown = self.state, self.state.shown
        for element, visible in (
            (self.empty, shown is None),
            (self.status, shown is not None),
            (self.log, state.run is not None),
            (self.progress, state.running),
            (self.views, shown is not None),
            (self.keeping, state.model() is not None),
        ):
            element.set_visibility(visible)
        if shown is None:
            return
        training = f"{state.run} {'' if state.job is None else state.job.id}"
        if training != self._training:
            self._training, self._epochs, self._picture = training, -1, ""
            self.name.set_value(Path(self._scan or "network").stem)
            self.kept.set_text("")
        self.status.set_text(
            earlier_text(shown, state.studio.folders.shown(shown.folder))
            if isinstance(shown, JobRecord)
            else status_text(shown)
        )
        report = None if isinstance(shown, JobRecord) else shown.progress
        self.progress.set_value(report.done / report.total if report is not None and report.total else 0)
        history = state.history()
        if len(history.get("epoch", [])) != self._epochs:
            self._epochs = len(history.get("epoch", []))
            self.chart.options.clear()
            self.chart.options.update(loss_options(history))
            self.chart.update()
        self._show_picture(state.picture())
        if (model := state.model()) is not None:
            self.where.set_text(state.studio.folders.shown(state.kept or model))

    def _show_picture(self, path: Path | None) -> None:
        self.waiting.set_visibility(path is None)
        self.group.set_visibility(path is not None)
        if path is None or str(path) == self._picture:
            return
        self._picture = str(path)
        self.group.set_source("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"))

    def _keep(self) -> None:
        try:
            path = self.state.keep(str(self.name.value or ""))
        except DiptychError as error:
            self.kept.set_text(str(error))
            return
        self.kept.set_text(f"Kept as {self.state.studio.folders.shown(path)}.")

    def _use(self) -> None:
        model = self.state.kept or self.state.model()
        if model is not None:
            file = f"file={quote(self._scan)}&" if self._scan else ""
            ui.navigate.to(f"/reconstruct?{file}model={quote(str(model))}")

    @property
    def _scan(self) -> str:
        """The first scan of the training that is shown; empty where it is not known."""
        shown = self.state.shown
        files = [] if shown is None else shown.arguments.get("files") or []
        return str(files[0]) if files else ""

    def _log(self) -> None:
        if self.state.run is not None:
            show_log(self.state.run)


def earlier_text(record: JobRecord, name: str) -> str:
    """One line about a training that this server did not start."""
    ended = {"done": "done", "cancelled": "stopped; the best network so far is kept", "running": "under way"}
    return f"Showing the earlier run {name}: {ended.get(record.state) or f'failed: {record.error}'}."


def status_text(job: Any) -> str:
    """One line about a training: how far it is, or how it ended."""
    if job.state == "queued":
        return "Waiting for the job before this one."
    if job.state == "failed":
        return f"The training failed: {job.error}"
    if job.state == "cancelled":
        return (
            "Stopped. The best network so far is kept." if job.result else "Stopped before the first epoch had ended."
        )
    if job.state == "done":
        result = job.result or {}
        why = f" ({result['stop_reason']})" if result.get("stop_reason") else ""
        return f"Done after {result.get('epochs')} epochs; the best was epoch {result.get('best_epoch')}{why}."
    report = job.progress
    if report is None:
        return "Starting: the scans are read."
    values = ", ".join(f"{name.replace('_', ' ')} {value:.5g}" for name, value in report.values.items())
    return f"Update {report.done} of {report.total}: {values}" if report.total else f"{report.stage}: {values}"


def loss_options(history: dict[str, list[float]]) -> dict[str, Any]:
    """The chart of the losses, as options of ECharts; undefined losses are left out."""
    epochs = history.get("epoch", [])
    series = [
        {
            "name": label,
            "type": "line",
            "symbolSize": 4,
            "data": [[e, v] for e, v in zip(epochs, history.get(key, []), strict=False) if math.isfinite(v)],
        }
        for key, label in LOSSES.items()
    ]
    return {
        "animation": False,
        "color": list(COLOURS),
        "legend": LEGEND,
        "tooltip": {"trigger": "axis"},
        "grid": {"left": 72, "right": 24, "top": 36, "bottom": 44},
        "xAxis": axis(name="epoch", nameLocation="middle", nameGap=26, minInterval=1),
        "yAxis": axis(scale=True),
        "series": series,
    }
