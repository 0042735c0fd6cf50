"""Parts of figures: images with scale bar and colour bar, colour wheel, convergence history."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import ScalarFormatter
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # type: ignore[import-untyped]
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.figures.area import STRIPE, UNLIT, UNLIT_LABEL
from diptych.ptycho.figures.colours import Range, colour_wheel, complex_to_rgb
from diptych.runtime.files import is_full, replacing

PixelSize = tuple[float, float] | None

SUFFIXES = (".png", ".pdf", ".svg", ".jpg")
_UNITS = ((1e-9, "nm"), (1e-6, "µm"), (1e-3, "mm"), (1.0, "m"))
_BAR_SHARE = 0.25


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> Path:
    """Write a figure to a .png, .pdf, .svg or .jpg file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    path : str or Path
        File to write; its folder is created if it does not exist.
    dpi : int
        Dots per inch.

    Raises
    ------
    InputError
        If the suffix is not one of these, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(path, f"the suffix is {path.suffix!r}", f"one of {', '.join(SUFFIXES)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=dpi)
    except OSError as error:
        if is_full(error) or error.errno == errno.EIO:
            raise
        raise InputError(path, f"the figure cannot be written ({error.strerror or error})") from None
    return path


def show_image(
    ax: Axes,
    image: NDArray[Any],
    title: str,
    *,
    limits: Range | None = None,
    norm: Normalize | None = None,
    cmap: str | Colormap = "gray",
    label: str | None = None,
    pixel_m: PixelSize = None,
    bar: bool = True,
) -> AxesImage:
    """Draw an image with title, colour bar and scale bar, without ticks.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes to draw into.
    image : (H, W) or (H, W, 3)
        Values, or RGB colours.
    title : str
        Title of the axes.
    limits : (float, float), optional
        Display limits.
    norm, cmap
        As in matplotlib's ``imshow``.
    label : str, optional
        Label of the colour bar; without it there is none.
    pixel_m : (float, float), optional
        Pixel size (y, x) in metres, for the scale bar and the aspect ratio; default: scale bar in pixels.
    bar : bool
        Draw the scale bar.
    """
    aspect = 1.0 if pixel_m is None else pixel_m[0] / pixel_m[1]
    vmin, vmax = limits if limits is not None else (None, None)
    drawn = ax.imshow(image, cmap=cmap, vmin=vmin, vmax=vmax, norm=norm, aspect=aspect, interpolation="nearest")
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])
    if label is not None:
        # In inset axes, the colour bar has exactly the height of the image.
        colours = ax.figure.colorbar(drawn, cax=ax.inset_axes((1.02, 0.0, 0.04, 1.0)), label=label)
        if isinstance(colours.formatter, ScalarFormatter):
            colours.formatter.set_useOffset(False)
    if bar:
        scale_bar(ax, image.shape[1], image.shape[0], pixel_m)
    return drawn


def show_complex(
    ax: Axes,
    values: NDArray[Any],
    title: str,
    *,
    pixel_m: PixelSize = None,
    limit: float | None = None,
    bar: bool = True,
) -> None:
    """Draw a complex field: hue is the phase, brightness the amplitude; see :func:`show_image`."""
    show_image(ax, complex_to_rgb(values, limit), title, pixel_m=pixel_m, bar=bar)


def shade_unlit(ax: Axes, lit: NDArray[np.bool_], *, legend: bool = True) -> None:
    """Hatch the pixels of an image (H, W) that no light reached; with ``legend``, say so below the image."""
    if lit.all():
        return
    cover = np.zeros((*lit.shape, 4))
    cover[~lit] = (*UNLIT, 1.0)
    ax.imshow(cover, aspect=ax.get_aspect(), interpolation="nearest", zorder=1.5)
    if min(lit.shape) > 1:
        hatched = ax.contourf(~lit, levels=[0.5, 1.5], colors="none", hatches=["////"], zorder=1.6)
        hatched.set_edgecolor(STRIPE)
        hatched.set_linewidth(0)
    if legend:
        patch = Patch(facecolor=UNLIT, edgecolor=STRIPE, hatch="////", label=UNLIT_LABEL)
        ax.legend(
            handles=[patch], loc="upper right", bbox_to_anchor=(1.0, 0.0), borderaxespad=0.3, fontsize=8, frameon=False
        )


