"""Job functions of studio beside those of the panels: obtain, simulate, check, resolution, photon limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.runtime.files import write_text
from diptych.runtime.jobs import Finished, JobContext, stopping

STAR = "siemens-star"


def fetch_star(out: str, *, context: JobContext) -> Finished:
    """Obtain the measured Siemens star and write it to ``out`` (.npz)."""
    from diptych.ptycho.datasets import fetch
    from diptych.ptycho.io import save

    return Finished({"file": str(save(fetch(STAR, stopping(context)), Path(out)))})


def simulate_scan(out: str, options: Mapping[str, Any] | None = None, *, context: JobContext) -> Finished:
    """Simulate a scan and write it to ``out`` (.npz)."""
    from diptych.ptycho.io import save
    from diptych.ptycho.simulate import SimulationOptions, simulate

    scan = simulate(SimulationOptions.build(dict(options or {})), progress=stopping(context))
    return Finished({"file": str(save(scan, Path(out)))})


def check_scan(file: str, load: Mapping[str, Any], *, context: JobContext) -> Finished:
    """Rank orientations, signs and centring of a scan; ``rows`` hold the options of ``load`` where there are any."""
    from diptych.ptycho.check import check
    from diptych.ptycho.engines.flags.readings import orientations
    from diptych.ptycho.io import LoadOptions, load_scan

    found = check(load_scan(Path(file), LoadOptions.build(dict(load))), progress=stopping(context))
    known = {reading.name: reading.changes for reading in orientations()}
    rows = [{**row, "options": known.get(row["reading"]) or _changes(row["change"])} for row in found.rows]
    return Finished({"rows": rows, "advice": found.advice})


def resolution(result: str, scan: str, load: Mapping[str, Any], *, context: JobContext) -> Finished:
    """Reconstruct two halves of the data and correlate them; ``frc.json`` and ``frc.png`` go beside the result."""
    from diptych.ptycho.evaluate import evaluate_without_truth
    from diptych.ptycho.figures.overview import plot_frc, save_figure
    from diptych.ptycho.io import LoadOptions, load_result, load_scan

    path = Path(result)
    metrics = evaluate_without_truth(
        load_scan(Path(scan), LoadOptions.build(dict(load))), load_result(path), progress=stopping(context)
    )
    found = metrics.to_dict()
    write_text(path.with_name("frc.json"), json.dumps(found, indent=2, allow_nan=False) + "\n")
    save_figure(plot_frc(metrics), path.with_name("frc.png"))
    return Finished({"metrics": found, "figure": str(path.with_name("frc.png"))})


def photon_limit(
    result: str, scan: str, load: Mapping[str, Any], options: Mapping[str, Any], *, context: JobContext
) -> Finished:
    """Compute the photon limit of a result; ``limit.json`` and ``limit.png`` go beside it."""
    from diptych.ptycho.evaluate.limit import bound
    from diptych.ptycho.evaluate.limit.options import BoundOptions
    from diptych.ptycho.figures.limit import plot_limit
    from diptych.ptycho.figures.overview import save_figure
    from diptych.ptycho.io import LoadOptions, load_result, load_scan
    from diptych.runtime.run_directory import plain

    path = Path(result)
    found = bound(
        load_scan(Path(scan), LoadOptions.build(dict(load))),
        load_result(path),
        BoundOptions.build(dict(options)),
        progress=stopping(context),
    )
    write_text(path.with_name("limit.json"), json.dumps(plain(found.to_dict()), indent=2, allow_nan=False) + "\n")
    save_figure(plot_limit(found), path.with_name("limit.png"))
    return Finished({"statement": found.statement(), "figure": str(path.with_name("limit.png"))})


def _changes(flags: str) -> dict[str, Any]:
    """Options of ``load`` from the flags that ``check`` states; empty where it states a sentence."""
    from diptych.ptycho.io import LoadOptions

    words = flags.split()
    found: dict[str, Any] = {}
    while words:
        name = words.pop(0).removeprefix("--").replace("-", "_")
        if name not in LoadOptions.model_fields:
            return {}
        found[name] = json.loads(words.pop(0)) if words and not words[0].startswith("--") else True
    return found
