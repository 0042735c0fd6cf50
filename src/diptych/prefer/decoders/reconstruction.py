"""The hinge between the panels: a person judges reconstructions of a scan, and the latent is how they were made."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.decoders.base import BaseDecoder, Decoded, as_bytes, versions
from diptych.prefer.judgement import Frame

if TYPE_CHECKING:
    from diptych.ptycho.iterative.options import ReconstructionOptions
    from diptych.ptycho.scan import Reconstruction, Scan

log = logging.getLogger("diptych")

KEPT = 32
"""Reconstructions that are kept."""

LEAST = 256
"""Pixels: smaller pictures are enlarged by a whole factor."""

GAP = 4
"""Pixels between amplitude and phase."""


class Setting(Protocol):
    """One setting: how many numbers of the latent it takes, and what they mean."""

    @property
    def name(self) -> str:
        """The option of ``reconstruct``."""
        ...

    @property
    def width(self) -> int:
        """How many numbers it takes."""
        ...

    def value(self, part: NDArray[np.float32]) -> Any:
        """The setting at (width,) numbers from 0 to 1; its default where all are one half."""
        ...

    def part(self, value: Any) -> list[float]:
        """The numbers that mean a value: the inverse of :meth:`value`."""
        ...


@dataclass(frozen=True)
class Number:
    """A number between two limits; the latent is its quantile, and the default is the median.

    A default that is also a limit takes half of the space: no value lies beyond it.

    Attributes
    ----------
    name : str
    low, default, high : float
    log : bool
        Even over the logarithm.
    whole : bool
        Rounded.
    """

    name: str
    low: float
    default: float
    high: float
    log: bool = False
    whole: bool = False
    width: int = 1

    def value(self, part: NDArray[np.float32]) -> float | int:
        """The number at a quantile (1,)."""
        quantile = float(part[0])
        # A logarithm and back does not always return the number.
        found = {0.0: self.low, 0.5: self.default, 1.0: self.high}.get(quantile)
        if found is None:
            found = float(np.interp(quantile, (0.0, 0.5, 1.0), self._marks()))
            found = min(max(math.exp(found) if self.log else found, self.low), self.high)
        return round(found) if self.whole else found

    def part(self, value: float) -> list[float]:
        """The quantile of a number."""
        if not self.low <= value <= self.high:
            raise InputError(f"{self.name} = {value:g} is outside the space of settings; expected {self.low:g} to {self.high:g}.")
        if value == self.default:
            return [0.5]
        return [float(np.interp(math.log(value) if self.log else value, self._marks(), (0.0, 0.5, 1.0)))]

    def _marks(self) -> list[float]:
        return [math.log(x) if self.log else x for x in (self.low, self.default, self.high)]


@dataclass(frozen=True)
class Choice:
    """One of several; the first is the default. Each has a number of its own, and the largest wins."""

    name: str
    values: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many there are."""
        return len(self.values)

    def value(self, part: NDArray[np.float32]) -> str:
        """The one whose number is largest; the first of equals."""
        return self.values[int(np.argmax(part))]

    def part(self, value: str) -> list[float]:
        """1 for that one, 0 for the others."""
        if value not in self.values:
            raise InputError(f"{self.name} = {value!r} is outside the space of settings; expected one of {', '.join(self.values)}.")
        return [float(value == each) for each in self.values]


SETTINGS: tuple[Setting, ...] = (
    Choice("likelihood", ("poisson", "amplitude")),
    Number("epochs", 5, 100, 400, log=True, whole=True),
    Number("alpha", 0.02, 0.3, 1.0, log=True),
    Number("step", 0.05, 1.0, 1.0, log=True),
    Number("momentum", 0.0, 0.8, 0.99),
)
"""What changes a noisy image: noise model, when to stop, and regularisation, step and momentum of the stochastic start."""