def show_wheel(ax: Axes) -> None:
    """Draw the colour wheel of complex images beside ``ax``, with its phases in rad."""
    wheel = ax.inset_axes((1.06, 0.36, 0.28, 0.28))
    wheel.imshow(colour_wheel(), extent=(-1, 1, -1, 1), interpolation="bilinear")
    wheel.set_axis_off()
    wheel.set_aspect("equal")
    for text, x, y, across, up in (
        ("0", 1.12, 0, "left", "center"),
        ("π/2", 0, 1.12, "center", "bottom"),
        ("−π/2", 0, -1.15, "center", "top"),
    ):
        wheel.text(x, y, text, ha=across, va=up, fontsize=8)
    wheel.text(-1.12, 0, "π", ha="right", va="center", fontsize=8)


def nice_length(limit: float) -> float:
    """Largest number of the form 1, 2 or 5 times a power of ten that does not exceed ``limit``."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(step * power for step in (1, 2, 5) if step * power <= limit * (1 + 1e-9))


def length_text(metres: float) -> str:
    """Format a length with a suitable unit, for instance ``500 nm``."""
    unit, name = next(((unit, name) for unit, name in reversed(_UNITS) if metres >= unit * (1 - 1e-9)), _UNITS[0])
    return f"{metres / unit:.3g} {name}"


def scale_bar(ax: Axes, width: int, height: int, pixel_m: PixelSize = None) -> str:
    """Draw a scale bar of a round length in the lower left corner and return its label.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes that show the image.
    width, height : int
        Size of the image, px.
    pixel_m : (float, float), optional
        Pixel size (y, x) in metres; without it the bar is labelled in pixels.
    """
    if pixel_m is None:
        pixels = max(1.0, nice_length(max(1.0, _BAR_SHARE * width)))
        text = f"{pixels:.0f} px"
    else:
        length = nice_length(_BAR_SHARE * width * pixel_m[1])
        pixels, text = length / pixel_m[1], length_text(length)
    bar = AnchoredSizeBar(
        ax.transData,
        pixels,
        text,
        "lower left",
        pad=0.5,
        borderpad=0.7,
        sep=4,
        color="white",
        size_vertical=0.015 * height,
        label_top=True,
        fontproperties=FontProperties(size=8),
    )
    # A dark background keeps the bar readable on any image.
    bar.patch.set(facecolor="black", alpha=0.6, edgecolor="none")
    ax.add_artist(bar)
    return text


def show_history(ax: Axes, history: dict[str, list[float]]) -> None:
    """Plot fit and held-out fit (or the loss) against epoch, on a logarithmic axis."""
    names = {"fit": "fit", "held_out_fit": "held-out fit"}
    columns = [name for name in names if history.get(name)] or [name for name in ("loss",) if history.get(name)]
    drawn = False
    for name in columns:
        values = np.asarray(history[name], float)
        epoch = np.asarray(history.get("epoch") or np.arange(1, len(values) + 1), float)[: len(values)]
        good = np.isfinite(values) & (values > 0)
        if good.any():
            ax.plot(epoch[good], values[good], label=names.get(name, name), marker="o" if good.sum() < 3 else None)
            drawn = True
    ax.set_title("History")
    ax.set_xlabel("epoch")
    if not drawn:
        ax.text(0.5, 0.5, "not recorded", ha="center", va="center", transform=ax.transAxes)
        ax.set(xticks=[], yticks=[], xlabel="")
        return
    ax.set_yscale("log")
    if "loss" in columns:
        ax.set_ylabel("loss")
    else:
        ax.axhline(1.0, color="black", lw=0.8, ls=":", label="shot noise")
        ax.set_ylabel("fit (deviance / expected)")
    ax.grid(alpha=0.3, which="both")
    ax.legend(fontsize=8)
