"""Measure how many judgements each method needs: simulated persons judge images singly or four per screen.

Each run is stored in the JSON file, so that an interrupted benchmark continues where it stopped. Methods whose packages
are not installed are skipped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import persons
from methods import METHODS, NEEDS

from diptych.runtime import provenance

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "preference-benchmarks.md"

LABELS = (20, 40, 60, 100, 120, 200)
OWN = "diptych"
REFERENCE = "random design (reference)"
LAST_SHOWN = 20


def main() -> None:
    """Measure what is missing, print the tables, and update the page if requested."""
    arguments = parse()
    found: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"runs": {}}
    chosen = [name for name in arguments.methods if installed(name)]
    jobs = [(*job, seed) for seed in range(arguments.seeds) for job in wanted(arguments, chosen)]
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for person, method, d, per, labels, seed in jobs:
        key = f"{person}/{method}/{d}/{per}/{seed}"
        if str(labels) in found["runs"].get(key, {}).get("recommended", {}):
            continue
        if arguments.minutes and time.monotonic() - began > 60 * arguments.minutes:
            print("time limit reached; run again to continue", file=sys.stderr)
            break
        found["runs"][key] = run(person, method, d, per, labels, seed)
        found["conditions"] = {"date": provenance.utc_now(), "commit": provenance.commit()}
        save(arguments.json, found)
        print(f"{key}: {found['runs'][key]['seconds']:.1f} s", file=sys.stderr)
    text = report(found)
    print(text)
    if arguments.write:
        import tables

        tables.write(PAGE, text)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--persons", nargs="+", choices=persons.NAMES, default=persons.NAMES)
    add("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    add("--dimensions", nargs="+", type=int, default=(256, 4096, 16384))
    add("--screens", nargs="+", type=int, default=(1, 4), help="images per screen")
    add("--seeds", type=int, default=20)
    add("--labels", type=int, default=100, help="labels that each other method gets")
    add("--own-labels", type=int, default=200, help="labels that diptych gets")
    add("--quick", action="store_true", help="under ten minutes: d = 16,384, three persons, four seeds")
    add("--minutes", type=float, default=0.0, help="stop after this many minutes; results so far are kept")
    add(
        "--json",
        type=Path,
        default=HERE / "results" / "preference.json",
        help="results so far; delete it to start again",
    )
    add("--write", action="store_true", help=f"renew the tables in {PAGE.relative_to(HERE.parent)}")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.persons, arguments.dimensions, arguments.seeds = (
            ("linear", "one peak", "drifting utility"),
            (16384,),
            4,
        )
        arguments.minutes = arguments.minutes or 10.0
    return arguments


def installed(method: str) -> bool:
    """Whether the packages of a method are installed; prints a message if not."""
    missing = [package for package in NEEDS.get(method, ()) if find_spec(package) is None]
    if missing:
        print(f"{method}: skipped, {', '.join(missing)} not installed", file=sys.stderr)
    return not missing


def wanted(arguments: argparse.Namespace, methods: list[str]) -> list[tuple[str, str, int, int, int]]:
    """Person, method, d, images per screen and labels of every run of one seed."""
    jobs = []
    for person in arguments.persons:
        if person in persons.IMAGE_PERSONS and find_spec("diptych.prefer.decoders.synthetic") is None:
            print(f"{person}: skipped, there is no synthetic decoder", file=sys.stderr)
            continue
        for d in arguments.dimensions:
            for per in arguments.screens:
                for method in methods:
                    if "16-d" in method and d != 16384:
                        continue
                    jobs.append((person, method, d, per, arguments.own_labels if method == OWN else arguments.labels))
    return jobs


def run(person: str, method: str, d: int, per: int, labels: int, seed: int) -> dict[str, Any]:
    """Let one person judge the images of one method.

    Returns
    -------
    dict
        ``recommended`` and ``shown`` (sigma) by number of labels; for diptych also ``predictions``, pairs of P(good)
        and the answer, and ``gain``, the expected gain of 20 more labels.
    """
    judge = persons.make(person, d, seed)
    learner = METHODS[method](d, np.random.default_rng([seed, d, 3]))
    outcome: dict[str, Any] = {"recommended": {}, "shown": {}, "predictions": [], "gain": {}}
    highest, found, given, began = -math.inf, np.zeros(d), 0, time.perf_counter()
    while given < labels:
        screen = learner.ask(per)
        for latent in screen:
            utility = float(judge.utility(latent[None])[0])
            chance = learner.chance() if method == OWN else math.nan
            good = judge.rate(utility)
            learner.tell(good)
            judge.seen(utility)
            given += 1
            if utility > highest:
                highest, found = utility, latent
            if method == OWN:
                outcome["predictions"].append((round(chance, 5), int(good)))
            if given in LABELS and given <= labels:
                outcome["recommended"][given] = round(float(judge.utility(learner.best(found)[None])[0]), 4)
                outcome["shown"][given] = round(mean(judge.shown[-LAST_SHOWN:]), 4)
                if method == OWN:
                    outcome["gain"][given] = round(learner.gain(), 4)
    outcome["seconds"] = time.perf_counter() - began
    return {
        **outcome,
        **{
            name: {str(key): value for key, value in outcome[name].items()} for name in ("recommended", "shown", "gain")
        },
    }


def save(path: Path, found: dict[str, Any]) -> None:
    """Write the file atomically."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.replace(path)


