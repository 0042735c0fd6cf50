"""Questions before something is renamed or deleted; they belong to the page, as lists may be drawn anew meanwhile."""

from __future__ import annotations

from nicegui import context, ui


async def ask_name(name: str) -> str | None:
    """Another name for a folder; None where the person changed their mind."""
    with context.client, ui.dialog() as dialog, ui.card():
        field = ui.input("New name", value=name).props("outlined dense autofocus").mark("new name")
        with ui.row():
            ui.button("Rename", on_click=lambda: dialog.submit(str(field.value or ""))).mark("rename")
            ui.button("Cancel", on_click=dialog.close).props("flat")
    return await dialog  # type: ignore[no-any-return]


async def ask_twice(question: str, name: str) -> bool:
    """Whether something is deleted: the button works once its name was typed."""
    with context.client, ui.dialog() as dialog, ui.card():
        ui.label(question)
        typed = ui.input(f"Type the name, {name}").props("outlined dense autofocus").mark("typed name")
        with ui.row():
            sure = ui.button("Delete for good", color="negative", on_click=lambda: dialog.submit(True)).mark("sure")
            sure.bind_enabled_from(typed, "value", lambda text: text == name)
            ui.button("Cancel", on_click=dialog.close).props("flat")
    return bool(await dialog)
