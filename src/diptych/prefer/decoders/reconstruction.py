"""Reconstructions of a scan as images to judge; the latent is the reconstruction settings. This decoder connects the
two panels.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders.base import BaseDecoder, Decoded, as_bytes, versions
from diptych.prefer.decoders.registry import DecoderKind
from diptych.prefer.decoders.settings import Choice, Number, Setting
from diptych.prefer.judgement import Frame
from diptych.runtime.interrupts import Cancel
from diptych.runtime.jobs.context import silent
from diptych.runtime.options import Options
from diptych.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from diptych.ptycho.engines.options import ReconstructionOptions
    from diptych.ptycho.scan import Reconstruction, Scan

log = logging.getLogger("diptych")

KEPT = 32
"""Size of the cache of reconstructions."""

LEAST = 256
"""Pixels: smaller images are enlarged by an integer factor."""

GAP = 4
"""Pixels between amplitude and phase."""


SETTINGS: tuple[Setting, ...] = (
    Choice("likelihood", ("poisson", "amplitude")),
    Number("epochs", 5, 100, 400, log=True, whole=True),
    Number("alpha", 0.02, 0.3, 1.0, log=True),
    Number("step", 0.05, 1.0, 1.0, log=True),
    Number("momentum", 0.0, 0.8, 0.99),
)
"""Settings that change the image of noisy data: noise model, number of epochs, and regularisation, step and momentum of
the stochastic start."""


class ReconstructionDecoderOptions(Options):
    """Options of the decoder reconstruction."""

    scan: str | None = Field(None, description="File of the scan whose reconstruction is judged")
    threads: int | None = Field(None, ge=1, description="Threads of a reconstruction; those of torch when not given")


class ReconstructionDecoder(BaseDecoder):
    """Amplitude and phase of a scan, reconstructed with the settings that the latent encodes.

    Parameters
    ----------
    scan : Scan or path
    prompt, negative_prompt : str, optional
        Stored in the frame; by default the name of the scan.
    settings : sequence of Setting
        The settings that the latent encodes.
    options : ReconstructionOptions, optional
        Values of all other options.
    threads : int, optional
        The number of threads of torch if None.

    Attributes
    ----------
    categories : tuple of slice
        Coordinates of each categorical setting.
    flats : tuple of Flat
        Intervals of coordinates on which a setting is constant.
    start : (d,) float32
        The defaults: one half for numbers, and the first value of each category.

    Raises
    ------
    InputError
        If the file has no scan, or a setting is not an option of ``reconstruct`` or is given twice.
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

        from diptych.ptycho.engines.base import ENGINES
        from diptych.ptycho.engines.options import ReconstructionOptions

        self.scan = _scan(scan)
        self.settings = tuple(settings)
        self.options = options or ReconstructionOptions()
        names = [setting.name for setting in self.settings]
        models: list[type[Options]] = [ReconstructionOptions, *ENGINES.option_models().values()]
        known = {name for model in models for name in model.model_fields}
        wrong = sorted(name for name in set(names) if name not in known or names.count(name) > 1)
        if wrong or not names:
            raise InputError(
                "settings", f"{', '.join(wrong) or '(none)'} cannot be searched", "different options of reconstruct"
            )
        ends = np.cumsum([setting.width for setting in self.settings]).tolist()
        self._parts = [slice(end - setting.width, end) for end, setting in zip(ends, self.settings, strict=True)]
        self.categories = tuple(
            part for part, setting in zip(self._parts, self.settings, strict=True) if isinstance(setting, Choice)
        )
        flats = [
            setting.flat(part.start)
            for part, setting in zip(self._parts, self.settings, strict=True)
            if isinstance(setting, Number)
        ]
        self.flats = tuple(flat for flat in flats if flat is not None)
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
        self._progress: ProgressCallback = silent
        self._cancel = Cancel()
        self.start = self.latent()

    def values(self, latent: ArrayLike) -> dict[str, Any]:
        """The settings, by name, of a latent (d,).

        Raises
        ------
        InputError
            If the latent has another shape, or lies outside the cube.
        """
        checked = self._checked(latent)
        return {
            setting.name: setting.value(checked[part]) for setting, part in zip(self.settings, self._parts, strict=True)
        }

    def latent(self, **values: Any) -> NDArray[np.float32]:
        """The latent (d,) of settings by name; missing ones have their defaults.

        Raises
        ------
        InputError
            If a setting is not in the space, or its value is out of range.
        """
        unknown = sorted(set(values) - {setting.name for setting in self.settings})
        if unknown:
            known = ", ".join(setting.name for setting in self.settings)
            raise InputError("space of settings", f"has no {', '.join(unknown)}", f"some of {known}")
        found = np.full(self._parts[-1].stop, 0.5, np.float32)
        for setting, part in zip(self.settings, self._parts, strict=True):
            if setting.name in values or isinstance(setting, Choice):
                middle = np.full(setting.width, 0.5, np.float32)
                found[part] = setting.part(values.get(setting.name, setting.value(middle)))
        return found

    def config(self, latent: ArrayLike) -> dict[str, Any]:
        """The options of ``reconstruct`` that make the image of a latent (d,), as ``--config`` takes them: the
        settings, and the other options that were given.
        """
        given = self.options.model_dump(mode="json", exclude_unset=True)
        return {**given, **self.values(latent)}

    def attend(self, progress: ProgressCallback, cancel: Cancel) -> None:
        """Report the epochs of reconstructions to ``progress``, and stop them when ``cancel`` is requested."""
        self._progress, self._cancel = progress, cancel

    def result(self, latent: ArrayLike) -> Reconstruction:
        """The reconstruction of an image: from the cache of the last :data:`KEPT`, or repeated."""
        checked = self._checked(latent)
        with self._lock:
            return self._result(checked)

    def _result(self, latent: NDArray[np.float32]) -> Reconstruction:
        from diptych.ptycho.reconstruct import Interrupted, reconstruct
        from diptych.runtime.device import ExecutionOptions

        values = self.values(latent)
        key = repr(sorted(values.items())).encode()
        if key in self._results:
            self._results.move_to_end(key)
            return self._results[key]
        log.info("[pipe] reconstruct %s", " ".join(f"{name}={value}" for name, value in values.items()))
        # A fixed device and number of threads, so that a repeated decode gives the same image.
        execution = ExecutionOptions(device="cpu", threads=self._threads)
        options, cancel = self.options.with_changes(**values), self._cancel
        try:
            found = reconstruct(self.scan, None, options, self._progress, execution=execution, cancel=cancel)
        except Interrupted:
            if not cancel.requested:
                raise
            raise UnavailableError(f"{self.scan.name}: the reconstruction was stopped; there is no image.") from None
        self._results[key] = found
        while len(self._results) > KEPT:
            self._results.popitem(last=False)
        return found

    def _decode(self, latent: NDArray[np.float32]) -> Decoded:
        try:
            result = self._result(latent)
        except InputError as error:
            # If the defaults fail, the scan is at fault. Other settings may fail, and then the image is black.
            if np.array_equal(latent, self.start):
                raise
            log.warning("[pipe] the reconstruction failed with these settings: %s", error)
            return Decoded(np.zeros((self.frame.height, self.frame.width, 3), np.uint8), finite=False)
        return picture(result, self._box, self._scale)


