"""What is in the scan: pictures, numbers, and notes with their remedies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions
from diptych.studio.components.forms import options_form
from diptych.studio.components.frame import heading
from diptych.studio.components.sliders import Slider
from diptych.studio.pages.reconstruct.actions import FileActions
from diptych.studio.pages.reconstruct.mask import MaskDialog
from diptych.studio.state.reconstruct.page import ReconstructPage
from diptych.studio.state.reconstruct.remedies import CHECK, Remedy, reading_remedy, remedies_for

NUMBERS = {
    "patterns": "Patterns",
    "size": "Pattern size, px",
    "step_px": "Step, px",
    "overlap": "Linear overlap",
    "positions": "Positions",
    "probe_modes": "Probe modes",
    "probe_diameter_px": "Probe diameter, px",
    "masked_fraction": "Masked fraction",
    "max_count": "Largest count",
    "zero_fraction": "Fraction of zeros",
    "truth": "True object",
    "background": "Background",
}

DROPPING = ("drop", "bad_frames", "saturated", "auto_mask")

FOCUS = "setTimeout(() => document.querySelector('.scan-reading .option-%s input')?.focus(), 400)"
"""Puts the cursor into a field once its panel is open."""


class Inspect:
    """The part of the page about the scan.

    Parameters
    ----------
    state : ReconstructPage
        The scan that is open, shared by all tabs.
    """

    def __init__(self, state: ReconstructPage) -> None:
        self.state = state
        self._shown, self._options_shown, self._checked = -1, -1, ""
        self.box = ui.column().classes("w-full gap-4")
        self.readings: ui.column | None = None
        self.dropping: ui.column | None = None

    def watch(self) -> None:
        """Draw anew when another scan was opened; show how the check goes."""
        if self._shown != self.state.revision:
            self._shown, self._options_shown = self.state.revision, -1
            self._checked, self.dropping = "", None
            self.box.clear()
            with self.box:
                self._draw()
        if self.dropping is not None and self._options_shown != self.state.changes:
            self._options_shown = self.state.changes
            self.dropping.clear()
            with self.dropping:
                options_form(ReconstructionOptions, self.state.values, self._taken, only=DROPPING)
        self._watch_check()

    def _taken(self) -> None:
        """Tell the other forms of what was typed in this one, which stays as it is."""
        self.state.changes += 1
        self._options_shown = self.state.changes

    def _draw(self) -> None:
        look = self.state.look
        if look is None:
            ui.label("Choose a scan above: its patterns, positions and probe appear here.")
            return
        base = f"/studio-scan/{self.state.revision}"
        heading("What is in the scan")
        with ui.row().classes("w-full gap-4 items-start"):
            with _cell("Pattern (log scale)"):
                frame = ui.image(f"{base}/0").classes("w-full").props('alt="Counts of one pattern" fit=contain')
                number = ui.label(f"Frame 0 of {len(look.scan)}: {look.totals[0]:.4g} photons").classes("text-sm")

                def turn(event: Any) -> None:
                    shown = int(event.value)
                    frame.set_source(f"{base}/{shown}")
                    number.set_text(f"Frame {shown} of {len(look.scan)}: {look.totals[shown]:.4g} photons")

                at = Slider(min=0, max=max(len(look.scan) - 1, 1), value=0, on_change=turn).props('aria-label="Frame"')
                _small("Drop this frame", lambda: self._apply(Remedy("", options={"drop": str(int(at.value))})))
            with _cell("Mean pattern (log scale; masked: red)"):
                ui.image(f"{base}/mean").classes("w-full").props('alt="Mean pattern" fit=contain')
            if look.scan.probe is not None:
                with _cell("Initial probe (hue: phase)"):
                    ui.image(f"{base}/probe").classes("w-full").props('alt="Initial probe" fit=contain')
            with _cell("Positions, coloured by photons"):
                chart = ui.echart(look.positions_chart()).classes("w-full").style("aspect-ratio: 1; min-height: 240px")
                chart.props('role="img" aria-label="Scan positions over photons per pattern"')
        with ui.row().classes("w-full gap-x-6 gap-y-1"):
            photons = look.about["photons_per_pattern"]["mean"]
            ui.label(f"Photons per pattern: {photons:.4g}").classes("text-sm")
            for key, name in NUMBERS.items():
                if (value := look.about.get(key)) not in (None, False):
                    ui.label(f"{name}: {_text(value)}").classes("text-sm")
        self._notes()

    def _notes(self) -> None:
        look = self.state.look
        assert look is not None
        for note in look.notes:
            with ui.row().classes("w-full items-center gap-3"):
                ui.icon("warning").classes("text-amber-700").props('aria-hidden="true"')
                ui.label(note).classes("grow basis-[300px]")
                for remedy in remedies_for(note, self.state.load):
                    _small(remedy.label, lambda r=remedy: self._apply(r))  # type: ignore[misc]
        if not look.notes:
            ui.label("Nothing unusual was found in this scan.")
        with ui.row().classes("gap-2 items-center"):
            swap = Remedy("Swap axes", load={"swap_xy": not self.state.load.get("swap_xy", False)})
            _small(CHECK.label, self._check)
            _small("Swap position axes", lambda: self._apply(swap))
            _small("Paint a mask", lambda: MaskDialog(self.state).open())
            self.message = ui.label().props("role=alert").classes("text-negative")
            self.said = ui.label().props("role=status").classes("text-sm").mark("remedy")
        self.readings = ui.column().classes("w-full gap-1")
        with ui.expansion("Drop frames", icon="filter_alt").classes("w-full"):
            self.dropping = ui.column().classes("w-full")
        with ui.expansion("How the scan is read", icon="tune").classes("w-full scan-reading") as self.reading:
            values = dict(self.state.load)
            options_form(LoadOptions, values)
            ui.button("Read again with these options", on_click=lambda: self._replace(values)).props("outline no-caps")
        FileActions(self.state)

    async def _replace(self, values: dict[str, Any]) -> None:
        cleared = {name: LoadOptions.model_fields[name].default for name in self.state.load if name not in values}
        await self._apply(Remedy("", load={**cleared, **values}))

    async def _apply(self, remedy: Remedy) -> None:
        if remedy == CHECK:
            self._check()
            return
        if remedy.ask:
            self.reading.open()
            ui.run_javascript(FOCUS % remedy.ask)
            return
        self.message.set_text("")
        try:
            await run.io_bound(self.state.apply, remedy)
        except DiptychError as error:
            self.message.set_text(str(error))
            return
        if not remedy.load:  # Else all is drawn anew.
            text = ", ".join(f"{name.replace('_', ' ')} {self.state.values[name]}" for name in remedy.options)
            self.said.set_text(f"Reconstruct will use: {text}.")

    def _check(self) -> None:
        try:
            self.state.start_check()
        except DiptychError as error:
            self.message.set_text(str(error))

    def _watch_check(self) -> None:
        job = self.state.check
        if job is None or self.readings is None:
            return
        stage = f"{job.id} {job.state} {job.progress.done if job.progress else ''}"
        if stage == self._checked:
            return
        self._checked = stage
        self.readings.clear()
        with self.readings:
            if job.state in ("queued", "running"):
                report = job.progress
                ui.label("Check: waiting." if report is None else f"{report.stage}: {report.done} of {report.total}")
            elif job.result is None:
                ui.label(f"The check ended without a result: {job.error or job.state}")
            else:
                ui.label(job.result["advice"])
                for row in job.result["rows"][:5]:
                    with ui.row().classes("items-center gap-3"):
                        ui.label(f"fit {row['fit'] if row['fit'] is not None else float('nan'):.3g}: {row['reading']}")
                        if (remedy := reading_remedy(row)) is not None:
                            _small("Read so", lambda r=remedy: self._apply(r))  # type: ignore[misc]


def _small(text: str, action: Callable[[], Any]) -> ui.button:
    return ui.button(text, on_click=action).props("outline dense no-caps")


def _cell(title: str) -> ui.column:
    column = ui.column().classes("grow basis-[240px] max-w-[420px] gap-1")
    with column:
        ui.label(title).classes("text-sm")
    return column


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " x ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else str(value)
