"""Tune by eye: the settings of the picture that is thought best, saved and applied."""

from __future__ import annotations

import shlex
from urllib.parse import quote

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.prefer.session.scoring import underfitted
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.desks import Desks
from diptych.studio.state.prefer.tuning import FILE, common_text, save, scan_of, winner


def tune_panel(desks: Desks, desk: Desk) -> None:
    """What the pictures are, and buttons for the winner."""
    scan = scan_of(desk.session)
    ui.label(
        f"Tune by eye: reconstructions of {desk.session.frame.prompt} with the settings beneath; amplitude left, phase "
        "right. The first picture has the default settings. Judge which look right; the settings improve. Fit: "
        "misfit to the patterns, 1 is shot noise alone; held out: on pixels that were not fitted. A smooth picture "
        "whose fit is clearly above 1, or above those of other pictures, may be underfitted: structure is missing."
    ).classes("text-sm")
    if common := common_text(desk.session):
        ui.label(common).classes("text-sm").mark("common settings")
    text = ui.label().classes("font-mono text-xs whitespace-pre-wrap").mark("winner")

    async def keep() -> bool:
        try:
            best = await run.io_bound(winner, desk.session)
            if best is None:
                return False
            path = await run.io_bound(save, desk.session, best)
            smooth = await run.io_bound(underfitted, desk.session.ledger, best.candidate) or ""
        except DiptychError as error:
            ui.notify(str(error), type="warning", multi_line=True)
            return False
        shown = desks.studio.folders.shown(path) if path is not None else FILE
        command = shlex.join(["diptych", "reconstruct", scan or "SCAN", "--config", str(path)])
        text.set_text(f"# {shown}\n{best.yaml}\n{smooth}\nTo reconstruct with these settings:\n{command}")
        desk.tell(f"Saved settings → {shown}")
        return True

    async def use() -> None:
        if await keep():
            config = quote(desks.studio.folders.link(desk.session.ledger.folder / FILE))
            file = f"file={quote(scan)}&" if scan else ""
            ui.navigate.to(f"/reconstruct?{file}config={config}")

    with ui.row().classes("gap-2"):
        ui.button("Save the winner as YAML", on_click=keep).props("outline no-caps").mark("save winner")
        ui.button("Reconstruct with the winner", on_click=use).props("outline no-caps").mark("apply winner")
