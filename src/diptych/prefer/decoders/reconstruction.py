"""Reconstructions of a scan as images to judge; their settings are the latent. This decoder connects the two panels."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
from diptych.runtime.options import LocalPath, Options, OptionsText, inline
from diptych.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from diptych.ptycho.engines.options import ReconstructionOptions
    from diptych.ptycho.io import LoadOptions
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

    scan: LocalPath = Field(None, description="File of the scan whose reconstruction is judged")
    reading: OptionsText = Field(
        None,
        description="How the scan is read: options of info as a mapping, {orientation: 3, swap_xy: true}, or a YAML "
        "FILE with them",
    )
    shared: OptionsText = Field(
        None,
        description="Common to all reconstructions: options of reconstruct as a mapping, {modes: 2, drop: 3-5}, or a "
        "YAML FILE with them",
    )
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
        Values of all other options. ``frame.model`` names the scan and ends with a hash of its data, the settings and
        these options: judgements of another scan of that name do not count.
    threads : int, optional
        The number of threads of torch if None.
    reading : LoadOptions, optional
        How a file is read; also part of :meth:`config`.

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
        reading: LoadOptions | None = None,
    ) -> None:
        import torch

        from diptych.ptycho.engines.base import ENGINES
        from diptych.ptycho.engines.flags.known import Known
        from diptych.ptycho.engines.options import ReconstructionOptions

        self.scan = _scan(scan, reading)
        self.settings = tuple(settings)
        self.options = options or ReconstructionOptions()
        self._reading = {} if reading is None else reading.model_dump(mode="json", exclude_unset=True)
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
        self._measured: dict[bytes, dict[str, float | list[str]]] = {}
        # How the scan may be misread does not depend on the settings: tried once for all images.
        self._known = Known()
        y0, y1, x0, x1 = self._box = _box(_prepared(self.scan, self.options))
        self._scale = max(1, -(-LEAST // max(y1 - y0, x1 - x0)))
        frame = Frame(
            self.scan.name if prompt is None else prompt,
            negative_prompt,
            f"reconstruct {self.scan.name} {content_hash((self.scan, self.settings, self.options))}",
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
        settings, how the scan is read, and the other options that were given.
        """
        return {**self._reading, **self.options.model_dump(mode="json", exclude_unset=True), **self.values(latent)}

    def measured(self, latent: ArrayLike) -> dict[str, float | list[str]]:
        """``fit``, ``held_out_fit`` and kinds of ``flags`` of the image of a latent (d,) once decoded, or nothing."""
        return dict(self._measured.get(self._checked(latent).tobytes(), {}))

    def attend(self, progress: ProgressCallback, cancel: Cancel) -> None:
        """Report the epochs of reconstructions to ``progress``, and stop them when ``cancel`` is requested."""
        self._progress, self._cancel = progress, cancel

    def result(self, latent: ArrayLike) -> Reconstruction:
        """The reconstruction of an image: from the cache of the last :data:`KEPT`, or repeated."""
        with self._lock:
            return self._result(self._checked(latent))

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
            found = reconstruct(
                self.scan, None, options, self._progress, execution=execution, cancel=cancel, known=self._known
            )
        except Interrupted:
            if not cancel.requested:
                raise
            raise UnavailableError(f"{self.scan.name}: the reconstruction was stopped; there is no image.") from None
        self._results[key] = found
        while len(self._results) > KEPT:
            self._results.popitem(last=False)
        return found

    def _decode(self, latent: NDArray[np.float32]) -> Decoded:
        from diptych.ptycho.engines.flags.base import known_kinds

        try:
            result = self._result(latent)
        except InputError as error:
            # If the defaults fail, the scan is at fault. Other settings may fail, and then the image is black.
            if np.array_equal(latent, self.start):
                raise
            used = " ".join(f"{name}={value}" for name, value in self.values(latent).items())
            log.warning("[pipe] no image with the settings %s: %s", used, error)
            return Decoded(np.zeros((self.frame.height, self.frame.width, 3), np.uint8), finite=False)
        fits = ((name, float(result.provenance[name])) for name in ("fit", "held_out_fit"))
        finite = {name: fit for name, fit in fits if np.isfinite(fit)}
        self._measured[latent.tobytes()] = {**finite, "flags": known_kinds(result.flags)}
        return picture(result, self._box, self._scale)


