"""The home page: what can be done, something to try at once, and what lies in the data folders."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import app, run, ui
from starlette.responses import Response

from diptych.studio.components.frame import heading, page_frame
from diptych.studio.context import Studio
from diptych.studio.data import Item

WORK = "diptych.studio.state.reconstruct.work"
KNOWN = {"scan": "scan", "result": "result"}
PICTURES = "/studio-home"
TARGETS = defaultdict(
    lambda: "/jobs?run=",
    {
        "scan": "/reconstruct?file=",
        "unknown": "/reconstruct?file=",
        "result": "/compare?file=",
        "reconstruct": "/reconstruct?run=",
        "train": "/train?run=",
        "compare": "/compare?run=",
        "session": "/prefer?session=",
    },
)
"""Where an entry leads; runs of other commands to the list with their log."""

EACH = 12
"""Entries of each kind that are listed."""


def register(studio: Studio) -> None:
    """Declare ``/``."""

    @app.get(PICTURES + "/{name}.png")
    def picture(name: str) -> Response:
        from diptych.studio.state.samples import sample

        data = sample(name)
        if data is None:
            return Response("there is no such picture", 404)
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=86400"})

    @ui.page("/")
    def home() -> None:
        with page_frame(studio, "Home", "/"):
            with ui.row().classes("w-full gap-4 items-stretch"):
                with _panel("Reconstruct", "From diffraction patterns to the object: ptychography."):
                    _pictures({"pattern": "One diffraction pattern", "object": "The object"}, "→")
                    _first_scans(studio)
                with _panel("Prefer", "Judge images; a model learns what you like and proposes better ones."):
                    _pictures({f"judged-{number}": f"Picture {number + 1} to judge" for number in range(4)})
                    with ui.row().classes("gap-2"):
                        ui.button("Open Prefer", on_click=lambda: ui.navigate.to("/prefer"))
                        ui.button("Try it now", on_click=lambda: ui.navigate.to("/prefer?example=yes")).props("outline")
                    ui.label("Pictures of a small built-in generator; nothing is downloaded.").classes("text-sm")
            heading("Recent")
            recent = ui.row().classes("w-full gap-4 items-start")

            async def fill() -> None:
                found = await run.io_bound(studio.folders.items)
                holding = None if found is None else await run.io_bound(_holding, found)
                if found is not None and holding is not None:
                    with recent:
                        _recent(studio, found, holding)

            ui.timer(0.05, fill, once=True)


def _panel(title: str, text: str) -> ui.card:
    card = ui.card().classes("flex-1 min-w-[280px]").props("flat bordered")
    with card:
        heading(title)
        ui.label(text)
    return card


def _pictures(described: dict[str, str], between: str = "") -> None:
    """Small pictures in a row; the browser asks for them once the page is there."""
    with ui.row().classes("items-center gap-2 no-wrap w-full"):
        for number, (name, about) in enumerate(described.items()):
            if number and between:
                ui.label(between).classes("text-xl").props('aria-hidden="true"')
            image = ui.image(f"{PICTURES}/{name}.png").props(f'alt="{about}" ratio=1 no-spinner')
            image.classes("rounded w-28 max-w-[22%] bg-gray-400/30")


def _first_scans(studio: Studio) -> None:
    """Buttons that lead to a scan in one click, and how the job behind them goes."""
    root = studio.folders.roots[0]
    with ui.row().classes("gap-2"):
        ui.button("Open Reconstruct", on_click=lambda: ui.navigate.to("/reconstruct"))
        ui.button("Measured star (27 MB)", on_click=lambda: begin("fetch_star", root / "siemens-star.npz")).props(
            "outline"
        )
        ui.button("Simulated scan", on_click=lambda: begin("simulate_scan", root / "simulated-scan.npz")).props(
            "outline"
        )
    status = ui.label().props("role=status").classes("text-sm")
    waiting: list[Any] = []

    def begin(work: str, out: Path) -> None:
        if out.is_file():
            ui.navigate.to(f"/reconstruct?file={quote(str(out))}")
            return
        title = "measured star" if work == "fetch_star" else "simulated scan"
        waiting[:] = [studio.jobs.submit(f"{WORK}:{work}", {"out": str(out)}, title=title, heavy=False, process=True)]

    def watch() -> None:
        if not waiting:
            return
        job = waiting[0]
        if job.state in ("queued", "running"):
            status.set_text(f"{job.title}: {job.progress.stage if job.progress else 'starting'} ...")
            return
        waiting.clear()
        if job.state == "done" and job.result:
            ui.navigate.to(f"/reconstruct?file={quote(job.result['file'])}")
        else:
            status.set_text(f"{job.title}: {job.error or 'stopped'}")

    ui.timer(0.3, watch)


def _recent(studio: Studio, found: list[Item], holding: dict[Path, str]) -> None:
    columns = (
        ("file", "Scans and results", "No file yet. Copy a scan into a data folder, or make one above."),
        ("run", "Runs", "No run yet. Reconstruct a scan."),
        ("session", "Sessions", "No session yet. Open Prefer."),
    )
    for kind, title, empty in columns:
        with ui.column().classes("grow basis-[280px] gap-1"):
            ui.label(title).props("role=heading aria-level=3").classes("font-medium")
            items = [item for item in found if item.kind == kind]
            for item in items[:EACH]:
                target = TARGETS[holding.get(item.path, kind)]
                with ui.row().classes("gap-2 items-baseline"):
                    ui.link(studio.folders.shown(item.path), target + quote(str(item.path))).classes(
                        "text-sm break-all"
                    )
                    ui.label(holding.get(item.path, "")).classes("text-xs opacity-75")
            if not items:
                ui.label(empty).classes("text-sm")


def _holding(found: list[Item]) -> dict[Path, str]:
    """What the entries that are listed hold: ``scan``, ``result``, ``nothing``, or the command of a run. Looks into
    files: call it in a thread.
    """
    from diptych.runtime.jobs.records import read_record
    from diptych.studio.state.listing import holds

    files = [item.path for item in found if item.kind == "file"][:EACH]
    runs = [item.path for item in found if item.kind == "run"][:EACH]
    commands = {path: record.command for path in runs if (record := read_record(path)) is not None}
    return {**{path: KNOWN.get(holds(path), "unknown") for path in files}, **commands}
