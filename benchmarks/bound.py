"""Error of reconstructions over the photon limit, and coverage of their error bars.

Four objects x spiral and raster x doses x known and blind probe x seeds, by default at N = 32. The limit is
``diptych.bound`` of the truth. Errors are those after removing what the limit leaves out: what ``evaluate`` removes,
and on an exact raster with an unknown probe the factors that repeat with the raster. A line per run goes to standard
output as JSON and to a results file; lines that it already holds are not run again. ``--write`` puts the tables into
the documentation. ``--positions`` is another table: coverage where positions are refined.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import diptych
from diptych.ptycho.evaluate.limit import bound
from diptych.ptycho.evaluate.limit.coverage import covered
from diptych.ptycho.physics.information import Curvature, Point, Refined

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "limit.md"
OBJECTS = ("natural", "lines", "dead-leaves", "blocks")
TRAJECTORIES = ("fermat-spiral", "raster")
DOSES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
COVERED = (1e5, 1e6, 1e8)
BLIND = 0.5
"""``probe_error`` of blind scans."""

Row = dict[str, Any]


def scan_of(case: Row) -> diptych.Scan:
    """The scan of a row; the seed changes the object, too."""
    size = case["size"]
    return diptych.simulate(
        object=case["object"],
        size=size,
        patterns=case["patterns"],
        step=size / 8,
        trajectory=case["trajectory"],
        dose=case["dose"],
        seed=case["seed"],
        probe_error=BLIND if case["blind"] else 0.0,
    )


def free_error(scan: diptych.Scan, alignment: Any, blind: bool) -> float:
    """Relative rms error of aligned values on the scored pixels, without all free directions of the data."""
    assert scan.truth is not None
    assert scan.true_probe is not None
    with torch.no_grad():
        curvature = Curvature(Point(scan.truth, scan.true_probe, scan.positions, refined=Refined(probe=blind)))
    (h, w), (oy, ox) = curvature.shape, curvature.origin
    error: NDArray[np.complex128] = np.zeros((h, w), np.complex128)
    y0, y1, x0, x1 = alignment.truth.extent
    inside = np.zeros((h, w), bool)
    where = slice(y0 - oy, y1 - oy), slice(x0 - ox, x1 - ox)
    error[where] = alignment.result.values - alignment.truth.values
    inside[where] = alignment.counted
    scored = curvature.scored.numpy() & inside
    flat = torch.view_as_real(torch.from_numpy(np.where(scored, error, 0))).flatten()
    left = torch.view_as_complex(curvature.projection.remove(flat).view(h, w, 2)).numpy()
    image = curvature.information.image.numpy()
    return float(np.linalg.norm(left[scored]) / np.linalg.norm(image[scored]))


def run(case: Row, limits: dict[str, float]) -> Row:
    """One reconstruction: its error, the limit, and the coverage of its error bars where they are asked for."""
    scan, blind = scan_of(case), case["blind"]
    key = json.dumps({**case, "dose": 0})
    # Without a background the limit falls with 1 / sqrt(dose): computed once, at 1e6 photons.
    if key not in limits:
        limits[key] = bound(scan, dose=1e6, map_accuracy=1, refine_probe=blind).complex_error
    limit = limits[key] * (1e6 / case["dose"]) ** 0.5
    began = time.perf_counter()
    result = diptych.reconstruct(scan, probe="refine" if blind else "fixed")
    seconds = time.perf_counter() - began
    metrics = diptych.evaluate(result, scan)
    assert metrics.alignment is not None
    row: Row = {**case, "limit": limit, "complex_error": metrics["complex_error"]}
    row["error"] = free_error(scan, metrics.alignment, blind)
    row["ratio"] = row["error"] / limit
    row["seconds"] = seconds
    row["held_out_fit"] = result.provenance["held_out_fit"]
    if case["dose"] in COVERED and case["trajectory"] == "fermat-spiral":
        began = time.perf_counter()
        bars = diptych.error_bars(result, scan, accuracy=0.08)
        row["bars_seconds"] = time.perf_counter() - began
        row["scaled_by"] = bars.provenance["error_bars"]["scaled_by"]
        hits = covered(bars, metrics.alignment)
        row |= {f"{name}_covered": [int(hit.sum()), int(hit.size)] for name, hit in hits.items()}
    return row


MISPLACED = 0.7
"""Error of the recorded positions, px rms, of the scans whose positions are refined."""


def run_refined(case: Row) -> Row:
    """A reconstruction of a spiral with a wrong probe and wrong positions, both refined: coverage of its error bars."""
    scan = diptych.simulate(
        object=case["object"],
        size=case["size"],
        patterns=case["patterns"],
        step=case["size"] / 8,
        trajectory="fermat-spiral",
        dose=case["dose"],
        seed=case["seed"],
        probe_error=BLIND,
        position_error=MISPLACED,
    )
    result = diptych.reconstruct(scan, probe="refine", correct_positions="on", error_bars=True)
    metrics = diptych.evaluate(result, scan)
    assert metrics.alignment is not None
    hits = covered(result, metrics.alignment)
    found = {f"{name}_covered": [int(hit.sum()), int(hit.size)] for name, hit in hits.items()}
    return {**case, "complex_error": metrics["complex_error"], **found}


def ratio_table(rows: list[Row]) -> str:
    """Median ratio over seeds, a line for each probe, trajectory and object, a column for each dose."""
    doses = sorted({row["dose"] for row in rows})
    lines = ["| Probe | Scan | Object | " + " | ".join(f"{dose:.0e}" for dose in doses) + " |"]
    lines.append("|---|---|---|" + "---:|" * len(doses))
    groups: dict[tuple[Any, ...], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["blind"], row["trajectory"], row["object"]][row["dose"]].append(row["ratio"])
    for (blind, trajectory, kind), found in sorted(groups.items()):
        cells = [f"{np.median(found[dose]):.2f}" if dose in found else "" for dose in doses]
        lines.append(f"| {'blind' if blind else 'known'} | {trajectory} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def coverage_table(rows: list[Row]) -> str:
    """Share of the pixels inside their 90 % intervals, pooled over seeds."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if "amplitude_covered" in row:
            groups[row["blind"], row["object"], row["dose"]].append(row)
    lines = ["| Probe | Object | Photons | Amplitude | Phase | Pixels |", "|---|---|---:|---:|---:|---:|"]
    for (blind, kind, dose), some in sorted(groups.items()):
        shares = []
        for name in ("amplitude", "phase"):
            inside, total = np.sum([row[f"{name}_covered"] for row in some], axis=0)
            shares.append(f"{100 * inside / total:.1f} %" if total else "none")
        lines.append(f"| {'blind' if blind else 'known'} | {kind} | {dose:.0e} | {' | '.join(shares)} | {total} |")
    return "\n".join(lines)


