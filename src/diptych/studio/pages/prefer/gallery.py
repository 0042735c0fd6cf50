"""The gallery: every picture that was shown, sorted and filtered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nicegui import background_tasks, context, run, ui

from diptych.errors import DiptychError
from diptych.studio.state.prefer.archive import picture
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.desks import Desks
from diptych.studio.state.prefer.gallery import FILTERS, ORDERS, PAGE, Entry, arranged, entries


class Gallery:
    """Cards of pictures; loaded when the gallery is chosen.

    Parameters
    ----------
    desks : Desks
    desk : Desk
    choose : callable
        Shows another mode.
    """

    def __init__(self, desks: Desks, desk: Desk, choose: Callable[[str], None]) -> None:
        self._desks, self._desk, self._choose = desks, desk, choose
        self._client = context.client
        self._found: list[Entry] = []
        self._chosen: list[str] = []
        self._page = 0
        with ui.row().classes("items-center gap-3"):
            self._order = ui.select(dict(ORDERS), label="Sort by", value="value", on_change=self._first).classes("w-44")
            self._filter = ui.select(FILTERS, label="Show", value="all", on_change=self._first).classes("w-36")
            self._text = ui.input("Prompt or id contains", on_change=self._first).props("clearable debounce=300")
            self._undo = ui.button("Undo last answer", on_click=self._undone).props("outline no-caps")
            self._compare = ui.button("Compare chosen", on_click=self._compared).props("outline no-caps")
            self._breed = ui.button("Breed from liked pictures", on_click=self._bred).props("outline no-caps")
            self._breed.set_visibility(desk.session.decoder.space == "sphere")
        self._count = ui.label().classes("text-sm").mark("gallery count")
        self._cards = ui.element("div").classes("gallery")
        with ui.row().classes("gap-2"):
            ui.button("Previous", on_click=partial(self._turn, -1)).props("outline no-caps")
            ui.button("Next", on_click=partial(self._turn, 1)).props("outline no-caps")

    def load_soon(self) -> None:
        """Read the ledger in a thread, then show it."""
        self._count.set_text("Reading…")
        background_tasks.create(self._load(), name="gallery")

    async def _load(self) -> None:
        try:
            found = await run.io_bound(entries, self._desk.session)
        except DiptychError as error:
            with self._client:
                self._count.set_text(str(error))
            return
        self._found = found or []
        with self._client:
            self._show()

    def _first(self) -> None:
        self._page = 0
        self._show()

    def _turn(self, step: int) -> None:
        self._page = max(self._page + step, 0)
        self._show()

    def _show(self) -> None:
        found = arranged(self._found, self._order.value, str(self._filter.value), self._text.value or "")
        pages = max(-(-len(found) // PAGE), 1)
        self._page = min(self._page, pages - 1)
        shown = found[self._page * PAGE : (self._page + 1) * PAGE]
        self._cards.clear()
        if not self._found:
            self._count.set_text("No picture yet. Judge a few in Batch or Queue; they are listed here.")
            return
        self._count.set_text(f"{len(found)} of {len(self._found)} pictures, page {self._page + 1} of {pages}")
        with self._cards:
            for entry in shown:
                self._card(entry)

    def _card(self, entry: Entry) -> None:
        value = f"{entry.value:.2f}" if entry.value == entry.value else "n/a"
        with ui.card().tight().classes("p-2 gap-1"):
            ui.image(f"/prefer/file/{self._desk.key}/{entry.file}").props(f'alt="Picture {entry.name}" loading=lazy')
            ui.label(f"{entry.name} • Value: {value}").classes("text-sm")
            ui.label(entry.labels or "not judged").classes("text-xs")
            with ui.row().classes("gap-1"):
                mark = ui.checkbox(value=entry.name in self._chosen, on_change=partial(self._mark, entry.name))
                mark.props(f'dense aria-label="Choose {entry.name}"')
                with (
                    ui.button(icon="more_vert").props(f'flat dense round aria-label="Actions for {entry.name}"'),
                    ui.menu(),
                ):
                    ui.menu_item("Judge again", partial(self._again, entry.name))
                    ui.menu_item("Use as anchor", partial(self._start, entry.name))
                    ui.menu_item("Download PNG with its latent", partial(self._save, entry.name))

    def _mark(self, name: str) -> None:
        if name in self._chosen:
            self._chosen.remove(name)
        else:
            self._chosen.append(name)

    async def _again(self, name: str) -> None:
        session = self._desk.session
        candidate = await run.io_bound(session.ledger.candidate, name)
        shown = await run.io_bound(session.show, candidate) if candidate is not None else None
        if shown:
            self._desk.offer(shown, "upload" if session.decoder.space == "sphere" else "queue")
            self._choose("upload" if session.decoder.space == "sphere" else "queue")

    async def _start(self, name: str) -> None:
        candidate = await run.io_bound(self._desk.session.ledger.candidate, name)
        try:
            self._desk.session.start_from(candidate)
        except DiptychError as error:
            ui.notify(str(error), type="negative", multi_line=True)
            return
        self._desk.tell(f"Anchor: picture {name}")
        ui.notify(
            "This picture is the anchor now: around shows pictures near it, uploads are blended with it, and line, "
            "hill and pair begin at it while no picture is liked.",
            type="positive",
        )

    async def _save(self, name: str) -> None:
        data = await run.io_bound(picture, self._desk.session, name)
        if data is not None:
            ui.download(data, f"{name}.png")

    async def _undone(self) -> None:
        ack = await run.io_bound(lambda: self._desk.undo().result())
        if ack is not None:
            ui.notify(ack.text)
        await self._load()

    def _compared(self) -> None:
        files = {one.name: one for one in self._found}
        chosen = [files[name] for name in self._chosen if name in files]
        if len(chosen) < 2:
            ui.notify("Choose two or more pictures with their boxes first.")
            return
        with ui.dialog().props("maximized") as dialog, ui.card().classes("w-full h-full"):
            ui.button("Close", on_click=dialog.close).props("no-caps")
            with ui.row().classes("w-full justify-center gap-4"):
                for entry in chosen:
                    with ui.column().classes("flex-1 min-w-[240px] max-w-2xl"):
                        ui.image(f"/prefer/file/{self._desk.key}/{entry.file}").props(f'alt="Picture {entry.name}"')
                        ui.label(f"{entry.name}: {entry.labels or 'not judged'}")
        dialog.open()

    async def _bred(self) -> None:
        folder = self._desk.session.ledger.folder
        try:
            await run.io_bound(partial(self._desks.change, folder, {"proposal": "breed"}))
        except DiptychError as error:
            ui.notify(str(error), type="negative", multi_line=True)
            return
        ui.navigate.reload()
