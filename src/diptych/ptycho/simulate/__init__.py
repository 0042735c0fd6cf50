"""Simulated scans with known truth: an object, a probe, a trajectory and a detector, reproducible from one seed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.ptycho import validation
from diptych.ptycho.scan import Canvas, Geometry, Scan
from diptych.ptycho.simulate.options import PROBE_KINDS, SimulationOptions
from diptych.ptycho.simulate.slices import Slices, given_slices, make_slices, product, thick
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["SimulationOptions", "simulate"]

log = logging.getLogger("diptych")

MAX_COUNTS = 4e10
"""A scan of more detector pixels is refused (80 GB of counts at least)."""

_STREAMS = ("object", "trajectory", "noise", "dead pixels", "position errors", "read noise")
_SCAN_OPTIONS = ("trajectory", "patterns", "field", "step", "jitter")


@dataclass(frozen=True, eq=False)
class _Scanned:
    """What is scanned: the object, its slices where it has any, the true positions (M, 2), and the geometry."""

    truth: Canvas
    layers: NDArray[np.complex64] | None
    slices: Slices | None
    positions: NDArray[np.float64]
    geometry: Geometry | None


def simulate(
    options: SimulationOptions | None = None,
    progress: ProgressCallback | None = None,
    *,
    object: str | Canvas | ArrayLike | None = None,
    probe: str | ArrayLike | None = None,
    positions: ArrayLike | None = None,
    **overrides: Any,
) -> Scan:
    """Simulate a ptychographic scan.

    The counts follow the forward model of the package: the sum over probe modes of the squared modulus of the
    orthonormal FFT (near field: of the Fresnel propagation) of probe times object patch, in double precision, plus
    background; Poisson noise unless ``noise="none"``. Sub-pixel positions shift the probe (band-limited). Object,
    trajectory, noise, dead pixels and position errors use separate random streams of one seed: changing the dose, for
    instance, changes neither object nor positions.

    Parameters
    ----------
    options : SimulationOptions, optional
        What to simulate.
    progress : callable, optional
        Called with a :class:`~diptych.runtime.progress.Progress` after each chunk of patterns.
    object : str, Canvas or (H, W) complex, optional
        A kind of object (see :class:`SimulationOptions`), or your own; an array has its pixel [0, 0] at coordinate (0,
        0). With ``slices``, your own ones are an array (S, H, W), in the order in which the beam meets them.
    probe : str, (N, N) or (P, N, N) complex, optional
        A kind of probe, a file, ``optics:...``, or your own modes; their scale is set by the dose.
    positions : (M, 2) float, optional
        Your own true positions (y, x), object pixels, in place of a trajectory.
    **overrides
        Fields of :class:`SimulationOptions`; they win over ``options``.

    Returns
    -------
    Scan
        With ``truth`` (and ``true_slices``, whose product it is), ``true_probe`` (sum |P|^2 is the photons per pattern
        through a transparent object), ``probe`` (the solver's initial probe) and ``metadata["simulation"]``: the
        options, the photons, and the true positions where the scan's have errors.

    Raises
    ------
    InputError
        If options are out of range or contradictory, a file holds no probe, or the scan does not fit on the object.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="siemens-star", size=32, patterns=64, dose=1e4, seed=1)
    >>> scan.counts.shape, scan.counts.dtype.name, scan.truth.origin
    ((64, 32, 32), 'uint16', (0, 0))
    """
    given = {"object": object, "probe": probe}
    own_probe = None if probe is None or isinstance(probe, str) else probe
    own_object = None if isinstance(object, str) else object
    options = _chosen(options, overrides, given, positions)
    seeds = np.random.SeedSequence(options.seed).spawn(len(_STREAMS))
    streams = {name: np.random.default_rng(seed) for name, seed in zip(_STREAMS, seeds, strict=True)}
    shape, start = _probes(options, own_probe)
    size = shape.shape[-1]
    scanned = _scanned(options, size, own_object, positions, streams)
    true = scanned.positions
    reported = true + _position_errors(options, len(true), streams["position errors"])
    for where in (true, reported):
        validation.windows_inside(where, size, scanned.truth, "object", "simulate")
    true_probe, signal = _scaled(options, shape, scanned)
    counts, mask = _exposed(options, scanned, true_probe, streams, progress)
    return Scan(
        counts,
        reported,
        (np.sqrt(options.gain) * (true_probe if start is None else np.sqrt(signal) * start)).astype(np.complex64),
        mask=mask,
        geometry=scanned.geometry,
        background=np.full((size, size), options.gain * options.background, np.float32) if options.background else None,
        truth=scanned.truth,
        true_probe=true_probe,
        probe_calibrated=start is None,
        scale=1 / options.gain if _integrating(options) else None,
        read_noise=options.read_noise,
        name="simulated " + (options.object if own_object is None else "object"),
        true_slices=scanned.layers,
        metadata={"simulation": _record(options, given, true_probe, signal, true, reported, positions)},
    )


def _chosen(
    options: SimulationOptions | None, overrides: dict[str, Any], given: dict[str, Any], positions: ArrayLike | None
) -> SimulationOptions:
    """The options with the overrides and the names in ``given``; refused where they contradict arrays given."""
    overrides = overrides | {name: value for name, value in given.items() if isinstance(value, str)}
    arrays = {name: value for name, value in given.items() if not isinstance(value, str)}
    _refuse(overrides, ("amplitude", "phase"), "object", arrays.get("object"))
    _refuse(overrides, ("aperture", "central_stop", "radius", "defocus"), "probe", arrays.get("probe"))
    _refuse(overrides, _SCAN_OPTIONS, "positions", positions)
    if options is None:
        return SimulationOptions.build(overrides, origin="simulate")
    return options.with_changes(**overrides) if overrides else options


def _scanned(
    options: SimulationOptions,
    size: int,
    own_object: Canvas | ArrayLike | None,
    own_positions: ArrayLike | None,
    streams: dict[str, Generator],
) -> _Scanned:
    """The object, as given or of the kind in the options, and where the probe meets it."""
    geometry = _geometry(options)
    own, layers = (None, None) if own_object is None else _own_object(own_object, options)
    positions = _true_positions(options, size, own_positions, own, streams["trajectory"])
    if own is None:
        truth, layers = _object(options, size, positions, streams["object"])
    else:
        truth = own
    slices = thick(layers, options)
    if geometry is not None and truth.pixel_m is None:
        truth = Canvas(truth.values, truth.origin, geometry.object_pixel_m(size))
    return _Scanned(truth, layers, slices, positions, geometry)


def _exposed(
    options: SimulationOptions,
    scanned: _Scanned,
    probe: NDArray[np.complex64],
    streams: dict[str, Generator],
    progress: ProgressCallback | None,
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Counts and mask of the detector in the options: its background, dead pixels, saturation, gain and noise."""
    from diptych.ptycho.simulate import detector

    mask = detector.dead_pixels(probe.shape[-1], options.dead, options.beam_stop, streams["dead pixels"])
    total, noisy = len(scanned.positions), options.noise == "poisson"
    reading = detector.Reading(options.gain, options.read_noise or 0.0, streams["read noise"] if noisy else None)
    return detector.expose(
        scanned.truth,
        probe,
        scanned.positions,
        streams["noise"] if noisy else None,
        background=options.background,
        point_spread=options.point_spread,
        mask=mask,
        saturation=options.saturation,
        geometry=scanned.geometry,
        slices=scanned.slices,
        reading=reading if _integrating(options) else None,
        report=None if progress is None else lambda done: progress(Progress("simulate", done, total)),
    )