def write_tables(rows: list[Row]) -> None:
    """Replace what stands between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("ratio", ratio_table(rows)), ("coverage", coverage_table(rows))):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, rest = text.split(begin)
        text = head + begin + "\n\n" + table + "\n\n" + end + rest.split(end)[1]
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    """Run what the results file lacks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("bound.jsonl"))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--patterns", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--doses", type=float, nargs="+", default=DOSES)
    parser.add_argument("--write", action="store_true", help="Put the tables into the documentation.")
    parser.add_argument("--tables-only", action="store_true", help="Run nothing.")
    parser.add_argument("--positions", action="store_true", help="Only natural and blocks with refined positions.")
    given = parser.parse_args()
    if given.positions:
        cases = itertools.product(("natural", "blocks"), (1e5, 1e6), range(given.seeds))
        names = {"size": given.size, "patterns": given.patterns, "blind": True}
        refined = [run_refined({**names, "object": kind, "dose": dose, "seed": seed}) for kind, dose, seed in cases]
        print(*map(json.dumps, refined), coverage_table(refined), sep="\n")
        return
    lines = given.results.read_text(encoding="utf-8").splitlines() if given.results.exists() else []
    rows: list[Row] = [json.loads(line) for line in lines]
    names = ("object", "size", "patterns", "trajectory", "dose", "blind", "seed")
    done = {tuple(row[name] for name in names) for row in rows}
    limits: dict[str, float] = {}
    grid = itertools.product(range(given.seeds), (True, False), TRAJECTORIES, OBJECTS, given.doses)
    for seed, blind, trajectory, kind, dose in grid:
        case = dict(zip(names, (kind, given.size, given.patterns, trajectory, dose, blind, seed), strict=True))
        if given.tables_only or tuple(case.values()) in done:
            continue
        row = run(case, limits)
        rows.append(row)
        with given.results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print(ratio_table(rows), coverage_table(rows), sep="\n\n")
    if given.write:
        write_tables(rows)


if __name__ == "__main__":
    main()
