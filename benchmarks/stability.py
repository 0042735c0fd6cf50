"""Crash table: which generators train, and which collapse or diverge, over seeds and kinds of gradient clipping.

    python benchmarks/stability.py --networks cnn hybrid stable_hybrid --seeds 3

One line per run as it ends, then a table: runs that collapsed, diverged, and the median error on another object.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

import diptych
from diptych.errors import InputError
from diptych.ptycho.networks import NETWORKS
from diptych.ptycho.neural.options import TrainerOptions

CLIPS: dict[str, float] = {"norm": 1.0, "value": 0.01, "agc": 0.01}
"""Threshold of each kind of clipping."""


def main() -> None:
    """Train every combination and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS.names()))
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=["norm"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--patterns", type=int, default=256)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    given = parser.parse_args()
    scans = [
        diptych.simulate(
            object="lines", size=given.size, patterns=given.patterns, step=given.size / 8, dose=1e6, seed=seed
        )
        for seed in (100, 101)
    ]
    rows = ["| network | clipping | runs | collapsed | diverged | median error | epochs of the shortest run |"]
    rows.append("|---|---|---|---|---|---|---|")
    for network in given.networks:
        for clip in given.clips:
            runs = [run(scans, network, clip, seed, given) for seed in range(given.seeds)]
            rows.append(line(network, clip, runs))
    print("\n".join(rows))


def run(scans: list[diptych.Scan], network: str, clip: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train on the first scan and evaluate on the second."""
    trainer = TrainerOptions(device="cpu", threads=1, pictures=False, logger="none")
    how = {"network": network, "clip_mode": clip, "clip": CLIPS[clip], "seed": seed, "epochs": given.epochs}
    try:
        model = diptych.train(scans[0], trainer=trainer, learning_rate=given.rate, warmup=10, **how)
    except InputError as error:
        found = {"end": "diverged", "epochs": 0, "error": float("nan"), "why": str(error)}
    else:
        why = model.provenance["stop_reason"]
        end = "collapsed" if why.startswith("collapsed") else "diverged" if why.startswith("the loss is") else "done"
        error = diptych.evaluate(model.reconstruct(scans[1], canvas_passes=0), truth=scans[1].truth)["complex_error"]
        found = {"end": end, "epochs": model.provenance["epochs"], "error": error, "why": why}
    print(f"{network} {clip} seed {seed}: {found['end']}, error {found['error']:.4f} ({found['why']})", flush=True)
    return found


def line(network: str, clip: str, runs: list[dict[str, Any]]) -> str:
    """A row of the table."""
    ends = [each["end"] for each in runs]
    shortest, error = min(each["epochs"] for each in runs), median(each["error"] for each in runs)
    return (
        f"| {network} | {clip} | {len(runs)} | {ends.count('collapsed')} | {ends.count('diverged')} | {error:.4f} | "
        f"{shortest} |"
    )


if __name__ == "__main__":
    main()
