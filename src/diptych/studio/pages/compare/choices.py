"""What is compared: results, reference, gauge, and methods to run on a scan."""

from __future__ import annotations

from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.studio.state.compare.page import GAUGES, ComparePage

GAUGE_HELP = (
    "What is removed before comparing. auto: what the data leave free (full when the probe was refined, else phase)."
)


class Choices:
    """The controls at the top of the page.

    Parameters
    ----------
    state : ComparePage
        What is chosen, shared by all tabs.
    """

    def __init__(self, state: ComparePage) -> None:
        self.state = state
        self._shown = -1
        self._filling = False
        with ui.row().classes("w-full items-start gap-4"):
            self.results = _select("Results", {}, self._chosen, multiple=True).classes("grow min-w-[280px]")
            self.reference = _select("Reference", [], self._referred).classes("w-56")
            self.gauge = _select("Gauge", list(GAUGES), self._gauged).classes("w-32")
            with self.gauge:
                ui.tooltip(GAUGE_HELP)
        with ui.expansion("Run engines or networks on a scan", icon="play_circle").classes("w-full"):
            ui.label("Each method reconstructs the scan; the results chosen above are compared on it too.")
            with ui.row().classes("w-full items-start gap-4"):
                self.scan = _select("Scan", {}, self._scanned, clearable=True).classes("grow min-w-[240px]")
                self.methods = _select("Methods", {}, self._methods, multiple=True).classes("grow min-w-[240px]")
            self.truth = ui.checkbox("Compare with the true object, where the scan has one", value=True)
            self.truth.on_value_change(lambda event: setattr(state, "truth", bool(event.value)))
        with ui.row().classes("w-full items-center gap-4"):
            self.start = ui.button("Compare", on_click=self._start).mark("start")
            self.stop = ui.button("Stop", on_click=self._stop, color=None).props("outline")
            ui.button("Refresh lists", on_click=self.fill, color=None).props("flat")
            self.status = ui.label().props("role=status").classes("grow")
        self.progress = ui.linear_progress(0, show_value=False).props('aria-label="Progress of the comparison"')
        ui.timer(0.05, self.fill, once=True)

    async def fill(self) -> None:
        """List what the data folders hold; files are looked into in a thread."""
        state = self.state
        found = await run.io_bound(lambda: (state.results(), state.scans(), state.available_methods()))
        if found is None:  # The server is stopping.
            return
        results, scans, methods = found
        self._filling = True
        chosen = {str(path): state.studio.folders.shown(path) for path in state.files.values()}
        self.results.set_options({**results, **chosen}, value=list(chosen))
        self.scan.set_options(scans, value=None if state.scan is None else str(state.scan))
        self.methods.set_options(methods, value=[name for name in state.methods if name in methods])
        self._filling = False
        if not results and not scans:
            self.status.set_text("No results in the data folders yet. Reconstruct a scan first: the Reconstruct page.")
        self._shown = -1

    def watch(self) -> None:
        """Show progress, and what another tab has changed."""
        state, job = self.state, self.state.job
        running = job is not None and job.state in ("queued", "running")
        self.stop.set_visibility(running)
        self.progress.set_visibility(running)
        self.start.set_enabled(not running and not state.problem)
        if self._shown != state.revision:
            self._shown = state.revision
            self._filling = True
            self.reference.set_options(list(state.files), value=state.reference or None)
            self.gauge.set_value(state.gauge)
            known = set(self.results.options)
            if {str(path) for path in state.files.values()} <= known:
                self.results.set_value([str(path) for path in state.files.values()])
            self._filling = False
        if job is None or state.problem:
            if state.problem and self.results.options:
                self.status.set_text(state.problem)
            elif not state.problem:
                self.status.set_text("")
            return
        report = job.progress
        if running and report is not None:
            self.progress.set_value(report.done / report.total if report.total else 0)
            self.status.set_text(f"{report.stage}: {report.done} of {report.total}" if report.total else report.stage)
        else:
            self.status.set_text(_ending(job.state, job.error))

    def _chosen(self, event: Any) -> None:
        if self._filling:
            return
        try:
            self.state.choose(list(event.value or []))
        except DiptychError as error:
            self.status.set_text(str(error))

    def _referred(self, event: Any) -> None:
        if not self._filling and event.value:
            self.state.reference = str(event.value)

    def _gauged(self, event: Any) -> None:
        if not self._filling and event.value in GAUGES:
            self.state.gauge = str(event.value)

    def _scanned(self, event: Any) -> None:
        if self._filling:
            return
        try:
            self.state.scan = None if not event.value else self.state.studio.folders.resolve(str(event.value))
        except DiptychError as error:
            self.status.set_text(str(error))

    def _methods(self, event: Any) -> None:
        if not self._filling:
            self.state.methods = [str(each) for each in event.value or []]

    async def _start(self) -> None:
        try:
            await run.io_bound(self.state.start)
        except DiptychError as error:
            self.status.set_text(str(error))

    def _stop(self) -> None:
        if self.state.job is not None:
            self.state.job.cancel()


def _select(label: str, options: Any, changed: Any, *, multiple: bool = False, clearable: bool = False) -> ui.select:
    select = ui.select(options, label=label, multiple=multiple, clearable=clearable, on_change=changed)
    if multiple:
        select.props("use-chips")
    return select.props("outlined dense options-dense")


def _ending(state: str, error: str) -> str:
    if state == "failed":
        return f"The comparison failed: {error}"
    return {"queued": "Waiting for the job before this one.", "running": "Starting.", "cancelled": "Stopped."}.get(
        state, ""
    )
