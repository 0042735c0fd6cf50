"""Painting a mask on the mean pattern: rectangles by dragging, or by numbers."""

from __future__ import annotations

from nicegui import run, ui
from nicegui.events import MouseEventArguments

from diptych.errors import DiptychError
from diptych.studio.state.reconstruct.look import shown_side
from diptych.studio.state.reconstruct.page import ReconstructPage


class MaskDialog:
    """A dialog that masks rectangles of the detector in a copy of the scan.

    Parameters
    ----------
    state : ReconstructPage
        The scan that is open.
    """

    def __init__(self, state: ReconstructPage) -> None:
        assert state.look is not None
        self.state, self.size = state, state.look.scan.size
        self.boxes: list[tuple[int, int, int, int]] = []
        self._corner: tuple[float, float] | None = None
        self._drawn = False
        with ui.dialog() as self.dialog, ui.card().classes("w-full max-w-[720px]"):
            ui.label("Paint a mask").props("role=heading aria-level=2").classes("text-xl")
            ui.label("Drag a rectangle over bad pixels, or type its rows and columns. The file itself is not changed.")
            # A square from the start, so that the dialog does not move when the picture arrives.
            self.image = ui.interactive_image(
                f"/studio-scan/{state.revision}/mean", on_mouse=self._mouse, events=["mousedown", "mouseup"], cross=True
            ).classes("w-full max-w-[560px] aspect-square")
            # Until the picture is there, all places are reported as its first pixel.
            self.image.on("loaded", self._arrived, args=[])
            with ui.row().classes("gap-2 items-center"):
                names = ("first row", "end row", "first column", "end column")
                self.ends = [
                    ui.number(name, min=0, max=self.size, precision=0).props("outlined dense").classes("w-32")
                    for name in names
                ]
                ui.button("Add", on_click=self._typed).props("outline")
            self.listed = ui.label("Nothing is masked yet.").classes("text-sm")
            self.message = ui.label().props("role=alert").classes("text-negative")
            with ui.row():
                ui.button("Save a masked copy and open it", on_click=self._save)
                ui.button("Undo", on_click=self._undo).props("flat")
                ui.button("Cancel", on_click=self.dialog.close).props("flat")

    def open(self) -> None:
        """Show it."""
        self.dialog.open()
        # The component has no description of its own picture.
        described = 'const image = getHtmlElement(%d)?.querySelector("img"); if (image) image.alt = "Mean pattern";'
        ui.timer(0.1, lambda: ui.run_javascript(described % self.image.id), once=True)

    def _arrived(self) -> None:
        self._drawn = True

    def _mouse(self, event: MouseEventArguments) -> None:
        if not self._drawn:
            return
        if event.type == "mousedown":
            self._corner = (event.image_y, event.image_x)
            return
        if self._corner is None:
            return
        scale = self.size / shown_side(self.size)
        (y0, x0), (y1, x1) = self._corner, (event.image_y, event.image_x)
        self._corner = None
        rows = sorted((int(y0 * scale), int(y1 * scale)))
        columns = sorted((int(x0 * scale), int(x1 * scale)))
        self._add((max(rows[0], 0), min(rows[1] + 1, self.size), max(columns[0], 0), min(columns[1] + 1, self.size)))

    def _typed(self) -> None:
        values = [each.value for each in self.ends]
        if any(value is None for value in values):
            self.message.set_text("Give all four numbers.")
            return
        y0, y1, x0, x1 = (int(value) for value in values)
        self._add((y0, y1, x0, x1))

    def _add(self, box: tuple[int, int, int, int]) -> None:
        assert self.state.look is not None
        try:
            self.state.look.masked([*self.boxes, box])
        except DiptychError as error:
            self.message.set_text(str(error))
            return
        self.message.set_text("")
        self.boxes.append(box)
        self._show()

    def _undo(self) -> None:
        self.boxes = self.boxes[:-1]
        self._show()

    def _show(self) -> None:
        scale = shown_side(self.size) / self.size
        self.image.set_content(
            "".join(
                f'<rect x="{x0 * scale}" y="{y0 * scale}" width="{(x1 - x0) * scale}" height="{(y1 - y0) * scale}" '
                'fill="#d03020" fill-opacity="0.5" stroke="white"/>'
                for y0, y1, x0, x1 in self.boxes
            )
        )
        text = "; ".join(f"rows {y0} to {y1}, columns {x0} to {x1}" for y0, y1, x0, x1 in self.boxes)
        self.listed.set_text(f"Masked, ends not included: {text}" if text else "Nothing is masked yet.")

    async def _save(self) -> None:
        if not self.boxes:
            self.message.set_text("Nothing is masked yet: drag a rectangle, or type one.")
            return
        try:
            await run.io_bound(self.state.save_masked, self.boxes)
        except DiptychError as error:
            self.message.set_text(str(error))
            return
        self.dialog.close()
