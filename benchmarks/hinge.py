"""Settings of a reconstruction, found by an expert who looks at 30 pictures.

A scan is simulated with noise, and the decoder ``reconstruction`` offers its five settings (one of them a category) for
the engine rpie, which goes by all of them; everything else is as it comes, and so is the session. The simulated expert
likes a small true error; each look at a picture has noise of 5 % of the spread that the error has over settings drawn
at random. Screens have two new pictures beside the two judged ones that may well be the best, by the session's mean and
deviation, and the expert sorts the four. What the session recommends is compared with random settings: with that of 60,
or of 30, which the expert, who looks once at each, takes for the best; and with the truly best of 200, which no one can
know.
*Mean* is over five sessions, and over 400 choices of the 60, or 30, among the 200: what can be expected, rather than
had by luck.

Each scan is kept in the JSON file, so that a measurement that was cut goes on where it stopped.
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
"""Pictures in all, new ones on a screen, and judged ones beside them."""

RIVALS = (60, 30)
REFERENCE = 200
NOISE = 0.05
"""Spread of a look, as a part of that of the error over random settings."""

FAILED = 1.0
"""Error of settings that reconstruct nothing: that of an empty picture."""

DRAWS, SESSIONS = 400, 5
"""Choices of 60, or 30, of the 200 over which a rival's error is averaged, and sessions over which diptych's is."""

Array = NDArray[np.float64]


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first scan")
    parser.add_argument(
        "--json", type=Path, default=HERE / "results" / "hinge.json", help="measured so far; delete it to measure anew"
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
    """Knows how many pictures it made."""

    decoded = 0

    def decode(self, latent: ArrayLike) -> NDArray[np.uint8]:
        """See :meth:`ReconstructionDecoder.decode`."""
        self.decoded += 1
        return super().decode(latent)


class Expert:
    """Sees the error of a picture, with some noise at each look."""

    def __init__(self, error: Callable[[Any], float], noise: float, rng: np.random.Generator) -> None:
        self._error, self._noise, self._rng = error, noise, rng

    def sorted(self, screen: Sequence[Candidate]) -> list[Candidate]:
        """The pictures, what looks best first."""
        seen = {one.id: self._error(one.latent) + self._noise * self._rng.standard_normal() for one in screen}
        return sorted(screen, key=lambda one: seen[one.id])


def run(seed: int) -> dict[str, Any]:
    """One scan: true errors of what each finds, by name."""
    scan = diptych.simulate(object="natural", seed=seed, **SCAN)
    decoder = Counted(scan, options=ReconstructionOptions(engine="rpie"), threads=1)

    def error(latent: Any) -> float:
        try:
            return float(diptych.evaluate(decoder.result(latent), truth=scan)["complex_error"])
        except InputError:
            return FAILED

    outcome = by_chance(decoder, error, seed)
    sessions = [by_session(decoder, error, NOISE * outcome["spread"], [seed, 2, number]) for number in range(SESSIONS)]
    return {
        **outcome,
        "diptych": sessions[0]["found"],
        "diptych, mean": mean(one["found"] for one in sessions),
        "sessions": sessions,
    }


def by_chance(decoder: Counted, error: Callable[[Any], float], seed: int) -> dict[str, float]:
    """What random settings, and the defaults, are worth."""
    rng = np.random.default_rng([seed, 1])
    pool = np.array([error(point) for point in settled(rng.random((REFERENCE, decoder.dimension)), cube_of(decoder))])
    spread = float(pool.std())
    found = {"defaults": error(decoder.start), "spread": spread, f"best of {REFERENCE}": float(pool.min())}
    for count in RIVALS:
        found[f"random {count}"] = picked(pool[:count], NOISE * spread, rng)
        some = [picked(rng.choice(pool, count, replace=False), NOISE * spread, rng) for _ in range(DRAWS)]
        found[f"random {count}, mean"] = mean(some)
    return found


def picked(errors: Array, noise: float, rng: np.random.Generator) -> float:
    """True error of what looks best when each is looked at once."""
    return float(errors[np.argmin(errors + noise * rng.standard_normal(len(errors)))])


def by_session(decoder: Counted, error: Callable[[Any], float], noise: float, key: list[int]) -> dict[str, Any]:
    """The error of what a session recommends after 30 pictures, the settings, and the errors of what it showed."""
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
    """A row for each scan, and one of medians."""
    each = ("diptych", *(f"random {count}" for count in RIVALS))
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
    pictures = f"Pictures made per session: at most {max(one['decoded'] for one in sessions)}; shown: {IMAGES}."
    return "\n".join(
        [f"{conditions['date']}, commit {conditions['commit']}. Errors of the complex object. {pictures}", "", *lines]
    )


if __name__ == "__main__":
    main()
