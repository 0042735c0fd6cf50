"""A small chart: how far each picture on the screen is from the anchor."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

WIDTH, ROW = 340, 18


def angle_chart() -> ui.html:
    """An empty chart."""
    chart = ui.html("", sanitize=False).classes("w-full").mark("angles")
    set_angles(chart, ())
    return chart


def set_angles(chart: ui.html, found: Sequence[tuple[float, float]]) -> None:
    """Draw a bar for each (distance, angle in degrees); 180 degrees fill the width."""
    text = "; ".join(f"picture {index}: {angle:.0f} degrees" for index, (_, angle) in enumerate(found, 1))
    bars = "".join(_bar(index, length, angle) for index, (length, angle) in enumerate(found))
    height = ROW * max(len(found), 1)
    drawn = (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" role="img" '
        f'aria-label="Angle from the anchor: {text or "no picture"}">{bars}</svg>'
    )
    if chart.content != drawn:
        chart.set_content(drawn)


def _bar(index: int, length: float, angle: float) -> str:
    width = 0.0 if angle != angle else (WIDTH - 150) * angle / 180
    y = index * ROW
    return (
        f'<rect x="0" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}" rx="2" fill="#31688e"/>'
        f'<text x="{width + 6:.1f}" y="{y + ROW - 5}" font-size="12" fill="currentColor">'
        f"{angle:.0f}°, ||z − anchor|| {length:.1f}</text>"
    )
