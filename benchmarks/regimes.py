"""Error of engine, network, and both together against overlap and dose, with a known probe.

One network is trained on ``lines`` objects at several steps and stored. Every cell (object, step, photons, seed) is one
line of the results file; an interrupted benchmark continues where it stopped. Steps are in units of the probe's 90 %
energy diameter.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import diptych
from diptych.ptycho.neural.options import TrainerOptions
from diptych.ptycho.physics.probe import probe_diameter
from diptych.runtime.device import ExecutionOptions

HERE = Path(__file__).resolve().parent
FIGURE = HERE.parent / "docs" / "pictures" / "network-regimes.png"
SIZE, PASSES = 32, 40
TRAINED_AT = (0.4, 0.55, 0.7, 1.0)
"""Steps of the training scans."""

STEPS_AT = 1e5
"""Photons of the cells that differ in step."""

CPU = ExecutionOptions(device="cpu", threads=1)
METHODS = {
    "engine": "engine",
    "network": "network alone",
    "canvas": f"network, {PASSES} canvas passes",
    "prior": "network as prior",
    "both": "reconstruct with the network",
}


def main() -> None:
    """Train or load the network, measure the cells that are missing, print the table."""
    arguments = parse()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    model = trained(arguments)
    lines = arguments.results.read_text(encoding="utf-8").splitlines() if arguments.results.exists() else []
    # The last line of a cell counts: one that lacks a method is completed.
    done = {key(row): row for row in map(json.loads, lines)}
    for cell in cells(arguments):
        known = done.get(key(cell), cell)
        if not METHODS.keys() <= known.keys():
            done[key(cell)] = measure(model, cell, arguments.patterns, known)
            with arguments.results.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(done[key(cell)]) + "\n")
    rows = list(done.values())
    print(table(rows))
    if arguments.write:
        draw(rows, FIGURE)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--objects", nargs="+", default=("lines", "natural"))
    add("--steps", nargs="+", type=float, default=(0.6, 0.8, 1.0, 1.2), help="at 1e5 photons")
    add("--doses", nargs="+", type=float, default=(1e2, 1e3, 1e4), help="at a step of 0.4")
    add("--seeds", nargs="+", type=int, default=(100, 101, 102))
    add("--patterns", type=int, default=100)
    add("--epochs", type=int, default=30)
    add("--model", type=Path, default=HERE / "results" / "regimes.safetensors", help="trained once, then loaded")
    add("--results", type=Path, default=HERE / "results" / "regimes.jsonl", help="delete it to start again")
    add("--write", action="store_true", help=f"renew the picture {FIGURE.relative_to(HERE.parent)}")
    return parser.parse_args()


def diameter() -> float:
    """90 % energy diameter of the probe, px."""
    return probe_diameter(simulated("lines", 4.0, 1e5, 0, 4).true_probe)


def simulated(kind: str, step: float, dose: float, seed: int, patterns: int) -> Any:
    """A scan with steps of ``step`` px."""
    return diptych.simulate(
        object=kind, size=SIZE, probe="gaussian", patterns=patterns, dose=dose, step=step, seed=seed
    )


def trained(arguments: argparse.Namespace) -> Any:
    """The network: loaded, or trained and stored."""
    if arguments.model.exists():
        return diptych.load_model(arguments.model)
    scans = [simulated("lines", share * diameter(), 1e5, seed, 144) for seed, share in enumerate(TRAINED_AT)]
    trainer = TrainerOptions(device="cpu", threads=1, pictures=False, logger="none")
    model = diptych.train(scans, epochs=arguments.epochs, validation=0.0, trainer=trainer)
    model.save(arguments.model)
    return model


def cells(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All combinations, one seed after the other."""
    regimes = [(step, STEPS_AT) for step in arguments.steps] + [(0.4, dose) for dose in arguments.doses]
    return [
        {"object": kind, "step": step, "dose": dose, "seed": seed}
        for seed in arguments.seeds
        for kind in arguments.objects
        for step, dose in regimes
    ]


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What identifies a cell."""
    return row["object"], row["step"], row["dose"], row["seed"]


def measure(model: Any, cell: dict[str, Any], patterns: int, known: dict[str, Any]) -> dict[str, Any]:
    """Errors of all methods on one scan, and what the held-out pixels said; those that are known are not repeated."""
    scan = simulated(cell["object"], cell["step"] * diameter(), cell["dose"], cell["seed"], patterns)
    runs: dict[str, Callable[[], Any]] = {
        "engine": lambda: diptych.reconstruct(scan, probe="fixed", execution=CPU),
        "network": lambda: model.reconstruct(scan, execution=CPU, canvas_passes=0),
        "canvas": lambda: model.reconstruct(scan, execution=CPU, canvas_passes=PASSES),
        "prior": lambda: model.reconstruct(scan, execution=CPU, canvas_passes=PASSES, network_prior=True),
        "both": lambda: diptych.reconstruct(scan, model, probe="fixed", execution=CPU),
    }
    row = dict(known)
    for name, run in runs.items():
        if name not in known:
            image = run()
            row[name] = diptych.evaluate(image, scan.truth, gauge="phase")["complex_error"]
            if name == "both":
                row["evidence"] = image.provenance["network_result"]
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over seeds, and the largest ratio of the error of both to the engine's."""
    lines = [
        "| object | step | photons | " + " | ".join(METHODS) + " | largest both / engine | seeds |",
        "|" + " --- |" * (len(METHODS) + 5),
    ]
    for kind, step, dose in sorted({key(row)[:3] for row in rows}):
        some = [row for row in rows if key(row)[:3] == (kind, step, dose)]
        middle = " | ".join(f"{median(row[name] for row in some):.3f}" for name in METHODS)
        worst = max(row["both"] / row["engine"] for row in some)
        lines.append(f"| {kind} | {step:.0%} | {dose:.0e} | {middle} | {worst:.2f} | {len(some)} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Median errors against step and against photons, one row of panels for each kind of object."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    kinds = list(dict.fromkeys(row["object"] for row in rows))
    axes = {"step": "step / 90 % energy diameter, 1e5 photons", "dose": "photons per pattern, step 0.4"}
    figure = Figure(figsize=(9.0, 3.3 * len(kinds) + 0.6), layout="constrained")
    panels = figure.subplots(len(kinds), 2, squeeze=False)
    for row_of_panels, kind in zip(panels, kinds, strict=True):
        for panel, (column, label) in zip(row_of_panels, axes.items(), strict=True):
            shown = [row for row in rows if row["object"] == kind and (row["dose"] == STEPS_AT) == (column == "step")]
            values = sorted({row[column] for row in shown})
            for name, title in METHODS.items():
                middle = [median(row[name] for row in shown if row[column] == value) for value in values]
                style = (
                    {"linestyle": "--", "marker": "s", "markersize": 9, "fillstyle": "none"} if name == "both" else {}
                )
                panel.plot(values, middle, **{"marker": "o", "markersize": 5, **style}, label=title)
            panel.set(xlabel=label, ylabel="relative error", yscale="log", title=kind)
            panel.set_xscale("log" if column == "dose" else "linear")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            panel.yaxis.set_minor_locator(NullLocator())
            panel.yaxis.set_major_formatter("{x:g}")
            panel.grid(alpha=0.3)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