class ReconstructionDecoder(BaseDecoder):
    """Amplitude and phase of a scan as reconstructed with the settings that the latent says.

    Parameters
    ----------
    scan : Scan or path
    prompt, negative_prompt : str, optional
        Kept in the frame; by default the name of the scan.
    settings : sequence of Setting
        The space.
    options : ReconstructionOptions, optional
        What is not in the space.
    threads : int, optional
        As many as torch has when None.

    Attributes
    ----------
    categories : tuple of slice
        Which numbers of the latent are the choices of one setting.
    start : (d,) float32
        The defaults: one half for numbers, and the first of each choice.

    Raises
    ------
    InputError
        The file holds no scan, or a setting is no option of ``reconstruct`` or stands there twice.
    """

    def __init__(
        self,
        scan: Scan | str | Path,
        prompt: str | None = None,
        negative_prompt: str = "",
        settings: Sequence[Setting] = SETTINGS,
        options: ReconstructionOptions | None = None,
        threads: int | None = None,
    ) -> None:
        import torch

        from diptych.ptycho.iterative.options import ReconstructionOptions

        self.scan = _scan(scan)
        self.settings = tuple(settings)
        self.options = options or ReconstructionOptions()
        names = [setting.name for setting in self.settings]
        wrong = sorted(name for name in set(names) if name not in ReconstructionOptions.model_fields or names.count(name) > 1)
        if wrong or not names:
            raise InputError(f"settings {', '.join(wrong) or '(none)'} cannot be searched; expected different options of reconstruct.")
        ends = np.cumsum([setting.width for setting in self.settings]).tolist()
        self._parts = [slice(end - setting.width, end) for end, setting in zip(ends, self.settings, strict=True)]
        self.categories = tuple(part for part, setting in zip(self._parts, self.settings, strict=True) if isinstance(setting, Choice))
        self._threads = threads or torch.get_num_threads()
        self._results: OrderedDict[bytes, Reconstruction] = OrderedDict()
        y0, y1, x0, x1 = self._box = _box(self.scan)
        self._scale = max(1, -(-LEAST // max(y1 - y0, x1 - x0)))
        frame = Frame(
            self.scan.name if prompt is None else prompt,
            negative_prompt,
            f"reconstruct {self.scan.name}",
            2 * (x1 - x0) * self._scale + GAP,
            (y1 - y0) * self._scale,
            seed=self.options.seed,
            versions=versions("diptych", "torch", "numpy"),
            device="cpu",
            dtype="float32",
            threads=self._threads,
        )
        super().__init__("reconstruction", "cube", ends[-1], frame)
        self.start = self.latent()

    def values(self, latent: ArrayLike) -> dict[str, Any]:
        """The settings, by name, that a latent (d,) means.

        Raises
        ------
        InputError
            The latent has another shape, or lies outside the cube.
        """
        checked = self._checked(latent)
        return {setting.name: setting.value(checked[part]) for setting, part in zip(self.settings, self._parts, strict=True)}

    def latent(self, **values: Any) -> NDArray[np.float32]:
        """The latent (d,) of settings by name; those left out have their defaults.

        Raises
        ------
        InputError
            A setting is not in the space, or its value outside it.
        """
        unknown = sorted(set(values) - {setting.name for setting in self.settings})
        if unknown:
            known = ", ".join(setting.name for setting in self.settings)
            raise InputError(f"the space has no {', '.join(unknown)}; its settings are {known}.")
        found = np.full(self._parts[-1].stop, 0.5, np.float32)
        for setting, part in zip(self.settings, self._parts, strict=True):
            if setting.name in values or isinstance(setting, Choice):
                middle = np.full(setting.width, 0.5, np.float32)
                found[part] = setting.part(values.get(setting.name, setting.value(middle)))
        return found

    def result(self, latent: ArrayLike) -> Reconstruction:
        """The reconstruction behind a picture: one of the last :data:`KEPT`, or made again."""
        checked = self._checked(latent)
        with self._lock:
            return self._result(checked)

    def _result(self, latent: NDArray[np.float32]) -> Reconstruction:
        from diptych.ptycho.reconstruct import reconstruct
        from diptych.runtime.device import ExecutionOptions

        values = self.values(latent)
        key = repr(sorted(values.items())).encode()
        if key in self._results:
            self._results.move_to_end(key)
            return self._results[key]
        log.info("[pipe] reconstruct %s", " ".join(f"{name}={value}" for name, value in values.items()))
        # One device and a fixed number of threads: the picture must be the same again.
        execution = ExecutionOptions(device="cpu", threads=self._threads)
        found = reconstruct(self.scan, options=self.options.with_changes(**values), execution=execution)
        self._results[key] = found
        while len(self._results) > KEPT:
            self._results.popitem(last=False)
        return found

    def _decode(self, latent: NDArray[np.float32]) -> Decoded:
        try:
            result = self._result(latent)
        except InputError as error:
            # Defaults that fail are a fault of the scan; other settings may be so unlucky, and an expert is to see that they are.
            if np.array_equal(latent, self.start):
                raise
            log.warning("[pipe] these settings reconstruct nothing: %s", error)
            return Decoded(np.zeros((self.frame.height, self.frame.width, 3), np.uint8), finite=False)
        return picture(result, self._box, self._scale)


def picture(result: Reconstruction, box: tuple[int, int, int, int], scale: int) -> Decoded:
    """Amplitude on the left, phase on the right, of a box (y0, y1, x0, x1) of coordinates, each from dark to bright.

    The phase is levelled (without its ramp where the data leave it free); a phase that wraps has a cyclic colour map.
    """
    from matplotlib import colormaps

    from diptych.ptycho.evaluate.colours import level_phase, phase_display, robust_range
    from diptych.ptycho.evaluate.gauge import resolve_gauge

    canvas = result.object.crop(*box)
    finite = bool(np.isfinite(canvas.values).all())
    values = level_phase(np.nan_to_num(canvas.values), ramp=resolve_gauge("auto", result)[0] == "full")
    amplitude, phase = np.abs(values), np.angle(values)
    cmap, limits = phase_display(phase)
    shown = [
        colormaps[name](np.clip((image - low) / (high - low), 0, 1))[..., :3]
        for image, name, (low, high) in ((amplitude, "gray", robust_range(amplitude)), (phase, cmap, limits))
    ]
    large = [image.repeat(scale, 0).repeat(scale, 1) for image in shown]
    decoded = as_bytes(np.concatenate([large[0], np.ones((len(large[0]), GAP, 3)), large[1]], axis=1))
    return Decoded(decoded.image, finite)


def _scan(given: Scan | str | Path) -> Scan:
    from diptych.ptycho.io import load_scan
    from diptych.ptycho.scan import Scan

    found = load_scan(given) if isinstance(given, str | Path) else given
    if not isinstance(found, Scan):
        raise InputError(f"the reconstruction decoder got a {type(found).__name__}; expected a Scan, or a file that holds one.")
    return found


def _box(scan: Scan) -> tuple[int, int, int, int]:
    """The area between the outermost positions, (y0, y1, x0, x1); for a scan along a line all that was lit."""
    from diptych.ptycho.evaluate.halves import scanned_box

    y0, y1, x0, x1 = scanned_box(scan.positions)
    if min(y1 - y0, x1 - x0) >= 2:
        return y0, y1, x0, x1
    (y0, x0), (y1, x1) = np.floor([scan.positions.min(axis=0), scan.positions.max(axis=0)]).astype(int) - scan.size // 2
    return int(y0), int(y1) + scan.size, int(x0), int(x1) + scan.size
