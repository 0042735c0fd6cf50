"""Compare networks trained with and without labels: effect of physics, overlap and likelihood at two doses.

Simulated scans of ``lines`` objects, N = 64, 1,024 training patterns and another object for evaluation, three seeds.
Every training is a separate process; finished ones are stored in the JSON file, so that an interrupted benchmark
continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean
from typing import Any

from diptych.runtime import provenance

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "network.md"

METHODS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "labels": ("labels, one pattern (PtychoNN-like)", 1e9, {"supervision": "labels", "gridsize": 1}),
    "g1": ("physics, one pattern", 1e9, {"gridsize": 1}),
    "g2": ("physics, groups of four, Poisson", 1e9, {}),
    "g2-mae": ("physics, groups of four, amplitude MAE", 1e9, {"loss": "mae"}),
    "low-poisson": ("physics, groups of four, Poisson", 1e4, {}),
    "low-mae": ("physics, groups of four, amplitude MAE", 1e4, {"loss": "mae"}),
    "low-poisson-seen": ("the same, Poisson, no photons withheld", 1e4, {"withheld": 0.0}),
    "low-mae-seen": ("the same, amplitude MAE, no photons withheld", 1e4, {"loss": "mae", "withheld": 0.0}),
}
"""Title, photons per pattern, and options other than the defaults."""

UNTIL_IT_STOPS_FALLING = {"epochs": 200, "schedule": "plateau", "patience": 12}
"""The baseline trains until its validation error stops falling; the others see each pattern four times in each of
``--epochs``."""

METRICS = {
    "complex_error": "err",
    "amplitude_mae": "amplitude MAE",
    "phase_mae": "phase MAE, rad",
    "frc50": "FRC 0.5, of Nyquist",
}

SCAN = {"object": "lines", "size": 64, "step": 8.0}
TRAIN, TEST = 1024, 400


def main() -> None:
    """Train what is missing, print the tables, and update the page if requested."""
    arguments = parse()
    if arguments.one:
        name, seed = arguments.one
        print(json.dumps(measure(name, int(seed), arguments.epochs, arguments.threads, arguments.precision)))
        return
    found: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"runs": {}}
    wanted = [
        (name, seed) for seed in arguments.seeds for name in arguments.methods if f"{name}/{seed}" not in found["runs"]
    ]
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for done in as_completed([pool.submit(in_process, arguments, *job) for job in wanted]):
            key, outcome = done.result()
            found["runs"][key] = outcome
            found["conditions"] = conditions(arguments)
            arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
            print(
                f"{key}: {', '.join(f'{title} {outcome[metric]:.4f}' for metric, title in METRICS.items())}",
                file=sys.stderr,
            )
    text = report(found)
    print(text)
    if arguments.write:
        import tables

        tables.write(PAGE, text)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    add("--seeds", nargs="+", type=int, default=(0, 1, 2))
    add("--epochs", type=int, default=12, help="epochs of the groups of four")
    add("--jobs", type=int, default=2, help="trainings at the same time")
    add("--threads", type=int, default=1, help="CPU threads of each training")
    add("--precision", default="bf16-mixed", help="arithmetic of the convolutions")
    add("--json", type=Path, default=HERE / "results" / "neural.json", help="results so far; delete it to start again")
    add("--write", action="store_true", help=f"renew the tables in {PAGE.relative_to(HERE.parent)}")
    add("--one", nargs=2, metavar=("METHOD", "SEED"), help=argparse.SUPPRESS)
    return parser.parse_args()


def in_process(arguments: argparse.Namespace, name: str, seed: int) -> tuple[str, dict[str, Any]]:
    """Do one training in a separate process."""
    settings = [
        "--epochs",
        arguments.epochs,
        "--threads",
        arguments.threads,
        "--precision",
        arguments.precision,
        "--one",
        name,
        seed,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, settings)], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    return f"{name}/{seed}", json.loads(done.stdout.splitlines()[-1])


def measure(name: str, seed: int, epochs: int, threads: int, precision: str) -> dict[str, Any]:
    """Train on one object, reconstruct another, and evaluate with scale, phase, ramp and shift removed."""
    import diptych
    from diptych.ptycho.neural.options import TrainerOptions
    from diptych.runtime.device import ExecutionOptions

    _, dose, options = METHODS[name]
    train = diptych.simulate(**SCAN, patterns=TRAIN, dose=dose, seed=seed)
    test = diptych.simulate(**SCAN, patterns=TEST, dose=dose, seed=seed + 100)
    length = UNTIL_IT_STOPS_FALLING if name == "labels" else {"epochs": epochs * 4 // options.get("gridsize", 2) ** 2}
    options = {"seed": seed, **length, **options}
    began = time.perf_counter()
    trainer = TrainerOptions(device="cpu", threads=threads, precision=precision, pictures=False, logger="none")
    model = diptych.train([train], trainer=trainer, **options)
    seconds = time.perf_counter() - began
    result = model.reconstruct(test, execution=ExecutionOptions(device="cpu", threads=threads), canvas_passes=0)
    judged = diptych.evaluate(result, test.truth, gauge="full")
    training = {key: model.provenance[key] for key in ("epochs", "best_epoch")}
    speed = {"patterns_per_second": result.provenance["patterns_per_second"], "seconds": seconds}
    return {**{metric: judged[metric] for metric in METRICS}, **training, **speed, "fit": result.provenance["fit"]}


def conditions(arguments: argparse.Namespace) -> dict[str, Any]:
    """Conditions of the measurement."""
    return {
        "date": provenance.utc_now(),
        "commit": provenance.commit(),
        "epochs": arguments.epochs,
        "threads": arguments.threads,
        "jobs": arguments.jobs,
        "precision": arguments.precision,
        "versions": provenance.versions(),
    }


def report(found: dict[str, Any]) -> str:
    """Conditions, one row per method and seed, and a summary."""
    stated = found["conditions"]
    lines = [
        f"{stated['date']}, commit {stated['commit'] or 'unknown'}; {stated['jobs']} trainings at a time with "
        f"{stated['threads']} CPU thread each, "
        f"{stated['precision']}; torch {stated['versions']['torch']}.",
        "",
        "| method | photons | seed | " + " | ".join(METRICS.values()) + " | epochs | minutes |",
        "|" + " --- |" * (len(METRICS) + 5),
    ]
    for name, (title, dose, _) in METHODS.items():
        for key, run in found["runs"].items():
            method, _, seed = key.partition("/")
            if method == name:
                cells = " | ".join(f"{run[metric]:.4f}" for metric in METRICS)
                lines.append(
                    f"| {title} | {dose:.0e} | {seed} | {cells} | {run['epochs']} | {run['seconds'] / 60:.1f} |"
                )
    return "\n".join([*lines, "", *answers(found["runs"])]) + "\n"


def answers(runs: dict[str, Any]) -> list[str]:
    """Summary of the table, as far as its rows exist."""

    def column(method: str, metric: str) -> list[float]:
        return [run[metric] for key, run in sorted(runs.items()) if key.partition("/")[0] == method]

    lines = []
    for other in ("labels", "g1"):
        ours = {metric: column("g2", metric) for metric in METRICS}
        theirs = {metric: column(other, metric) for metric in METRICS}
        if len(ours["frc50"]) == len(theirs["frc50"]) > 0:
            better = {
                title: sum(
                    (a > b) if metric == "frc50" else (a < b) for a, b in zip(ours[metric], theirs[metric], strict=True)
                )
                for metric, title in METRICS.items()
            }
            wins = ", ".join(f"{title} {count} of {len(ours['frc50'])}" for title, count in better.items())
            lines.append(f"* Groups of four without labels beat {METHODS[other][0]}: {wins} seeds.")
    for poisson, mae, dose in (("low-poisson", "low-mae", "1e4"), ("g2", "g2-mae", "1e9")):
        a, b = column(poisson, "phase_mae"), column(mae, "phase_mae")
        if a and b:
            spread = max(max(a) - min(a), max(b) - min(b))
            means = f"Poisson {mean(a):.4f} rad, amplitude MAE {mean(b):.4f} rad (ratio {mean(a) / mean(b):.2f})"
            lines.append(f"* Phase MAE at {dose} photons: {means}; spread between seeds {spread:.4f}.")
    return lines


if __name__ == "__main__":
    main()