def _integrating(options: SimulationOptions) -> bool:
    """Whether the detector integrates charge, and does not count photons."""
    return options.gain != 1 or options.read_noise is not None


def _own_object(value: Canvas | ArrayLike, options: SimulationOptions) -> tuple[Canvas, NDArray[np.complex64] | None]:
    """The given object, and its slices where it has any."""
    if options.slices > 1 or (not isinstance(value, Canvas) and np.ndim(value) == 3):
        layers = given_slices(value.values if isinstance(value, Canvas) else value, options)
        return product(layers), layers
    canvas = value if isinstance(value, Canvas) else Canvas(np.asarray(value))
    # Rounded to the stored precision before the simulation, so that the stored truth reproduces the data exactly.
    return Canvas(canvas.values.astype(np.complex64), canvas.origin, canvas.pixel_m), None


def _refuse(overrides: dict[str, Any], names: Iterable[str], argument: str, value: Any) -> None:
    contradicting = [name for name in names if overrides.get(name) is not None]
    if value is not None and contradicting:
        raise InputError(
            f"simulate: {', '.join(contradicting)}", f"given together with an array for {argument}", "one or the other"
        )


def _probes(
    options: SimulationOptions, own: ArrayLike | None
) -> tuple[NDArray[np.complex128], NDArray[np.complex128] | None]:
    """The probe (P, N, N) of power 1, and the solver's initial probe where it differs."""
    from diptych.ptycho.simulate import probes

    powers = options.mode_powers or tuple(0.4**i for i in range(options.modes))
    error = options.probe_error
    if own is None and options.probe in PROBE_KINDS:
        size = options.size or 64
        parts = {name: getattr(options, name) for name in ("aperture", "central_stop", "radius", "defocus")}
        first, wrong = (probes.make_probe(options.probe, size, **parts, error=e) for e in (0.0, error))
        return probes.add_modes(first, powers), probes.add_modes(wrong, powers) if error else None
    what = "the probe" if own is not None else f"the probe {options.probe}"
    modes = probes.given_probe(_named_probe(options) if own is None else own, what)
    if options.size not in (None, modes.shape[-1]):
        raise InputError(
            "simulate: size",
            f"{what} is {modes.shape[-1]} px wide and size = {options.size}",
            "the same size",
            "Leave size out, or give another probe.",
        )
    if len(modes) == 1:
        modes = probes.add_modes(modes[0], powers)
    elif options.modes not in (1, len(modes)) or options.mode_powers is not None:
        raise InputError(
            "simulate: modes", f"{what} has {len(modes)} modes already", remedy="Leave modes and mode_powers out."
        )
    return modes, probes.misjudged(modes, error) if error else None


