"""Measure diptych's engines against bare FFTs and against engines of other packages, interleaved in one run.

Every run is a separate process, and one runs at a time. README.md explains the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import peers
import problems
import tables
from scoring import Scorer, own_scorer, scored, scorer_from

from diptych.runtime import provenance

HERE = Path(__file__).resolve().parent

OWN_ENGINES = ("auto", "rpie", "epie", "dm", "raar")

TIMING = "n128_1e6"
"""Problem that measures seconds per epoch; it runs as many epochs as the automatic engine needs to reach its last
stage.
"""

TIMING_EPOCHS = 45

QUICK_EPOCHS = 8

DISTRIBUTIONS = {"PtyLab": "ptylab", "ptychi": "ptychi", "cdtools": "cdtools-py"}
"""Import name and distribution name of each package."""


VERSIONS = """
import importlib.metadata, json, sys
installed = {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}
print(json.dumps({name: installed.get(name) for name in sys.argv[1:]}))
"""
"""Program that prints the versions of the distributions named as its arguments."""


def main() -> None:
    """Measure, print the tables, write the JSON."""
    arguments = parse()
    environment = worker_environment(arguments.threads, arguments.passive)
    bench = Bench(arguments, environment)
    load_before = load()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.problems:
            bench.measure(name, Path(folder))
    found = {
        "date": provenance.utc_now(),
        "commit": provenance.commit(),
        "versions": provenance.versions() | bench.peer_versions,
        "threads": arguments.threads,
        "cores": os.cpu_count(),
        "waits": "passive" if arguments.passive else "default",
        "load_before": load_before,
        "load_after": load(),
        "scorer": "diptych.evaluate" if arguments.scorer is None else f"score() of {arguments.scorer.name}",
    }
    results = {"conditions": found, "runs": bench.runs, "skipped": bench.skipped}
    text = tables.report(results)
    print(text)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(f"written: {arguments.json}", file=sys.stderr)
    if arguments.write:
        tables.write(HERE / "README.md", text)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--problems", nargs="+", choices=tuple(problems.PROBLEMS), default=tuple(problems.PROBLEMS))
    add("--engines", nargs="+", choices=OWN_ENGINES, default=OWN_ENGINES, help="diptych's engines; auto always runs")
    add(
        "--peers",
        default=os.environ.get("DIPTYCH_PEERS_PYTHON"),
        metavar="PYTHON",
        help="interpreter of the peers' environment",
    )
    add("--peer-engines", nargs="*", choices=tuple(peers.ENGINES), default=tuple(peers.ENGINES))
    add(
        "--peer-problems",
        nargs="*",
        choices=tuple(problems.PROBLEMS),
        default=("int_1e6",),
        help="problems on which peers run",
    )
    add("--peer-seconds", type=float, default=100.0, help="a peer is stopped after this measured time, s")
    add("--repeats", type=int, default=2, help="rounds of diptych, peer, diptych, peer ...")
    add("--threads", type=int, default=2)
    add(
        "--epochs",
        type=int,
        help="most epochs of each of diptych's engines; without it they stop automatically",
    )
    add(
        "--passive",
        action="store_true",
        help="let OpenMP threads sleep while they wait, for machines that are not idle",
    )
    add("--scorer", type=Path, metavar="FILE", help="Python file whose score() is used instead of diptych.evaluate")
    add("--json", type=Path, default=Path("results/engines.json"), help="file for all numbers")
    add("--write", action="store_true", help="put the tables into benchmarks/README.md")
    add(
        "--quick",
        action="store_true",
        help="under two minutes: no peers, one round, few epochs of all but the automatic engine",
    )
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.threads < 1:
        parser.error("--repeats and --threads must be at least 1")
    if arguments.quick:
        arguments.peers, arguments.repeats, arguments.problems = None, 1, ("int_1e6", TIMING)
    return arguments


def worker_environment(threads: int, passive: bool) -> dict[str, str]:
    """Environment of the workers: equal threads for every library, default OpenMP waits unless ``passive``."""
    variables = {
        key: value
        for key, value in os.environ.items()
        if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "PYTHONPATH")
    }
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    variables |= dict.fromkeys(counts, str(threads)) | {"MPLBACKEND": "Agg", "TQDM_DISABLE": "1"}
    return variables | ({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"} if passive else {})


def load() -> str:
    """Load average of the last minute, where the system reports it."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


