"""Format the measurements as markdown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from scoring import LEVELS

AUTO = "auto"
"""The engine whose times the peers are compared with."""

START, END = "<!-- measured -->", "<!-- /measured -->"

STAGES = {"0": "start", "1": "rescue", "2": "second start", "3": "likelihood"}

Record = dict[str, Any]


def report(results: dict[str, Any]) -> str:
    """Conditions, one table of runs per problem, one of ratios where peers ran, and the list of skipped runs."""
    runs = sorted(results["runs"], key=lambda run: not run["own"])
    parts = [conditions(results["conditions"])]
    for problem in _in_order(run["problem"] for run in runs):
        some = [run for run in runs if run["problem"] == problem]
        parts += [f"### {problem}", runs_table(some)]
        if any(not run["own"] for run in some):
            parts.append(ratios_table(some))
    if results["skipped"]:
        parts.append("\n".join(f"* {title}: skipped, {why}" for title, why in results["skipped"].items()))
    return "\n\n".join(parts) + "\n"


def conditions(facts: dict[str, Any]) -> str:
    """One paragraph with the conditions of the measurement."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['date']}, commit {facts['commit'] or 'unknown'}; {facts['threads']} threads of {facts['cores']} "
        f"cores, "
        f"OpenMP waits {facts['waits']}, load before {facts['load_before']}, after {facts['load_after']}; "
        f"scorer: {facts['scorer']}. {versions}."
    )


def runs_table(runs: list[Record]) -> str:
    """A row per engine: medians over its runs."""
    levels = [f"s to err {level:g}" for level in LEVELS]
    head = ["engine", "s / epoch", "x bare", *levels, "final err", "phase SSIM", "epochs", "s", "memory MB", "stop"]
    return _markdown(
        head,
        [_row([run for run in runs if run["title"] == title]) for title in _in_order(run["title"] for run in runs)],
    )


def ratios_table(runs: list[Record]) -> str:
    """Seconds of each peer divided by those of the automatic engine run just before it: medians over the rounds; the
    fastest peer is bold.
    """
    peers = _in_order(run["title"] for run in runs if not run["own"])
    columns = {
        level: [_ratio([run for run in runs if run["own"] or run["title"] == peer], level) for peer in peers]
        for level in (0.1, 0.05)
    }
    rows = []
    for index, peer in enumerate(peers):
        row = [peer]
        for cells in columns.values():
            ratio, reached, _ = cells[index]
            best = min((cell for cell in cells if cell[1]), key=lambda cell: cell[2], default=None)
            text = "-" if ratio is None else f"{'' if reached else '> '}{ratio:.1f}"
            row.append(f"**{text}**" if cells[index] is best else text)
        rows.append(row)
    return _markdown(["peer", *(f"peer s / diptych s to err {level:g}" for level in columns)], rows)


def write(path: Path, text: str) -> None:
    """Put ``text`` between the markers of a markdown file."""
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    _, marker, after = rest.partition(END)
    if not marker:
        raise SystemExit(f"{path.name}: the lines {START} and {END} are missing; add them where the tables belong.")
    path.write_text(f"{before}{START}\n\n{text}\n{END}{after}", encoding="utf-8")


def _row(runs: list[Record]) -> list[str]:
    laps = {
        stage: median(median(run["laps_s"][stage]) for run in runs if stage in run["laps_s"])
        for stage in sorted(runs[0]["laps_s"])
    }
    names = [f" ({STAGES[stage]})" if len(laps) > 1 else "" for stage in laps]
    bare = median(run["bare_s"] for run in runs) if runs[0]["own"] else _bare(runs)
    last = [run["curve"][-1] for run in runs]
    return [
        runs[0]["title"],
        ", ".join(f"{seconds:.3f}{name}" for seconds, name in zip(laps.values(), names, strict=True)),
        ", ".join(f"{seconds / bare:.1f}{name}" for seconds, name in zip(laps.values(), names, strict=True)),
        *(_seconds([run["seconds_to"][str(level)] for run in runs]) for level in LEVELS),
        f"{median(point['error'] for point in last):.4f}",
        f"{median(point['phase_ssim'] for point in last):.4f}",
        f"{median(run['epochs'] for run in runs):g}",
        f"{median(point['seconds'] for point in last):.1f}",
        f"{median(run['peak_mb'] for run in runs):.0f}",
        runs[-1]["stop"],
    ]


def _bare(runs: list[Record]) -> float:
    """A peer's epochs are compared with the bare FFTs of the diptych run before it."""
    return float(median(run["bare_before_s"] for run in runs))


def _ratio(runs: list[Record], level: float) -> tuple[float | None, bool, float]:
    """Median ratio over the rounds, whether the peer reached the level in all of them, and its median time."""
    ours = {run["round"]: run["seconds_to"][str(level)] for run in runs if run["own"] and run["engine"] == AUTO}
    theirs = [run for run in runs if not run["own"]]
    reached = all(run["seconds_to"][str(level)] is not None for run in theirs)
    times = [run["seconds_to"][str(level)] or run["curve"][-1]["seconds"] for run in theirs]
    pairs = [time / own for run, time in zip(theirs, times, strict=True) if (own := ours.get(run["round"]))]
    return (median(pairs) if pairs else None), reached, median(times)


def _seconds(values: list[float | None]) -> str:
    reached = [value for value in values if value is not None]
    return f"{median(reached):.2f}" if reached and len(reached) == len(values) else "-"


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
