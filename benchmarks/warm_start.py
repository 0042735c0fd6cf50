"""Compare a network image with a flat object as initial guess: epochs and seconds to the final fit of the flat start,
and final errors.

One network is trained on a ``lines`` object and stored; then the engine starts from flat and from the network on
similar scans and on random ones with other objects, doses, steps and wrong probes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import diptych
from diptych.ptycho.neural.options import TrainerOptions

HERE = Path(__file__).resolve().parent

REACHED = 1.05
"""A fit below this many times the flat start's final fit counts as the same."""


def main() -> None:
    """Train or load the network, run both starts on every scan, print one row per scan and a summary."""
    arguments = parse()
    if arguments.model.exists():
        model = diptych.load_model(arguments.model)
    else:
        scan = diptych.simulate(object="lines", size=64, step=8.0, patterns=1024, dose=1e7, seed=0)
        trainer = TrainerOptions(precision=arguments.precision, pictures=False, logger="none")
        model = diptych.train([scan], epochs=arguments.epochs, trainer=trainer)
        arguments.model.parent.mkdir(parents=True, exist_ok=True)
        model.save(arguments.model)
    rows = []
    for name, options in [*alike(arguments.alike), *anything(arguments.random)]:
        rows.append(row(name, options, model))
        print(json.dumps(rows[-1]), flush=True)
    print(summary(rows), file=sys.stderr)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, default=HERE / "results" / "lines.safetensors", help="trained once, then loaded")
    add("--epochs", type=int, default=10)
    add("--precision", default="bf16-mixed", help="arithmetic of the convolutions in training")
    add("--alike", type=int, default=4, help="scans similar to the training scan")
    add("--random", type=int, default=20, help="random scans")
    return parser.parse_args()


def alike(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Other ``lines`` objects at the dose of the training."""
    return [
        (f"alike {i}", {"object": "lines", "size": 64, "step": 8.0, "patterns": 400, "dose": 1e7, "seed": 100 + i})
        for i in range(count)
    ]


def anything(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Random objects, doses, steps and errors of the probe."""
    rng = np.random.default_rng(0)
    kinds = ["natural", "lines", "gaussian-field", "siemens-star", "dead-leaves", "blocks"]
    found = []
    for i in range(count):
        low, span = rng.uniform(0.2, 0.8), rng.uniform(0.2, 2.5)
        options = {
            "object": kinds[rng.integers(len(kinds))],
            "amplitude": (round(low, 2), 1.0),
            "phase": (round(-span, 2), round(span, 2)),
            "size": 64,
            "step": round(rng.uniform(5, 10), 1),
            "patterns": 196,
            "dose": round(10 ** rng.uniform(4, 9)),
            "probe_error": float(rng.choice([0.0, 0.0, 0.3, 1.0])),
            "seed": 1000 + i,
        }
        found.append((f"random {i}", options))
    return found


def row(name: str, options: dict[str, Any], model: Any) -> dict[str, Any]:
    """Both starts on one scan."""
    scan = diptych.simulate(**options)
    outcome: dict[str, Any] = {"scan": name, **{key: options[key] for key in ("object", "dose") if key in options}}
    target = None
    for start in ("flat", "network"):
        began = time.perf_counter()
        result = diptych.reconstruct(scan, model=model if start == "network" else None)
        seconds = time.perf_counter() - began
        fits = result.history["fit"]
        target = REACHED * fits[-1] if target is None else target
        outcome[start] = {
            "err": diptych.evaluate(result, scan.truth)["complex_error"],
            "epochs": len(fits),
            "seconds": round(seconds, 2),
            "to_fit": next((i + 1 for i, fit in enumerate(fits) if fit <= target), None),
        }
        if start == "network":
            outcome["from"] = result.provenance["start"]["object"]
    return outcome


def summary(rows: list[dict[str, Any]]) -> str:
    """Largest ratio of errors, and ratios of epochs and times."""
    ratios = [each["network"]["err"] / each["flat"]["err"] for each in rows]
    fewer = [
        each["flat"]["to_fit"] / each["network"]["to_fit"]
        for each in rows
        if each["scan"].startswith("alike") and each["network"]["to_fit"]
    ]
    faster = [each["flat"]["seconds"] / each["network"]["seconds"] for each in rows if each["scan"].startswith("alike")]
    taken = sum(each["from"] == "network" for each in rows)
    return (
        f"{len(rows)} scans, network image accepted on {taken}; error with the network over error from flat: median "
        f"{np.median(ratios):.3f}, "
        f"largest {max(ratios):.3f}. On similar scans: {np.round(fewer, 1)} times fewer epochs to {REACHED} x the flat "
        f"start's fit, "
        f"{np.round(faster, 2)} times faster in all."
    )


if __name__ == "__main__":
    main()