def _named_probe(options: SimulationOptions) -> NDArray[np.complex64]:
    """The probe of a file, or of optics."""
    from diptych.ptycho.physics.optics.spec import is_optics, probe_from_optics

    if not is_optics(options.probe):
        return _probe_in_file(options.probe)
    probe, warnings = probe_from_optics(options.probe, options.size or 64, _geometry(options), "simulate")
    for warning in warnings:
        log.warning("simulate: %s", warning)
    return probe


def _probe_in_file(name: str) -> NDArray[np.complex64]:
    from diptych.ptycho.io import read_probe
    from diptych.ptycho.io.fields import PROBE_KEYS

    if not Path(name).exists():
        raise InputError(
            f"simulate: probe {name!r}",
            "is neither a kind of probe nor a file",
            f"{', '.join(PROBE_KINDS)}, a file, or optics:KEY=VALUE,...",
        )
    return read_probe(name, keys=("trueProbe", *PROBE_KEYS))


def _true_positions(
    options: SimulationOptions, size: int, own: ArrayLike | None, canvas: Canvas | None, rng: Generator
) -> NDArray[np.float64]:
    """Positions of the patterns: as given, or centred on the given object, or so that the object starts at (0, 0)."""
    from diptych.ptycho.simulate.trajectories import make_trajectory

    if own is not None:
        positions = validation.positions_array(own, len(own) if isinstance(own, Sized) else 0, "simulate")
        _affordable(positions, size)
        return _placed(options, positions)
    step = options.step or size / 8
    count = options.patterns or 256
    positions = make_trajectory(
        options.trajectory, step, rng, patterns=count, field=options.field, jitter=options.jitter
    )
    _affordable(positions, size)
    if canvas is not None:
        y0, y1, x0, x1 = canvas.extent
        middle = (positions.min(0) + positions.max(0)) / 2
        positions = positions + np.rint(np.array([(y0 + y1) / 2, (x0 + x1) / 2]) - middle)
    else:
        positions = positions - np.floor(positions.min(0) + 0.5) + size // 2 + _margin(options)
    return _placed(options, positions)


