"""Find settings of a reconstruction from the judgements of 30 images by a simulated expert.

A scan is simulated with noise. The decoder ``reconstruction`` offers five settings (one of them a category) of the
engine rpie; everything else has its default. The simulated expert prefers a small true error, observed with noise of
5 % of the standard deviation of the error over random settings. Each screen has two new images beside the two judged
ones of highest upper bound (posterior mean plus standard deviation), and the expert ranks the four. The recommended
settings are compared with random search: the best of 60, or of 30, random settings as chosen by the expert who
observes each once; and with the best of 200 by true error. *mean* is the average over five sessions, and over 400
draws of the 60, or 30, from the 200.

Each scan is stored in the JSON file, so that an interrupted benchmark continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from preference import save

import diptych
from diptych.errors import InputError
from diptych.prefer import Candidate, Judgement, Session
from diptych.prefer.decoders import cube_of
from diptych.prefer.decoders.reconstruction import ReconstructionDecoder
from diptych.prefer.spaces.cube import settled
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.runtime import provenance

HERE = Path(__file__).resolve().parent

SCAN = {"size": 32, "patterns": 36, "step": 4.0, "dose": 1e3}
"""Noisy, and small, so that a reconstruction takes a fifth of a second."""

IMAGES, NEW, KEPT = 30, 2, 2
"""Images in all, new images per screen, and judged images beside them."""

RANDOM_SEARCH = (60, 30)
REFERENCE = 200
NOISE = 0.05
"""Standard deviation of an observation, relative to that of the error over random settings."""

FAILED = 1.0
"""Error assigned to settings whose reconstruction fails: that of an empty image."""

DRAWS, SESSIONS = 400, 5
"""Draws of 60, or 30, from the 200 over which the error of random search is averaged; sessions over which diptych's is.
"""

Array = NDArray[np.float64]


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first scan")
    parser.add_argument(
        "--json", type=Path, default=HERE / "results" / "hinge.json", help="results so far; delete it to start again"
    )
    arguments = parser.parse_args()
    found: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"scans": {}}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.first, arguments.first + arguments.scans):
        if str(seed) not in found["scans"]:
            found["scans"][str(seed)] = run(seed)
            found["conditions"] = {"date": provenance.utc_now(), "commit": provenance.commit()}
            save(arguments.json, found)
    print(report(found))


class Counted(ReconstructionDecoder):
    """Counts its decodes."""

    decoded = 0

    def decode(self, latent: ArrayLike) -> NDArray[np.uint8]:
        """See :meth:`ReconstructionDecoder.decode`."""
        self.decoded += 1
        return super().decode(latent)


class Expert:
    """Observes the error of an image with noise."""

    def __init__(self, error: Callable[[Any], float], noise: float, rng: np.random.Generator) -> None:
        self._error, self._noise, self._rng = error, noise, rng

    def sorted(self, screen: Sequence[Candidate]) -> list[Candidate]:
        """The images, ordered by observed error, best first."""
        seen = {one.id: self._error(one.latent) + self._noise * self._rng.standard_normal() for one in screen}
        return sorted(screen, key=lambda one: seen[one.id])


def run(seed: int) -> dict[str, Any]:
    """Run one scan; true errors of the settings found by each method."""
    scan = diptych.simulate(object="natural", seed=seed, **SCAN)
    decoder = Counted(scan, options=ReconstructionOptions(engine="rpie"), threads=1)

    def error(latent: Any) -> float:
        try:
            return float(diptych.evaluate(decoder.result(latent), truth=scan)["complex_error"])
        except InputError:
            return FAILED

    outcome = by_random_search(decoder, error, seed)
    sessions = [by_session(decoder, error, NOISE * outcome["spread"], [seed, 2, number]) for number in range(SESSIONS)]
    return {
        **outcome,
        "diptych": sessions[0]["found"],
        "diptych, mean": mean(one["found"] for one in sessions),
        "sessions": sessions,
    }


def by_random_search(decoder: Counted, error: Callable[[Any], float], seed: int) -> dict[str, float]:
    """Errors of random search and of the defaults."""
    rng = np.random.default_rng([seed, 1])
    pool = np.array([error(point) for point in settled(rng.random((REFERENCE, decoder.dimension)), cube_of(decoder))])
    spread = float(pool.std())
    found = {"defaults": error(decoder.start), "spread": spread, f"best of {REFERENCE}": float(pool.min())}
    for count in RANDOM_SEARCH:
        found[f"random {count}"] = picked(pool[:count], NOISE * spread, rng)
        some = [picked(rng.choice(pool, count, replace=False), NOISE * spread, rng) for _ in range(DRAWS)]
        found[f"random {count}, mean"] = mean(some)
    return found


def picked(errors: Array, noise: float, rng: np.random.Generator) -> float:
    """True error of the settings with the smallest observed error."""
    return float(errors[np.argmin(errors + noise * rng.standard_normal(len(errors)))])


def by_session(decoder: Counted, error: Callable[[Any], float], noise: float, key: list[int]) -> dict[str, Any]:
    """Error of the settings that a session recommends after 30 images, the settings, and the errors of the images
    shown.
    """
    expert = Expert(error, noise, np.random.default_rng(key))
    shown: list[Candidate] = []
    best: list[Candidate] = []
    before = decoder.decoded
    with (
        tempfile.TemporaryDirectory() as folder,
        Session.open(folder, decoder, synchronous=True, seed=key[-1]) as session,
    ):
        while len(shown) < IMAGES:
            screen = session.ask(min(NEW, IMAGES - len(shown)))
            order = expert.sorted([*screen, *best])
            for place in range(len(order) - 1):
                session.tell(Judgement.choose(order[place], order[place:]))
            shown, best = [*shown, *screen], order[:KEPT]
            if session.fitted is not None:
                mean, spread = session.score(shown)
                best = [shown[place] for place in np.argsort(-(mean + spread), kind="stable")[:KEPT]]
        latent = session.best().latent
        decoded = decoder.decoded - before
    settings, errors = decoder.values(latent), [error(one.latent) for one in shown]
    return {"found": error(latent), "settings": settings, "shown": errors, "decoded": decoded}


def report(found: dict[str, Any]) -> str:
    """One row per scan, and one of medians."""
    each = ("diptych", *(f"random {count}" for count in RANDOM_SEARCH))
    names = (*(name + kind for kind in ("", ", mean") for name in each), f"best of {REFERENCE}", "defaults", "spread")
    runs = found["scans"]
    lines = [f"| scan | {' | '.join(names)} | diptych / best of {REFERENCE} |", "|" + "---|" * (len(names) + 2)]
    for seed, outcome in runs.items():
        ratio = outcome["diptych"] / outcome[f"best of {REFERENCE}"]
        lines.append(f"| {seed} | {' | '.join(f'{outcome[name]:.4f}' for name in names)} | {ratio:.3f} |")
    middle = {name: median(outcome[name] for outcome in runs.values()) for name in names}
    ratio = middle["diptych"] / middle[f"best of {REFERENCE}"]
    lines.append(f"| median | {' | '.join(f'{middle[name]:.4f}' for name in names)} | {ratio:.3f} |")
    conditions = found["conditions"]
    sessions = [one for outcome in runs.values() for one in outcome["sessions"]]
    images = f"Images computed per session: at most {max(one['decoded'] for one in sessions)}; shown: {IMAGES}."
    return "\n".join(
        [f"{conditions['date']}, commit {conditions['commit']}. Errors of the complex object. {images}", "", *lines]
    )


if __name__ == "__main__":
    main()
