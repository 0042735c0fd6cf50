"""Ten faults of real scans x four objects x three doses: error, fit, flags and seconds of reconstructions by default.

Each fault is put into a simulated scan with a blind probe. A line per run goes to standard output as JSON; ``--write``
puts the table into the documentation. ``--clean`` runs scans without fault on jittered rasters and spirals instead, and
counts false flags. Lines that a results file already holds are not run again; new ones go to the first file. With
``--no-run`` the table is made of the lines that are there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import diptych
from diptych.ptycho.engines.flags.base import faults
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.io.raw import reread

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "robustness.md"
OBJECTS = ("blocks", "natural", "lines", "dead-leaves")
DOSES = (1e4, 1e5, 1e6)
LIMIT = 1.5
"""An error above this many times that of the clean scan must come with a flag that names the fault."""

PATHS = ("jittered-raster", "fermat-spiral")

Key = tuple[str, float, int, str]
"""Object, dose, seed, and fault or path of positions."""

Make = Callable[[], tuple[diptych.Scan, diptych.Canvas | None]]

Change = Callable[[diptych.Scan, np.random.Generator], diptych.Scan]


def _counts(change: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]) -> Change:
    """A fault of the counts (M, N, N) alone."""
    return lambda scan, rng: replace(scan, counts=change(scan.counts.astype(np.float32), rng))


def _frames(count: int, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Change:
    """A fault of some frames, drawn at random."""

    def changed(counts: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        bad = rng.choice(len(counts), count, replace=False)
        counts[bad] = change(counts[bad])
        return counts

    return _counts(changed)


def _intensity(counts: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Beam intensity that varies by 30 %: a share of each frame's photons, so that the noise stays Poisson's."""
    factors = 1 + 0.3 * rng.uniform(-1, 1, len(counts))
    return rng.binomial(counts.astype(np.int64), factors[:, None, None] / 1.3).astype(np.float32)