def _placed(options: SimulationOptions, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.floor(positions + 0.5) if options.integer else positions, np.float64)


def _affordable(positions: NDArray[np.float64], size: int) -> None:
    if len(positions) * size**2 > MAX_COUNTS:
        raise InputError(
            "simulate",
            f"{len(positions)} patterns of {size} x {size} pixels are too many (limit {MAX_COUNTS:.0e} pixels in all)",
            "fewer patterns, a larger step, or a smaller size",
        )
    validation.canvas_size(positions, size, "simulate")


def _margin(options: SimulationOptions) -> int:
    # Position errors are truncated at 4 standard deviations, and must not move a window off the object.
    return max(options.margin, int(np.ceil(4 * options.position_error)) + 1)


def _object(
    options: SimulationOptions, size: int, positions: NDArray[np.float64], rng: Generator
) -> tuple[Canvas, NDArray[np.complex64] | None]:
    """An object of the kind in the options, and its slices where it has any."""
    from diptych.ptycho.physics.patches import canvas_box
    from diptych.ptycho.simulate.objects import make_object

    origin, shape = canvas_box(positions, size, _margin(options))
    if options.slices > 1:
        layers = make_slices(options, shape, rng)
        return product(layers, origin), layers
    return Canvas(make_object(options.object, shape, rng, options.amplitude, options.phase), origin), None


def _position_errors(options: SimulationOptions, count: int, rng: Generator) -> NDArray[np.float64]:
    return np.asarray(options.position_error * np.clip(rng.standard_normal((count, 2)), -4, 4), np.float64)


def _geometry(options: SimulationOptions) -> Geometry | None:
    names = ("energy_eV", "distance_m", "detector_pixel_m", "focus_distance_m")
    stated = {name: value for name in names if (value := getattr(options, name)) is not None}
    if not stated and options.propagation == "far":
        return None
    return Geometry(**stated, particle=options.particle, propagation=options.propagation)


def _scaled(
    options: SimulationOptions, shape: NDArray[np.complex128], scanned: _Scanned
) -> tuple[NDArray[np.complex64], float]:
    """The probe scaled to photons, and the mean signal per pattern."""
    from diptych.ptycho.simulate.detector import signal_totals

    totals = signal_totals(scanned.truth, shape, scanned.positions, scanned.geometry, scanned.slices)
    through = float(totals.mean())
    if through <= 0:
        raise InputError("simulate: object", "transmits nothing where it is scanned", "a positive modulus")
    photons = options.probe_photons or (options.dose or 1e6) / through
    return (np.sqrt(photons) * shape).astype(np.complex64), photons * through


def _record(
    options: SimulationOptions,
    given: dict[str, Any],
    probe: NDArray[np.complex64],
    signal: float,
    true_positions: NDArray[np.float64],
    reported: NDArray[np.float64],
    own_positions: ArrayLike | None,
) -> dict[str, Any]:
    """Options, photons and true positions, as JSON values."""
    values: dict[str, Any] = options.model_dump(mode="json")
    arrays = [name for name, value in given.items() if value is not None and not isinstance(value, str)]
    arrays += [] if own_positions is None else ["positions"]
    record: dict[str, Any] = {
        "options": values,
        "seed": options.seed,
        "arrays_given": arrays,
        "mean_signal_photons": signal,
        "probe_photons": float(np.sum(np.abs(probe.astype(np.complex128)) ** 2)),
    }
    if options.position_error:
        record["position_error_rms_px"] = float(np.sqrt(np.mean((reported - true_positions) ** 2)))
        record["true_positions"] = true_positions.tolist()
    return record
