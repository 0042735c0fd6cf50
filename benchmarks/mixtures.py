"""Ten scans with several faults at once, reconstructed with no option set, and with the mixture told.

Each has some of: several probe modes, blur along the path of a fly scan, a probe that drifts, a beam whose intensity
varies, a background that the scan does not tell, wrong positions. Told are the number of modes (and one more for a
blur), the true positions, a component for a drift of the probe, the background, and that a factor for each frame is
fitted. A line per run goes to standard output and to the results file, as JSON; runs that the file holds are not
repeated. The error is that of the complex object. ``--no-run`` prints the table of the lines that are there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import diptych
from diptych.ptycho.engines.flags.base import by_kind
from diptych.ptycho.physics.forward import ForwardModel, intensity
from diptych.ptycho.physics.modes import extra_modes, start_modes
from diptych.ptycho.scan import Scan

HERE = Path(__file__).resolve().parent
OBJECTS = ("blocks", "natural", "lines", "dead-leaves")
BLUR_STEPS = 5
"""Places along the path of a frame that are summed."""


@dataclass(frozen=True)
class Mixture:
    """What a scan is made with, beside an object and photon noise.

    Parameters
    ----------
    modes : int
        Incoherent probe modes.
    blur : float
        Length of the path during one exposure, object pixels, along x.
    probe_drift : float
        Share of the probe's power that goes to another (coherent) shape in the course of the scan.
    intensity : float
        Relative spread (rms) of the frames' intensity.
    background : float
        Counts per pixel that the scan does not tell.
    positions : float
        Errors of the positions, pixels rms.
    """

    modes: int = 1
    blur: float = 0.0
    probe_drift: float = 0.0
    intensity: float = 0.0
    background: float = 0.0
    positions: float = 0.0


MIXTURES = {
    "2 modes, positions": Mixture(modes=2, positions=1.0),
    "3 modes, intensity": Mixture(modes=3, intensity=0.05),
    "5 modes": Mixture(modes=5),
    "blur, positions": Mixture(blur=3.0, positions=0.5),
    "blur, intensity": Mixture(blur=3.0, intensity=0.05),
    "probe drift, positions": Mixture(probe_drift=0.1, positions=0.5),
    "2 modes, probe drift": Mixture(modes=2, probe_drift=0.1),
    "2 modes, background": Mixture(modes=2, background=0.1),
    "intensity, positions": Mixture(intensity=0.1, positions=1.0),
    "3 modes, intensity, background, positions": Mixture(modes=3, intensity=0.05, background=0.05, positions=0.5),
}


def mixed(mixture: Mixture, kind: str, *, size: int, patterns: int, dose: float, seed: int) -> Scan:
    """A scan with known truth, its true positions, and an initial probe of one mode.

    Background and intensities are in the counts alone.
    """
    scan = diptych.simulate(
        object=kind, size=size, patterns=patterns, step=size / 8, dose=dose, probe_error=0.3, seed=seed
    )
    assert scan.truth is not None
    assert scan.true_probe is not None
    assert scan.probe is not None
    rng = np.random.default_rng([seed, 11])
    image = torch.from_numpy(scan.truth.values.astype(np.complex128))
    probe = torch.from_numpy(scan.true_probe.astype(np.complex128))
    if mixture.modes > 1:
        share = 0.4 ** np.arange(mixture.modes)
        modes = start_modes(probe, mixture.modes)
        lengths = intensity(modes[:, None]).sum((1, 2)).sqrt()
        power = torch.from_numpy(np.sqrt(share / share.sum())) * intensity(probe).sum().sqrt()
        probe = modes * (power / lengths)[:, None, None]
    other = torch.from_numpy(extra_modes(probe.numpy(), 1)[0]) * intensity(probe[:1]).sum().sqrt()
    expected = np.zeros(scan.counts.shape)
    for offset in np.linspace(-0.5, 0.5, BLUR_STEPS) * mixture.blur if mixture.blur else (0.0,):
        forward = ForwardModel.far_field(
            scan.positions + np.array([0.0, offset]),
            size,
            scan.truth.origin,
            scan.truth.values.shape,
            dtype=torch.complex128,
            device=torch.device("cpu"),
        )
        for frame in range(patterns):
            turn = np.sqrt(mixture.probe_drift) * frame / max(patterns - 1, 1)
            now = probe.clone()
            now[0] = np.sqrt(1 - turn**2) * probe[0] + turn * other
            views = forward.views(image, now, np.array([frame]))
            expected[frame] += forward.detect(views.exit_waves())[1][0].numpy()
    expected *= dose / expected.sum((1, 2)).mean()
    expected *= np.clip(rng.normal(1, mixture.intensity, patterns), 0.3, 3)[:, None, None]
    counts = rng.poisson(expected + mixture.background).astype(np.float32)
    return replace(scan, counts=counts, probe=scan.probe[:1], true_probe=None)


def untold(scan: Scan, mixture: Mixture, seed: int) -> Scan:
    """The scan as a person has it: without its truth, with wrong positions."""
    errors = np.random.default_rng([seed, 12]).normal(0, mixture.positions / np.sqrt(2), scan.positions.shape)
    return replace(scan, positions=scan.positions + errors, truth=None)


def told(scan: Scan, mixture: Mixture) -> tuple[Scan, dict[str, Any]]:
    """The scan with its true positions and background, and the options that say what is in it."""
    background = np.full((scan.size, scan.size), mixture.background, np.float32) if mixture.background else None
    options = {
        "modes": mixture.modes + int(mixture.blur > 0),
        "probe_variation": int(mixture.probe_drift > 0),
        "correct_positions": "off",
        "frame_factors": "on" if mixture.intensity else "off",
    }
    return replace(scan, truth=None, background=background), options


def run(scan: Scan, truth: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Error, held-out fit, modes, kinds of flags, seconds of a reconstruction."""
    began = time.process_time()
    result = diptych.reconstruct(scan, **options)
    seconds = time.process_time() - began
    return {
        "error": float(diptych.evaluate(result, truth=truth)["complex_error"]),
        "held_out_fit": float(result.provenance["held_out_fit"]),
        "modes": len(result.probe),
        "seconds": round(seconds, 1),
        "flags": list(by_kind(result.flags)),
    }


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each mixture that is not done yet."""
    for number, (name, mixture) in enumerate(MIXTURES.items()):
        key = [name, arguments.size, arguments.patterns, arguments.dose, arguments.seed]
        if name not in arguments.mixtures or key in arguments.done:
            continue
        scan = mixed(
            mixture,
            kind := OBJECTS[number % len(OBJECTS)],
            size=arguments.size,
            patterns=arguments.patterns,
            dose=arguments.dose,
            seed=arguments.seed + number,
        )
        given, options = told(scan, mixture)
        knowing = run(given, scan.truth, options)
        blind = run(untold(scan, mixture, arguments.seed + number), scan.truth, {})
        yield {"key": key, "object": kind, "told": knowing, "no option": blind}


def table(found: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| mixture | object | error, told | no option | ratio | modes | held-out fit | s | flags |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        one, two = row["told"], row["no option"]
        lines.append(
            f"| {row['key'][0]} | {row['object']} | {one['error']:.4f} | {two['error']:.4f} | "
            f"{two['error'] / one['error']:.2f} | {one['modes']} / {two['modes']} | {one['held_out_fit']:.3f} / "
            f"{two['held_out_fit']:.3f} | {two['seconds']:.0f} | {', '.join(two['flags']) or '-'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what the results file lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--mixtures", nargs="+", default=list(MIXTURES), choices=list(MIXTURES))
    add("--size", type=int, default=64)
    add("--patterns", type=int, default=144)
    add("--dose", type=float, default=1e6)
    add("--seed", type=int, default=1)
    add("--results", type=Path, default=HERE / "results" / "mixtures.jsonl")
    add("--no-run", action="store_true", help="print the table of the lines that are there")
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    text = arguments.results.read_text(encoding="utf-8") if arguments.results.exists() else ""
    found = [json.loads(line) for line in text.splitlines()]
    arguments.done = [row["key"] for row in found]
    for row in () if arguments.no_run else rows(arguments):
        found.append(row)
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
