"""Draw the figures of the documentation and of the README.

    python docs/make_pictures.py [--offline] [--only conventions dose ...]

Takes about two minutes. The measured Siemens star comes from the user's cache, or is fetched; with ``--offline``, or
where it could not be downloaded, a simulated star is used and the titles say so.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

import diptych
from diptych.ptycho.datasets import dataset_info
from diptych.ptycho.evaluate import evaluate_without_truth
from diptych.ptycho.figures.colours import complex_to_rgb, level_phase, robust_range
from diptych.ptycho.figures.overview import plot_comparison, plot_frc
from diptych.ptycho.figures.panels import show_complex, show_history, show_image, show_wheel
from diptych.ptycho.physics.measured import scanned_box

FOLDER = Path(__file__).parent / "pictures"
LIMIT = 300_000
"""Largest size of a figure, bytes."""

STAR = "siemens-star"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--offline", action="store_true", help="do not use the network")
    parser.add_argument("--only", nargs="+", choices=sorted(PICTURES), default=sorted(PICTURES), help="figures to draw")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    wanted = parser.parse_args()
    if wanted.offline:
        OFFLINE.append(True)
    wanted.out.mkdir(parents=True, exist_ok=True)
    for name in wanted.only:
        path = wanted.out / f"{name}.png"
        write(PICTURES[name](), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def write(figure: Figure, path: Path) -> None:
    """Write a PNG, with a palette of 256 colours where the full colours exceed the size limit."""
    from PIL import Image
    from scipy.spatial import cKDTree

    for dpi, few in ((110, False), (95, False), (95, True), (80, True), (65, True)):
        figure.savefig(path, dpi=dpi, pil_kwargs={"optimize": True})
        if few:
            colours = palette()
            with Image.open(path) as image:
                nearest = cKDTree(colours).query(np.asarray(image.convert("RGB")))[1]
            drawn = Image.fromarray(nearest.astype(np.uint8), "P")
            drawn.putpalette(colours.ravel().tolist())
            drawn.save(path, optimize=True)
        if path.stat().st_size < LIMIT:
            return
    raise SystemExit(f"{path.name} is {path.stat().st_size} bytes, above the limit of {LIMIT}; reduce its content.")


@lru_cache(maxsize=1)
def palette() -> NDArray[np.uint8]:
    """Greys, hues of several brightnesses, and the colour map of differences, (256, 3). A palette fitted to one figure
    would lose small colour wheels.
    """
    greys = np.repeat(np.linspace(0, 1, 48)[:, None], 3, axis=1)
    hues = complex_to_rgb(np.arange(1, 6)[:, None] / 5 * np.exp(2j * np.pi * np.arange(34) / 34), limit=1.0).reshape(
        -1, 3
    )
    differences = colormaps["RdBu_r"](np.linspace(0, 1, 38))[:, :3]
    colours: NDArray[np.uint8] = np.rint(255 * np.concatenate([greys, hues, differences])).astype(np.uint8)
    return colours


OFFLINE: list[bool] = []


@lru_cache(maxsize=1)
def star() -> diptych.Scan:
    """The measured scan, or a simulated one named as such."""
    try:
        if not OFFLINE or dataset_info(STAR)["cached"]:
            return replace(diptych.fetch(STAR), name="Siemens star, measured")
    except diptych.UnavailableError as error:
        print(f"using a simulated star: {error}")
    return replace(diptych.simulate(object="siemens-star", patterns=400, dose=4e5, probe_error=1.0, seed=0), truth=None)


@lru_cache(maxsize=1)
def star_result() -> diptych.Reconstruction:
    return diptych.reconstruct(star())


@lru_cache(maxsize=4)
def simulated(dose: float) -> tuple[diptych.Scan, diptych.Reconstruction]:
    """A photograph as object, reconstructed with a wrong initial probe."""
    scan = diptych.simulate(object="natural", patterns=256, dose=dose, probe_error=1.0, seed=0)
    return scan, diptych.reconstruct(scan)


def conventions() -> Figure:
    """Canvas, window and position, and a pattern."""
    figure = Figure(figsize=(12.5, 6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    draw_canvas(left)
    draw_pattern(right)
    return figure


def draw_canvas(ax: Any) -> None:
    size, (y, x), origin, (height, width) = 8, (4.3, 7.6), (-4, -3), (15, 19)
    whole_y, whole_x = round(y), round(x)
    top, side = whole_y - size // 2, whole_x - size // 2
    ax.add_patch(
        Rectangle((origin[1] - 0.5, origin[0] - 0.5), width, height, facecolor="0.94", edgecolor="black", lw=1.5)
    )
    for line in range(width + 1):
        ax.plot([origin[1] - 0.5 + line] * 2, [origin[0] - 0.5, origin[0] - 0.5 + height], color="0.8", lw=0.5)
    for line in range(height + 1):
        ax.plot([origin[1] - 0.5, origin[1] - 0.5 + width], [origin[0] - 0.5 + line] * 2, color="0.8", lw=0.5)
    ax.add_patch(Rectangle((side - 0.5, top - 0.5), size, size, facecolor="tab:blue", alpha=0.18, edgecolor="none"))
    ax.add_patch(Rectangle((side - 0.5, top - 0.5), size, size, fill=False, edgecolor="tab:blue", lw=2))
    ax.add_patch(Circle((x, y), 2.6, fill=False, edgecolor="tab:orange", lw=1.8, ls="--"))
    ax.add_patch(Rectangle((whole_x - 0.5, whole_y - 0.5), 1, 1, facecolor="tab:blue", alpha=0.6))
    ax.plot([x], [y], "o", color="tab:red", ms=6)
    ax.add_patch(Rectangle((origin[1] - 0.5, origin[0] - 0.5), 1, 1, facecolor="tab:green", alpha=0.8))
    note(
        ax,
        "canvas pixel [0, 0] lies at its origin, (y, x) = (−4, −3)",
        (origin[1], origin[0]),
        (2.2, -5.6),
        "tab:green",
    )
    note(ax, f"position = ({y}, {x}), sub-pixel", (x, y), (15.0, 1.4), "tab:red")
    note(
        ax,
        "window's index [N//2, N//2] = [4, 4],\nat the position's nearest pixel (4, 8)",
        (whole_x, whole_y),
        (14.7, 8.8),
        "tab:blue",
    )
    note(ax, "probe, moved by\nthe fraction (0.3, −0.4)", (x - 2.55, y + 0.5), (-0.1, 8.4), "tab:orange")
    ax.text(side - 0.3, top - 0.75, "window, N × N (here N = 8)", color="tab:blue", fontsize=9, va="bottom")
    ax.set(
        xlim=(-4.2, 19.4), ylim=(11.2, -6.6), xlabel="x, object pixels: to the right", ylabel="y, object pixels: down"
    )
    ax.set_xticks(range(-3, 17, 3))
    ax.set_yticks(range(-4, 12, 2))
    ax.set_aspect("equal")
    ax.set_title("Object space: canvas, window, position")


def draw_pattern(ax: Any) -> None:
    size = 64
    scan = diptych.simulate(object="gaussian-field", size=size, patterns=4, step=4.0, dose=1e7, seed=3)
    ax.imshow(np.log10(scan.counts[0] + 1.0), cmap="magma")
    middle = size // 2
    ax.add_patch(Rectangle((middle - 0.5, middle - 0.5), 1, 1, fill=False, edgecolor="white", lw=1.5))
    ax.plot([middle, middle], [middle - 8, -0.5], color="white", lw=0.7, ls=":")
    ax.plot([-0.5, middle - 8], [middle, middle], color="white", lw=0.7, ls=":")
    ax.annotate(
        "zero frequency at\n[N//2, N//2] = [32, 32]", (middle + 0.6, middle - 0.6), (37, 9), color="white", fontsize=9,
        arrowprops={"arrowstyle": "->", "color": "white"},
    )  # fmt: skip
    ax.set(xlabel="x, detector pixels", ylabel="y, detector pixels")
    ax.set_xticks([0, 16, 32, 48, 63])
    ax.set_yticks([0, 16, 32, 48, 63])
    ax.set_title("Detector: one pattern of counts, N = 64")


def note(ax: Any, text: str, point: tuple[float, float], place: tuple[float, float], colour: str) -> None:
    ax.annotate(
        text, point, place, color=colour, fontsize=9, ha="center", va="center",
        arrowprops={"arrowstyle": "->", "color": colour, "shrinkB": 4},
        bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip


def siemens_star() -> Figure:
    """Phase and probe, for the README."""
    result = star_result()
    y0, y1, x0, x1 = scanned_box(result.positions)
    phase = np.angle(level_phase(result.object.crop(y0, y1, x0, x1).values, ramp=True))
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    show_image(left, phase, f"Phase: {result.name}", limits=robust_range(phase), label="phase (rad)")
    show_complex(right, result.probe[0], "Probe: hue = phase, brightness = amplitude")
    show_wheel(right)
    return figure


def scan() -> Figure:
    return star().plot()


def result() -> Figure:
    return star_result().plot()


def modes() -> Figure:
    """The same scan with three probe modes."""
    return diptych.reconstruct(star(), modes=3).plot()


def history() -> Figure:
    """The history of the automatic engine, with its stages."""
    found = star_result()
    figure = Figure(figsize=(8, 4), layout="constrained")
    ax = figure.subplots()
    show_history(ax, found.history)
    stage, epoch = np.asarray(found.history["stage"]), np.asarray(found.history["epoch"])
    names = ("PIE", "difference map", "PIE, modes, positions", "maximum likelihood")
    for inside in np.split(epoch, np.flatnonzero(np.diff(stage)) + 1):
        number = int(stage[epoch == inside[0]][0])
        ax.axvspan(inside[0] - 0.5, inside[-1] + 0.5, color=f"C{number + 2}", alpha=0.12, lw=0)
        ax.text(
            inside.mean(), 0.95, names[number], transform=ax.get_xaxis_transform(), ha="center", va="top", rotation=90
        )
    ax.legend(fontsize=8, loc="lower left")
    return figure


def frc() -> Figure:
    return plot_frc(evaluate_without_truth(star(), star_result()), thresholds=(1 / 7, "half-bit"))


def comparison() -> Figure:
    taken, found = simulated(1e6)
    assert taken.truth is not None
    return plot_comparison(found, taken.truth)


def misread() -> Figure:
    """A result from transposed patterns."""
    taken, _ = simulated(1e6)
    turned = replace(
        taken,
        counts=np.ascontiguousarray(taken.counts.transpose(0, 2, 1)),
        truth=None,
        name="the same scan, patterns transposed",
    )
    found = diptych.reconstruct(turned)
    return replace(found, flags=tuple(textwrap.fill(flag, 140) for flag in found.flags)).plot()


def dose() -> Figure:
    """One object at four doses."""
    doses = (1e2, 1e3, 1e4, 1e6)
    figure = Figure(figsize=(14, 4), layout="constrained")
    axes = figure.subplots(1, len(doses))
    for ax, photons in zip(axes, doses, strict=True):
        taken, found = simulated(photons)
        metrics = diptych.evaluate(found, truth=taken)
        assert metrics.alignment is not None
        image = metrics.alignment.result.values
        title = (
            f"{photons:.0e} photons per pattern\n"
            f"complex error {metrics['complex_error']:.2g}, phase SSIM {metrics['phase_ssim']:.2f}"
        )
        last = ax is axes[-1]
        show_image(
            ax, np.angle(image), title.replace("e+0", "e"), limits=(-0.8, 0.8), label="phase (rad)" if last else None
        )
        ax.title.set_fontsize(10)
    return figure


def shot_noise() -> Figure:
    """The expected deviance of one pixel, by which the fit is normalised."""
    import torch

    from diptych.ptycho.physics.likelihood import expected_deviance

    rate = np.logspace(-4, 3, 400)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    ax = figure.subplots()
    ax.semilogx(rate, expected_deviance(torch.from_numpy(rate)).numpy(), lw=2)
    ax.axhline(1, color="black", lw=0.8, ls=":")
    ax.set(xlabel="expected counts in a pixel, λ", ylabel="expected deviance E[D | λ]", xlim=(1e-4, 1e3), ylim=(0, 1.3))
    ax.set_title("Expected deviance of a pixel under photon noise")
    ax.grid(alpha=0.3)
    return figure


def objects() -> Figure:
    """The kinds of object that ``simulate`` draws."""
    kinds = ("natural", "siemens-star", "dead-leaves", "gaussian-field", "lines", "blocks")
    figure = Figure(figsize=(14, 2.9), layout="constrained")
    for ax, kind in zip(figure.subplots(1, len(kinds)), kinds, strict=True):
        truth = diptych.simulate(object=kind, patterns=100, seed=0).truth
        assert truth is not None
        show_image(ax, np.angle(truth.values), kind, limits=(-0.8, 0.8), bar=False)
    return figure


def multislice() -> Figure:
    """Two layers 8 depths of field apart: the truth, slices, and what one slice finds."""
    stated = {"energy_eV": 8e3, "distance_m": 2.0, "detector_pixel_m": 75e-6}
    apart = 7.6e-4
    made = diptych.simulate(
        object="dead-leaves", size=48, patterns=196, step=4.0, slices=2, slice_distance_m=apart, seed=3, **stated
    )
    thick = diptych.reconstruct(made, slices=2, slice_distance_m=apart)
    thin = diptych.reconstruct(made, modes=1, correct_positions="off")
    assert thick.slices is not None
    assert made.truth is not None
    assert made.true_slices is not None
    box = scanned_box(thick.positions)
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 3)

    def show(ax: Any, values: NDArray[Any], canvas: diptych.Canvas, title: str) -> None:
        part = replace(canvas, values=values).crop(*box)
        phase = np.angle(level_phase(part.values, ramp=True))
        show_image(ax, phase, title, limits=(-0.45, 0.45), label="phase (rad)", pixel_m=thick.object.pixel_m)

    for i, depth in enumerate(("0", f"{1e3 * apart:.2g} mm")):
        show(axes[i, 0], made.true_slices[i], made.truth, f"True layer at {depth}")
        show(axes[i, 1], thick.slices[i], thick.object, f"Slice {i + 1} of 2")
    fits = [found.provenance["held_out_fit"] for found in (thin, thick)]
    show(axes[0, 2], thin.object.values, thin.object, f"One slice, held-out fit {fits[0]:.2g}")
    show(axes[1, 2], thick.object.values, thick.object, f"Product of two, held-out fit {fits[1]:.2f}")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "comparison": comparison,
    "conventions": conventions,
    "dose": dose,
    "frc": frc,
    "history": history,
    "misread": misread,
    "modes": modes,
    "multislice": multislice,
    "objects": objects,
    "result": result,
    "scan": scan,
    "shot-noise": shot_noise,
    "siemens-star": siemens_star,
}

if __name__ == "__main__":
    main()
