"""Scans whose positions are wrong, from a blind probe: how near the refined positions come to the true ones.

Prints one row for each kind of error: distance from the truth before and after (px rms, common shift left out), what
is left as scale and rotation, held-out fit, epochs, seconds, and the kinds of the flags. ``right`` shows what the
option costs where nothing is wrong; ``transposed`` and ``late`` are wrong readings, which must be flagged, not hidden.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import diptych
from diptych.ptycho.engines.flags.base import by_kind
from diptych.ptycho.scan import Scan

Places = NDArray[np.float64]

ERROR_SEED = 5


def random_errors(rms: float) -> Callable[[Places], Places]:
    """Independent errors of ``rms`` pixels."""
    return lambda places: places + np.random.default_rng(ERROR_SEED).normal(0, rms / np.sqrt(2), places.shape)


def affine(places: Places) -> Places:
    """2 % and 3 degrees."""
    turn, middle = np.deg2rad(3.0), places.mean(0)
    matrix = 1.02 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return middle + (places - middle) @ matrix.T


def drift(places: Places) -> Places:
    """A slow drift of 50 px, and 5 px rms of jitter."""
    t = np.linspace(0, 1, len(places))
    slow = 50 * np.stack([0.8 * t**2, 0.6 * np.sin(2.5 * t)], 1)
    return random_errors(5.0)(places + slow)


ERRORS: dict[str, Callable[[Places], Places]] = {
    "right": lambda places: places,
    "1 px": random_errors(1.0),
    "3 px": random_errors(3.0),
    "6 px": random_errors(6.0),
    "2 % and 3 deg": affine,
    "drift": drift,
}
READINGS = ("transposed", "late")


def spoiled(scan: Scan, kind: str) -> tuple[Scan, Places]:
    """The scan with an error, without its truth, and the true positions of its patterns."""
    counts, places, true = scan.counts, scan.positions, scan.positions
    if kind == "transposed":
        counts = np.ascontiguousarray(counts.transpose(0, 2, 1))
    elif kind == "late":
        counts, places, true = counts[:-1], places[1:], places[:-1]
    else:
        places = ERRORS[kind](places)
    return replace(scan, counts=counts, positions=places, truth=None), true


def rms(found: Places, true: Places) -> float:
    """Distance, common shift left out."""
    off = found - true
    return float(np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()))


def scale_and_turn(found: Places, true: Places) -> tuple[float, float]:
    """What is left as a scale (%) and a rotation (degrees)."""
    matrix = np.linalg.lstsq(true - true.mean(0), found - found.mean(0), rcond=None)[0]
    trace, skew = matrix[0, 0] + matrix[1, 1], matrix[0, 1] - matrix[1, 0]
    return 50 * float(np.hypot(trace, skew)) - 100, float(np.rad2deg(np.arctan2(skew, trace)))


def main() -> None:
    """Simulate, spoil, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join((*ERRORS, *READINGS)))
    parser.add_argument("--objects", default="blocks,natural")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--patterns", type=int, default=100)
    parser.add_argument("--dose", type=float, default=1e6)
    parser.add_argument("--probe-error", type=float, default=0.5, help="0 the true probe, 1 a blind one")
    parser.add_argument("--correct", choices=("auto", "on", "off"), default="auto")
    arguments = parser.parse_args()
    print("| object | error | before (px) | after (px) | scale, rotation left | held-out fit | epochs | s | flags |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.objects.split(","):
        scan = diptych.simulate(
            object=name,
            size=arguments.size,
            patterns=arguments.patterns,
            step=arguments.size / 8,
            dose=arguments.dose,
            probe_error=arguments.probe_error,
            seed=1,
        )
        for kind in arguments.kinds.split(","):
            wrong, true = spoiled(scan, kind)
            began = time.perf_counter()
            result = diptych.reconstruct(wrong, correct_positions=arguments.correct)
            seconds = time.perf_counter() - began
            scale, turn = scale_and_turn(result.positions, true)
            said = result.provenance
            print(
                f"| {name} | {kind} | {rms(wrong.positions, true):.3g} | {rms(result.positions, true):.3g} | "
                f"{scale:+.2f} %, {turn:+.2f} deg | {said['held_out_fit']:.3g} | {said['epochs']} | {seconds:.0f} | "
                f"{', '.join(by_kind(result.flags)) or '-'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