def _hot(counts: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Two hot pixels in all frames."""
    for y, x in rng.integers(4, counts.shape[-1] - 4, (2, 2)):
        counts[:, y, x] += rng.poisson(0.02 * counts.sum((1, 2)))
    return counts


def _dead_lines(counts: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A row and a column near the middle that always read zero."""
    middle = counts.shape[-1] // 2
    y, x = middle + rng.integers(-6, 7, 2)
    counts[:, y], counts[:, :, x] = 0, 0
    return counts


def _clipped(counts: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Counts stored in 8 bits, the largest ones clipped; scaled so that 0.3 % of the pixels are."""
    return np.minimum(counts, min(255.0, np.quantile(counts, 0.997))).astype(np.uint8)


def _outlier(scan: diptych.Scan, rng: np.random.Generator) -> diptych.Scan:
    """One position far outside the scan."""
    positions = scan.positions.copy()
    positions[rng.integers(len(positions))] = 1500.0
    return replace(scan, positions=positions, truth=None)


FAULTS: dict[str, Change] = {
    "orientation": lambda scan, rng: replace(reread(scan, LoadOptions(orientation=4)), truth=None),
    "late frames": _counts(lambda counts, rng: np.roll(counts, 1, 0)),
    "random order": _counts(lambda counts, rng: counts[rng.permutation(len(counts))]),
    "intensity +-30 %": _counts(_intensity),
    "empty frames": _frames(10, lambda frames: 0 * frames),
    "frames x 30": _frames(3, lambda frames: 30 * frames),
    "hot pixels": _counts(_hot),
    "dead lines": _counts(_dead_lines),
    "clipping": _counts(_clipped),
    "position outlier": _outlier,
}

NAMED = {
    "orientation": "--orientation 4",
    "late frames": "one position early",
    "random order": "order of frames",
    "intensity +-30 %": "beam intensity",
    "empty frames": "without photons",
    "frames x 30": "far more photons",
    "hot pixels": "hot pixels",
    "dead lines": "are zero in all frames",
    "clipping": "saturated",
    "position outlier": "overlap no other frame",
}
"""Words of a flag that names the fault."""

BEFORE = {
    "orientation": "6.5, no flag (1e4 photons)",
    "late frames": "6.1, no flag (1e4 photons)",
    "random order": "fit 9.0, wrong advice",
    "intensity +-30 %": "2.3, wrong advice",
    "empty frames": "20, wrong flag",
    "frames x 30": "27, wrong flag",
    "hot pixels": "5.4, no flag",
    "dead lines": "4.7, no flag",
    "clipping": "16, no flag",
    "position outlier": "picture black, no flag",
}
"""Error over that of the clean scan before these faults were handled: one scan of blocks, 1e5 photons unless said."""


def main() -> None:
    """Run what the results files lack, print a line per run, and write the table where asked."""
    arguments = parse()
    files = arguments.results
    files[0].parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]
    done = {tuple(row["key"]) for row in rows}
    for key, make in () if arguments.no_run else cases(arguments):
        if key not in done:
            rows.append({"key": key, **run(*make())})
            with files[0].open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    mark, text = ("clean", clean_summary(rows)) if arguments.clean else ("measured", summary(rows))
    print(text)
    if arguments.write:
        head, _, tail = PAGE.read_text(encoding="utf-8").partition(f"<!-- {mark} -->")
        _, _, tail = tail.partition(f"<!-- /{mark} -->")
        PAGE.write_text(f"{head}<!-- {mark} -->\n{text}\n<!-- /{mark} -->{tail}", encoding="utf-8")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--objects", nargs="+", default=OBJECTS)
    add("--doses", nargs="+", type=float, default=DOSES)
    add("--faults", nargs="+", default=list(FAULTS), help="by default all")
    add("--seeds", type=int, default=1, help="scans of each kind; 5 for --clean in the documentation")
    add("--clean", action="store_true", help="scans without fault, on rasters and spirals: count the false flags")
    add(
        "--results", type=Path, nargs="+", default=[HERE / "results" / "robust.jsonl"], help="new lines: the first file"
    )
    add("--no-run", action="store_true", help="make the table of the lines that are there")
    add("--write", action="store_true", help="write the table into docs/robustness.md")
    return parser.parse_args()


def cases(arguments: argparse.Namespace) -> Iterator[tuple[Key, Make]]:
    """Key of every run, and what makes its scan and true object."""
    for seed in range(1, arguments.seeds + 1):
        for kind in arguments.objects:
            for dose in arguments.doses:
                for path in PATHS if arguments.clean else PATHS[:1]:
                    name = "clean" if path == PATHS[0] else path
                    yield (kind, dose, seed, name), partial(faulty, kind, dose, seed, path)
                for name in () if arguments.clean else arguments.faults:
                    yield (kind, dose, seed, name), partial(faulty, kind, dose, seed, PATHS[0], FAULTS[name])


def faulty(
    kind: str, dose: float, seed: int, path: str, fault: Change | None = None
) -> tuple[diptych.Scan, diptych.Canvas | None]:
    """A scan, with a fault or without, and its true object."""
    scan = simulated(kind, dose, seed, path)
    return scan if fault is None else fault(scan, np.random.default_rng([seed, 7])), scan.truth


def simulated(kind: str, dose: float, seed: int, path: str) -> diptych.Scan:
    """A scan of 144 patterns with a blind probe."""
    return diptych.simulate(
        object=kind, size=64, patterns=144, step=8, dose=dose, probe_error=0.5, trajectory=path, seed=seed
    )


def run(scan: diptych.Scan, truth: diptych.Canvas | None) -> dict[str, Any]:
    """Reconstruct without options: error, fits, flags, seconds."""
    began = time.perf_counter()
    result = diptych.reconstruct(scan)
    seconds = time.perf_counter() - began
    try:
        error = float(diptych.evaluate(result, truth=truth)["complex_error"])
    except diptych.InputError:
        error = float("nan")
    fits = {name: float(result.provenance[name]) for name in ("fit", "held_out_fit")}
    return {"error": error, **fits, "seconds": round(seconds, 1), "flags": list(result.flags)}


def summary(rows: list[dict[str, Any]]) -> str:
    """Error over that of the clean scan, and the share of runs whose flags name the fault, as a Markdown table."""
    clean = {tuple(row["key"][:3]): row["error"] for row in rows if row["key"][3] == "clean"}
    lines = ["| fault | before | runs | error / clean error, median (worst) | named | above 1.5, not named | seconds |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in ("clean", *FAULTS):
        if not (these := [row for row in rows if row["key"][3] == name]):
            continue
        ratios = [row["error"] / clean.get(tuple(row["key"][:3]), np.nan) for row in these]
        # A clean scan has no fault to name: every flag is false.
        named = [
            any(NAMED[name] in flag for flag in row["flags"]) if name in NAMED else bool(faults(row["flags"]))
            for row in these
        ]
        silent = sum(not ratio <= LIMIT and not said for ratio, said in zip(ratios, named, strict=True))
        known = [ratio for ratio in ratios if np.isfinite(ratio)]
        ratio = f"{np.median(known):.2f} ({max(known):.2f})" if known else "no common image"
        before, seconds = BEFORE.get(name, ""), np.median([row["seconds"] for row in these])
        lines.append(f"| {name} | {before} | {len(these)} | {ratio} | {sum(named)} | {silent} | {seconds:.0f} |")
    return "\n".join(lines)


def clean_summary(rows: list[dict[str, Any]]) -> str:
    """False flags of scans without fault by dose and path, as a Markdown table."""
    lines = [
        "| photons | positions | runs | false flags | error, median (worst) | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for dose in sorted({row["key"][1] for row in rows}):
        for name, path in zip(("clean", PATHS[1]), PATHS, strict=True):
            if these := [row for row in rows if row["key"][1] == dose and row["key"][3] == name]:
                errors, seconds = ([row[what] for row in these] for what in ("error", "seconds"))
                false = sum(bool(faults(row["flags"])) for row in these)
                error = f"{np.median(errors):.3f} ({max(errors):.3f})"
                cells = (f"{dose:.0e}", path, len(these), false, error, f"{np.median(seconds):.0f}")
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