def report(found: dict[str, Any]) -> str:
    """Tables by person, dimension and screen; then calibration and predicted gains."""
    groups: dict[tuple[str, int, int], dict[str, dict[int, dict[str, Any]]]] = {}
    for key, outcome in found["runs"].items():
        person, method, d, per, seed = key.rsplit("/", 4)
        groups.setdefault((person, int(d), int(per)), {}).setdefault(method, {})[int(seed)] = outcome
    lines = []
    for (person, d, per), methods in sorted(groups.items()):
        lines += ["", f"### {person}, d = {d:,}, {per} per screen", ""]
        lines += [
            "| method | seeds | recommended 20 | 40 | 100 | 200 | shown 100 | mean of both, 100 | diptych minus this |",
            "|" + "---|" * 9,
        ]
        lines += [row(name, seeds, methods.get(OWN, {})) for name, seeds in methods.items()]
    lines += ["", "### Calibration of the predictions", "", *calibration(groups)]
    conditions = found.get("conditions", {})
    return "\n".join(
        [f"{conditions.get('date')}, commit {conditions.get('commit')}. Utilities in sigma, 95 % intervals.", *lines]
    )


def row(name: str, seeds: dict[int, dict[str, Any]], own: dict[int, dict[str, Any]]) -> str:
    """One row of a table."""
    cells = [
        interval([run["recommended"][label] for run in seeds.values() if label in run["recommended"]])
        for label in ("20", "40", "100", "200")
    ]
    done = {seed: run for seed, run in seeds.items() if "100" in run["shown"]}
    cells.append(interval([run["shown"]["100"] for run in done.values()]))
    cells.append(interval([both(run) for run in done.values()]))
    paired = [
        both(own[seed]) - both(run)
        for seed, run in done.items()
        if seed in own and name != OWN and "100" in own[seed]["shown"]
    ]
    return f"| {name} | {len(seeds)} | {' | '.join(cells)} | {interval(paired)} |"


def both(outcome: dict[str, Any]) -> float:
    """Mean of the utility recommended and shown at 100 labels."""
    return (float(outcome["recommended"]["100"]) + float(outcome["shown"]["100"])) / 2


def interval(values: list[float]) -> str:
    """Mean and half the 95 % interval of the mean."""
    if not values:
        return "-"
    half = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{mean(values):.2f} ± {half:.2f}"


def calibration(groups: dict[tuple[str, int, int], dict[str, dict[int, dict[str, Any]]]]) -> list[str]:
    """Calibration of P(good) after the 20th label, and predicted and realised gains."""
    heads = ("person", "d", "per screen", "predictions", "calibration error", "log-loss", "of the running base rate")
    lines = [f"| {' | '.join(heads)} | gain at 20, 40, 100: predicted / realised |"]
    lines.append("|" + "---|" * 8)
    for (person, d, per), methods in sorted(groups.items()):
        runs = list(methods.get(OWN, {}).values())
        if not runs:
            continue
        said = np.concatenate([np.array(run["predictions"][20:]) for run in runs])
        base = np.concatenate([running_base(np.array(run["predictions"])[:, 1])[20:] for run in runs])
        gains = []
        for label, later in (("20", "40"), ("40", "60"), ("100", "120")):
            done = [run for run in runs if later in run["recommended"]]
            if done:
                realised = mean(run["recommended"][later] - run["recommended"][label] for run in done)
                gains.append(f"{mean(run['gain'][label] for run in done):.2f} / {realised:.2f}")
        facts = (
            f"{calibration_error(said):.3f} | {log_loss(said[:, 0], said[:, 1]):.3f} | {log_loss(base, said[:, 1]):.3f}"
        )
        lines.append(f"| {person} | {d:,} | {per} | {len(said):,} | {facts} | {', '.join(gains)} |")
    return lines


def calibration_error(said: np.ndarray) -> float:
    """Expected calibration error: mean distance between predicted and observed P(good) over ten bins, weighted by
    counts.
    """
    bins = np.clip((said[:, 0] * 10).astype(int), 0, 9)
    return float(sum(abs((said[bins == one, 0] - said[bins == one, 1]).sum()) for one in range(10)) / len(said))


def log_loss(chance: np.ndarray, good: np.ndarray) -> float:
    """Mean negative log-probability of the answers, nat."""
    return float(-np.log(np.clip(np.where(good > 0, chance, 1 - chance), 1e-9, 1)).mean())


def running_base(good: np.ndarray) -> np.ndarray:
    """Share of good answers before each answer, with one good and one bad answer added."""
    count = np.arange(len(good))
    return (np.cumsum(good) - good + 1) / (count + 2)


if __name__ == "__main__":
    main()