class Bench:
    """Runs the workers one after the other and collects their records."""

    def __init__(self, arguments: argparse.Namespace, environment: dict[str, str]) -> None:
        self._arguments = arguments
        self._environment = environment
        self.runs: list[dict[str, Any]] = []
        self.skipped: dict[str, str] = {}
        self.peer_versions: dict[str, str] = {}
        self._peers = [] if arguments.quick else self._find_peers()

    def measure(self, name: str, folder: Path) -> None:
        """Do all runs on one problem."""
        scan = problems.make(problems.PROBLEMS[name])
        path = problems.write(scan, folder / f"{name}.npz")
        scorer = own_scorer(scan) if self._arguments.scorer is None else scorer_from(self._arguments.scorer, scan)
        others: list[str | None] = [*self._peers] if name in self._arguments.peer_problems else []
        turn = 0
        for _ in range(self._arguments.repeats):
            for other in others or [None]:
                turn += 1
                own = self._own(name, tables.AUTO, path, scorer, turn)
                if other is not None:
                    self._peer(name, other, path, scorer, turn, own["bare_s"])
        for engine in self._arguments.engines:
            if engine != tables.AUTO and not (self._arguments.quick and name == TIMING):
                self._own(name, engine, path, scorer, turn)

    def _own(self, problem: str, engine: str, path: Path, scorer: Scorer, turn: int) -> dict[str, Any]:
        epochs = self._arguments.epochs
        if problem == TIMING:
            epochs = min(TIMING_EPOCHS, epochs or TIMING_EPOCHS)
        if self._arguments.quick and engine != tables.AUTO:
            epochs = min(QUICK_EPOCHS, epochs or QUICK_EPOCHS)
        job = {"engine": engine, "problem": str(path), "epochs": epochs, "threads": self._arguments.threads}
        record = self._run(sys.executable, "own.py", job, scorer)
        if isinstance(record, str):
            raise SystemExit(f"diptych {engine} failed on {problem}:\n{record}")
        facts = {"problem": problem, "engine": engine, "title": f"diptych {engine}", "own": True, "round": turn}
        self.runs.append(facts | record)
        return record

    def _peer(self, problem: str, engine: str, path: Path, scorer: Scorer, turn: int, bare: float) -> None:
        job = {"engine": engine, "problem": str(path), "epochs": 1000, "threads": self._arguments.threads}
        record = self._run(self._arguments.peers, "peers.py", job | {"seconds": self._arguments.peer_seconds}, scorer)
        title = peers.ENGINES[engine][0]
        if isinstance(record, str):
            self.skipped[f"{title} on {problem}"] = (
                f"it failed: {record.strip().splitlines()[-1] if record.strip() else 'no message'}"
            )
            return
        facts = {
            "problem": problem,
            "engine": engine,
            "title": title,
            "own": False,
            "round": turn,
            "bare_before_s": bare,
        }
        self.runs.append(facts | record)

    def _run(self, python: str, script: str, job: dict[str, Any], scorer: Scorer) -> dict[str, Any] | str:
        """Run one worker; return its scored record, or its standard error if it failed."""
        print(f"{Path(job['problem']).stem}: {job['engine']}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [python, str(HERE / script), json.dumps(job | {"folder": folder})]
            done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
            return (
                scored(Path(folder), scorer, last_only=Path(job["problem"]).stem == TIMING)
                if done.returncode == 0
                else done.stderr
            )

    def _find_peers(self) -> list[str]:
        """Names of the peers that can run; the others are recorded as skipped, with the reason."""
        python, wanted = self._arguments.peers, self._arguments.peer_engines
        if python is None:
            self.skipped |= {
                peers.ENGINES[name][0]: "no interpreter given (--peers or DIPTYCH_PEERS_PYTHON)" for name in wanted
            }
            return []
        command = [python, "-c", VERSIONS, *DISTRIBUTIONS.values()]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"--peers {python}: cannot be run as a Python interpreter ({error}).") from None
        versions = json.loads(answer.stdout)
        self.peer_versions = {name: version for name, version in versions.items() if version is not None}
        missing = [name for name in wanted if versions[DISTRIBUTIONS[peers.ENGINES[name][1]]] is None]
        self.skipped |= {
            peers.ENGINES[name][0]: f"{DISTRIBUTIONS[peers.ENGINES[name][1]]} is not installed there"
            for name in missing
        }
        return [name for name in wanted if name not in missing]


if __name__ == "__main__":
    main()
