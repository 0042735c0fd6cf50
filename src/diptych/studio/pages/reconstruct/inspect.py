"""What is in the scan: pictures, numbers, and notes with their remedies."""

from __future__ import annotations

from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions
from diptych.studio.components.forms import options_form
from diptych.studio.components.frame import heading
from diptych.studio.pages.reconstruct.actions import FileActions
from diptych.studio.pages.reconstruct.mask import MaskDialog
from diptych.studio.state.reconstruct.page import ReconstructPage
from diptych.studio.state.reconstruct.remedies import Remedy, reading_remedy, remedies_for

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


class Inspect:
    """The part of the page about the scan.

    Parameters
    ----------
    state : ReconstructPage
        The scan that is open, shared by all tabs.
    """

    def __init__(self, state: ReconstructPage) -> None:
        self.state = state
        self._shown, self._checked = -1, ""
        self.box = ui.column().classes("w-full gap-4")
        self.readings: ui.column | None = None

    def watch(self) -> None:
        """Draw anew when another scan was opened; show how the check goes."""
        if self._shown != self.state.revision:
            self._shown = self.state.revision
            self._checked = ""
            self.box.clear()
            with self.box:
                self._draw()
        self._watch_check()

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
                    at = int(event.value)
                    frame.set_source(f"{base}/{at}")
                    number.set_text(f"Frame {at} of {len(look.scan)}: {look.totals[at]:.4g} photons")

                ui.slider(min=0, max=max(len(look.scan) - 1, 1), value=0, on_change=turn).props('aria-label="Frame"')
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
                for remedy in remedies_for(note):
                    ui.button(remedy.label, on_click=lambda _, r=remedy: self._apply(r)).props("outline dense no-caps")
        if not look.notes:
            ui.label("Nothing unusual was found in this scan.")
        with ui.row().classes("gap-2 items-center"):
            swap = Remedy("Swap axes", load={"swap_xy": not self.state.load.get("swap_xy", False)})
            ui.button("Run check", on_click=self._check).props("outline dense no-caps")
            ui.button("Swap position axes", on_click=lambda: self._apply(swap)).props("outline dense no-caps")
            ui.button("Paint a mask", on_click=lambda: MaskDialog(self.state).open()).props("outline dense no-caps")
            self.message = ui.label().props("role=alert").classes("text-negative")
        self.readings = ui.column().classes("w-full gap-1")
        with ui.expansion("Drop frames", icon="filter_alt").classes("w-full"):
            options_form(
                ReconstructionOptions, self.state.values, only=("drop", "bad_frames", "saturated", "auto_mask")
            )
        with ui.expansion("How the scan is read", icon="tune").classes("w-full"):
            values = dict(self.state.load)
            options_form(LoadOptions, values)
            ui.button("Read again with these options", on_click=lambda: self._replace(values)).props("outline no-caps")
        FileActions(self.state)

    async def _replace(self, values: dict[str, Any]) -> None:
        cleared = {name: LoadOptions.model_fields[name].default for name in self.state.load if name not in values}
        await self._apply(Remedy("", load={**cleared, **values}))

    async def _apply(self, remedy: Remedy) -> None:
        try:
            await run.io_bound(self.state.apply, remedy)
        except DiptychError as error:
            self.message.set_text(str(error))

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
                            ui.button("Read so", on_click=lambda _, r=remedy: self._apply(r)).props(
                                "dense flat no-caps"
                            )


def _cell(title: str) -> ui.column:
    column = ui.column().classes("grow basis-[240px] max-w-[420px] gap-1")
    with column:
        ui.label(title).classes("text-sm")
    return column


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " x ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else str(value)