def picture(result: Reconstruction, box: tuple[int, int, int, int], scale: int) -> Decoded:
    """Amplitude (left) and phase (right) inside a box (y0, y1, x0, x1) of coordinates, each with its own colour range.

    Level, ramp and colour ranges are those of the pixels that light reached; the others are striped. The phase is
    levelled, and its ramp removed where the data do not determine it; a phase that wraps has a cyclic colour map.
    """
    from diptych.runtime.plotting import load_matplotlib

    load_matplotlib()
    from matplotlib import colormaps

    from diptych.ptycho.evaluate.gauge import resolve_gauge
    from diptych.ptycho.figures.area import shown_part, striped
    from diptych.ptycho.figures.colours import phase_display, robust_range

    shown = shown_part(result, box)
    finite = bool(np.isfinite(shown.canvas.values[shown.lit]).all())
    shown = replace(shown, canvas=replace(shown.canvas, values=np.nan_to_num(shown.canvas.values)))
    values = shown.levelled(ramp=resolve_gauge("auto", result)[0] == "full")
    amplitude, phase = np.abs(values), np.angle(values)
    cmap, limits = phase_display(phase[shown.lit])
    images = [
        colormaps[name](np.clip((image - low) / (high - low), 0, 1))[..., :3]
        for image, name, (low, high) in (
            (amplitude, "gray", robust_range(amplitude[shown.lit])),
            (phase, cmap, limits),
        )
    ]
    lit = shown.lit.repeat(scale, 0).repeat(scale, 1)
    large = [striped(image.repeat(scale, 0).repeat(scale, 1), lit) for image in images]
    decoded = as_bytes(np.concatenate([large[0], np.ones((len(large[0]), GAP, 3)), large[1]], axis=1))
    return Decoded(decoded.image, finite)


UNSEEN = frozenset({"name", "metadata", "truth", "true_probe", "true_slices"})
"""Fields of a scan that do not change its reconstruction."""


def content_hash(content: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of arrays and options, nested in dataclasses and tuples.

    Equal numbers give equal hashes, whatever their type and byte order: a scan has that of the file it was saved to.
    """
    digest = hashlib.sha256()
    _feed(digest.update, content)
    return digest.hexdigest()[:16]


def _feed(update: Callable[[bytes | memoryview], None], content: Any) -> None:
    if isinstance(content, np.ndarray):
        update(repr(content.shape).encode())
        # One pattern at a time: the scan may fill half of the memory.
        for part in content if content.ndim > 2 else [content]:
            update(np.ascontiguousarray(part, dtype="<c16" if np.iscomplexobj(part) else "<f8").data.cast("B"))
    elif dataclasses.is_dataclass(content):
        update(type(content).__name__.encode())
        for entry in dataclasses.fields(content):
            value = getattr(content, entry.name)
            array = isinstance(value, np.ndarray)
            usual = (value.dtype == bool and value.all()) if array else value == entry.default
            if entry.name not in UNSEEN and not usual:
                update(entry.name.encode())
                _feed(update, value)
    elif isinstance(content, tuple):
        for value in content:
            _feed(update, value)
    else:
        # Without defaults: a later version may have more options, and the judgements still count.
        plain = sorted(content.model_dump(exclude_defaults=True).items()) if isinstance(content, Options) else content
        update(repr(plain).encode() + b";")


def reading_of(given: str | Mapping[str, Any] | None) -> LoadOptions:
    """How the scan is read, from the option ``reading``. Raises InputError where it names other options."""
    from diptych.ptycho.io import LoadOptions

    return inline(LoadOptions, given, "reading")


def shared_of(given: str | Mapping[str, Any] | None) -> ReconstructionOptions:
    """What all reconstructions share, from the option ``shared``. Raises InputError where it names other options."""
    from diptych.ptycho.engines.options import ReconstructionOptions

    return inline(ReconstructionOptions, given, "shared")


def _prepared(scan: Scan, options: ReconstructionOptions) -> Scan:
    """The scan after the preparation that the options ask for: it may change the pixel of the object."""
    from diptych.ptycho.prepare.preparation import prepare
    from diptych.ptycho.prepare.preparation_options import preparation_of

    return scan if options.prepare is None else prepare(scan, preparation_of(options.prepare))


def _scan(given: Scan | str | Path, reading: LoadOptions | None) -> Scan:
    from diptych.ptycho.io import load_scan
    from diptych.ptycho.scan import Scan

    found = load_scan(given, reading) if isinstance(given, str | Path) else given
    if not isinstance(found, Scan):
        raise InputError("reconstruction decoder", f"got a {type(found).__name__}", "a Scan, or the file of one")
    return found


def _box(scan: Scan) -> tuple[int, int, int, int]:
    """The scanned area as figures show it, (y0, y1, x0, x1); where nothing bounds one, everything in a window."""
    from diptych.ptycho.figures.area import shown_box
    from diptych.ptycho.physics.measured import light_of

    if (box := shown_box(scan.positions, light_of(scan))) is not None:
        return box
    (y0, x0), (y1, x1) = np.floor([scan.positions.min(axis=0), scan.positions.max(axis=0)]).astype(int) - scan.size // 2
    return int(y0), int(y1) + scan.size, int(x0), int(x1) + scan.size


def _open(
    options: ReconstructionDecoderOptions, prompt: str | None, negative_prompt: str | None
) -> ReconstructionDecoder:
    if options.scan is None:
        raise InputError("decoder reconstruction", "no scan is given", "the file of a scan", "Pass scan (--scan).")
    return ReconstructionDecoder(
        options.scan,
        prompt,
        negative_prompt or "",
        options=shared_of(options.shared),
        threads=options.threads,
        reading=reading_of(options.reading),
    )


DECODER = DecoderKind(
    "reconstruction",
    "Reconstructions of a scan; the latent is the reconstruction settings.",
    ReconstructionDecoderOptions,
    "cube",
    "own",
    _open,
)
