"""Apply a network trained on simulated objects to a measured scan, the Siemens star of ``diptych fetch siemens-star``.

A first reconstruction recovers the probe, as a previous scan at a beamline would. The simulated training scans have
that probe, the positions and dose of the measured scan, and objects of other kinds. Prints the correlation of the
network's image with the iterative result, and the epochs of the engine on the scan as fetched, from a flat object and
from the network (its image and its probe). A third run from a flat object with the network's probe separates the
effects of object and probe. Draws the figure of the documentation. ``--size 64`` uses the central pixels of the
detector (96 % of the photons, object pixels twice as large).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import diptych
from diptych.ptycho.figures.panels import save_figure
from diptych.ptycho.neural.options import TrainerOptions

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parent / "docs" / "pictures"
KINDS = ("dead-leaves", "lines", "blocks")


def main() -> None:
    """Train or load the network, reconstruct in three ways, print and draw."""
    arguments = parse()
    scan = diptych.load(arguments.scan) if arguments.scan else diptych.fetch("siemens-star")
    if arguments.size:
        scan = cropped(scan, arguments.size)
    flat = diptych.reconstruct(scan)
    known = replace(scan, probe=flat.probe)
    if arguments.model.exists():
        model = diptych.load_model(arguments.model)
    else:
        photons = float(scan.counts.sum(axis=(1, 2), dtype=float).mean())
        like = {"probe": known.probe, "positions": scan.positions, "dose": photons}
        made = [diptych.simulate(object=kind, seed=seed, **like) for seed, kind in enumerate(KINDS)]
        trainer = TrainerOptions(precision=arguments.precision, pictures=False, logger="none")
        model = diptych.train(made, epochs=arguments.epochs, trainer=trainer)
        arguments.model.parent.mkdir(parents=True, exist_ok=True)
        model.save(arguments.model)
    image = model.reconstruct(known, canvas_passes=0)
    runs = {
        "flat": flat,
        "warm": diptych.reconstruct(scan, model=model),
        "flat, the network's probe": diptych.reconstruct(known),
    }
    found = report(image, runs)
    print(json.dumps(found, indent=1))
    path = PICTURES / ("network-star-64.png" if arguments.size else "network-star.png")
    save_figure(picture(image, flat, found), path, dpi=90)
    print(f"written: {path}", file=sys.stderr)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, help="file of the scan; without it, the scan is fetched")
    parser.add_argument(
        "--model", type=Path, default=HERE / "results" / "star.safetensors", help="trained once per size, then loaded"
    )
    parser.add_argument("--size", type=int, choices=(64,), help="central detector pixels to use; all when not given")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--precision", default="bf16-mixed", help="arithmetic of the convolutions in training")
    return parser.parse_args()


def cropped(scan: Any, size: int) -> Any:
    """The scan on the central ``size`` x ``size`` detector pixels: larger object pixels, probe without high
    frequencies.
    """
    edge = (scan.size - size) // 2
    middle = (slice(None), slice(edge, edge + size), slice(edge, edge + size))
    far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(scan.probe, axes=(1, 2)), norm="ortho"), axes=(1, 2))[middle]
    probe = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(far, axes=(1, 2)), norm="ortho"), axes=(1, 2)).astype(
        np.complex64
    )
    positions = scan.positions * (size / scan.size)
    return diptych.Scan(
        np.ascontiguousarray(scan.counts[middle]), positions, probe, name=f"{scan.name}, middle {size} pixels"
    )


def report(image: Any, runs: dict[str, Any]) -> dict[str, Any]:
    """The numbers, as JSON values."""
    flat = runs["flat"]
    error = diptych.evaluate(image, flat.object, gauge="full")["complex_error"]

    def epochs_to(result: Any) -> dict[str, dict[str, int | None]]:
        """Epochs to reach the final fit, held-out fit and loss of the flat start, within 5 %, 1 % and exactly."""
        found: dict[str, dict[str, int | None]] = {}
        for column in ("fit", "held_out_fit", "loss"):
            target, values = flat.history[column][-1], list(enumerate(result.history[column], start=1))
            found[column] = {
                f"{share:g} x": next((i for i, value in values if value <= share * target), None)
                for share in (1.05, 1.01, 1.0)
            }
        return found

    def summary(result: Any) -> dict[str, Any]:
        kept = {name: result.provenance[name] for name in ("epochs", "fit", "held_out_fit", "seconds")}
        return {**kept, "epochs_to_the_flat_start's_end": epochs_to(result)}

    return {
        "correlation": math.sqrt(max(0.0, 1 - error**2)),
        "network_patterns_per_second": image.provenance["patterns_per_second"],
        "network_fit": image.provenance["fit"],
        "start": runs["warm"].provenance["start"],
        **{name: summary(result) for name, result in runs.items()},
        "difference_of_results": diptych.evaluate(runs["warm"], flat.object, gauge="full")["complex_error"],
    }


def picture(image: Any, flat: Any, found: dict[str, Any]) -> Any:
    """Phases of the network's image and of the iterative result, without ramps, in the same grey scale."""
    from matplotlib.figure import Figure

    metrics = diptych.evaluate(image, flat.object, gauge="full")
    aligned = metrics.alignment
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots(1, 2)
    titles = (
        f"network, one pass (correlation {found['correlation']:.3f})",
        f"engine, {found['flat']['epochs']} epochs",
    )
    shown = None
    for axis, values, title in zip(axes, (aligned.result.values, aligned.truth.values), titles, strict=True):
        phase = np.angle(values * np.exp(-1j * np.angle(aligned.truth.values.mean())))
        shown = axis.imshow(phase, cmap="gray", vmin=-0.7, vmax=0.5)
        axis.set(title=title, xlabel="x (px)", ylabel="y (px)")
    figure.colorbar(shown, ax=axes, label="phase (rad)")
    return figure


if __name__ == "__main__":
    main()