def picture(result: Reconstruction, box: tuple[int, int, int, int], scale: int) -> Decoded:
    """Amplitude (left) and phase (right) inside a box (y0, y1, x0, x1) of coordinates, each with its own colour range.

    The phase is levelled, and its ramp removed where the data do not determine it; a phase that wraps has a cyclic
    colour map.
    """
    from matplotlib import colormaps

    from diptych.ptycho.evaluate.gauge import resolve_gauge
    from diptych.ptycho.figures.colours import level_phase, phase_display, robust_range

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
        raise InputError("reconstruction decoder", f"got a {type(found).__name__}", "a Scan, or the file of one")
    return found


def _box(scan: Scan) -> tuple[int, int, int, int]:
    """Bounding box of the positions, (y0, y1, x0, x1); for a scan along a line, everything that was illuminated."""
    from diptych.ptycho.evaluate.halves import scanned_box

    y0, y1, x0, x1 = scanned_box(scan.positions)
    if min(y1 - y0, x1 - x0) >= 2:
        return y0, y1, x0, x1
    (y0, x0), (y1, x1) = np.floor([scan.positions.min(axis=0), scan.positions.max(axis=0)]).astype(int) - scan.size // 2
    return int(y0), int(y1) + scan.size, int(x0), int(x1) + scan.size


def _open(
    options: ReconstructionDecoderOptions, prompt: str | None, negative_prompt: str | None
) -> ReconstructionDecoder:
    if options.scan is None:
        raise InputError("decoder reconstruction", "no scan is given", "the file of a scan", "Pass scan (--scan).")
    return ReconstructionDecoder(options.scan, prompt, negative_prompt or "", threads=options.threads)


DECODER = DecoderKind(
    "reconstruction",
    "Reconstructions of a scan; the latent is the reconstruction settings.",
    ReconstructionDecoderOptions,
    "cube",
    "own",
    _open,
)
