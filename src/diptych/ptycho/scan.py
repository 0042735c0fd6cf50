"""The data types of the ptycho panel: Geometry, Canvas, Scan and Reconstruction.

Conventions of the whole package: arrays are (..., y, x); positions are float64 (M, 2) in (y, x) object pixels, the
coordinates of index ``(N // 2, N // 2)`` of each pattern's window; a canvas carries the coordinate of its pixel [0, 0];
counts have zero frequency at ``[N // 2, N // 2]``; a mask is True where a pixel is valid.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.ptycho import validation
from diptych.ptycho.geometry import ELECTRON_REST_EV, PLANCK_TIMES_LIGHT_EV_M, Geometry
from diptych.ptycho.validation.words import mode_words, pixel_words

__all__ = ["ELECTRON_REST_EV", "PLANCK_TIMES_LIGHT_EV_M", "Canvas", "Geometry", "Reconstruction", "Scan"]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Complex = NDArray[np.complex64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Canvas:
    """A complex image with the coordinate of its first pixel.

    Parameters
    ----------
    values : (H, W) complex
        The object's transmission.
    origin : (int, int)
        Coordinate (y, x) of pixel [0, 0], in object pixels.
    pixel_m : (float, float), optional
        Pixel height and width in metres; None when the geometry is not known.

    Examples
    --------
    >>> import numpy as np
    >>> import diptych
    >>> canvas = diptych.Canvas(np.ones((20, 30), dtype=np.complex64), origin=(-4, -3))
    >>> canvas.extent
    (-4, 16, -3, 27)
    >>> canvas.crop(0, 10, 0, 10).origin
    (0, 0)
    """

    values: NDArray[np.complexfloating[Any, Any]]
    origin: tuple[int, int] = (0, 0)
    pixel_m: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "values", validation.canvas_values(self.values))
        set_(self, "origin", validation.canvas_origin(self.origin))
        if self.pixel_m is not None:
            set_(self, "pixel_m", validation.pixel_sides(self.pixel_m, "canvas: pixel_m"))

    def __repr__(self) -> str:
        height, width = self.shape
        return f"Canvas({height} x {width} px, origin (y, x) {self.origin}{pixel_words(self.pixel_m)})"

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.values.shape[0]), int(self.values.shape[1])

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """(y0, y1, x0, x1): the half-open box of coordinates that the canvas covers."""
        (y, x), (h, w) = self.origin, self.shape
        return y, y + h, x, x + w

    def crop(self, y0: int, y1: int, x0: int, x1: int) -> Canvas:
        """The part inside a half-open box of coordinates. Raises InputError when the box leaves the canvas."""
        cy0, cy1, cx0, cx1 = self.extent
        if not (cy0 <= y0 < y1 <= cy1 and cx0 <= x0 < x1 <= cx1):
            raise InputError(
                "canvas",
                f"the box y {y0}..{y1}, x {x0}..{x1} leaves the canvas",
                f"a box inside y {cy0}..{cy1}, x {cx0}..{cx1}",
            )
        return replace(self, values=self.values[y0 - cy0 : y1 - cy0, x0 - cx0 : x1 - cx0], origin=(y0, x0))


@dataclass(frozen=True, eq=False)
class Scan:
    """Measured (or simulated) diffraction counts and where each pattern was taken.

    Parameters
    ----------
    counts : (M, N, N) unsigned integer or float32
        Detector counts, zero frequency at [N // 2, N // 2].
    positions : (M, 2) float64
        (y, x) in object pixels, where index (N // 2, N // 2) of each window lies.
    probe : (P, N, N) or (N, N) complex, optional
        The solver's initial probe. None: it is estimated on request.
    mask : (N, N) or (M, N, N) bool, optional
        True where a detector pixel is valid. None: all are.
    geometry : Geometry, optional
        Unknown geometry is allowed; figures and files are then in pixels, and say so.
    background : (N, N) float, optional
        Known expected background counts per pixel.
    truth : Canvas, optional
        The true object, of a simulated scan.
    true_probe : (P, N, N) complex, optional
        The true probe, of a simulated scan.
    probe_calibrated : bool
        True when sum |probe|^2 is known to be the photons per pattern through a transparent object.
    scale : float, optional
        Photons per count. None: whole counts are photons, and that of others is found from their unit or their noise.
    read_noise : float, optional
        Charge-integrating detectors: rms of the read noise, in the units of ``counts``, which may then be negative.
        Without ``scale`` the counts are photons.
    name : str
        Name of the scan in messages and figures.
    metadata : dict
        What the file or the simulation states about the scan (JSON values).
    true_slices : (S, H, W) complex, optional
        True slices of a thick object, on the canvas of ``truth``, their product; left out without it.

    Raises
    ------
    InputError
        When shapes disagree, valid counts are not finite or negative, positions cannot be object pixels, the probe is
        zero, every pixel is masked, or a window leaves the true object.

    Examples
    --------
    >>> import numpy as np
    >>> import diptych
    >>> counts = np.full((3, 16, 16), 5, dtype=np.uint16)
    >>> scan = diptych.Scan(counts, positions=[[0, 0], [0, 4], [4, 2]], probe=np.ones((16, 16)))
    >>> len(scan), scan.size, scan.probe.shape
    (3, 16, (1, 16, 16))
    """

    counts: NDArray[Any]
    positions: Floats
    probe: Complex | None = None
    mask: Mask | None = None
    geometry: Geometry | None = None
    background: NDArray[np.float32] | None = None
    truth: Canvas | None = None
    true_probe: Complex | None = None
    probe_calibrated: bool = False
    scale: float | None = None
    name: str = "scan"
    metadata: dict[str, Any] = field(default_factory=dict)
    read_noise: float | None = None
    true_slices: Complex | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        counts = validation.counts_array(self.counts, self.name)
        size = int(counts.shape[-1])
        mask = validation.mask_array(self.mask, counts.shape, self.name)
        if self.read_noise is not None:
            set_(self, "read_noise", validation.positive(self.read_noise, f"{self.name}: read_noise"))
        validation.counts_values(counts, mask, self.name, signed=self.read_noise is not None)
        positions = validation.positions_array(self.positions, len(counts), self.name)
        validation.canvas_size(positions, size, self.name)
        set_(self, "counts", validation.counts_kept(counts))
        set_(self, "mask", mask)
        set_(self, "positions", positions)
        if self.probe is not None:
            set_(self, "probe", validation.probe_array(self.probe, size, "probe", self.name))
        if self.true_probe is not None:
            set_(self, "true_probe", validation.probe_array(self.true_probe, size, "true probe", self.name))
        set_(self, "background", validation.background_array(self.background, size, self.name))
        if self.scale is not None:
            set_(self, "scale", validation.positive(self.scale, f"{self.name}: scale"))
        if self.geometry is not None:
            validation.instance(
                self.geometry, Geometry, "geometry", self.name, "Make one of its numbers: Geometry(energy_eV=...)."
            )
        if self.truth is not None:
            remedy = "Give the array its origin: truth=Canvas(array, origin=(y, x))."
            validation.instance(self.truth, Canvas, validation.TRUTH, self.name, remedy)
            validation.truth_covers(positions, size, self.truth, validation.TRUTH, self.name)
        shape = None if self.truth is None else self.truth.shape
        set_(self, "true_slices", validation.object_slices(self.true_slices, shape, "true slices", self.name))

    @classmethod
    def from_metres(
        cls,
        counts: NDArray[Any],
        positions_m: ArrayLike,
        geometry: Geometry,
        probe: NDArray[Any] | None = None,
        *,
        moves: str = "probe",
        **fields: Any,
    ) -> Scan:
        """A scan from stage positions in metres.

        Parameters
        ----------
        counts : (M, N, N)
            As for :class:`Scan`.
        positions_m : (M, 2) float
            (y, x) in metres.
        geometry : Geometry
            Must be complete: it sets the size of the object pixel.
        probe : (P, N, N) complex, optional
            The solver's initial probe.
        moves : {"probe", "sample"}
            What the stage moves. A sample that moves to +x brings the probe to -x on the object.
        **fields
            The other fields of :class:`Scan`.

        Raises
        ------
        InputError
            If the geometry is incomplete, ``moves`` is unknown, or the arrays do not make a scan.

        Examples
        --------
        >>> import numpy as np
        >>> import diptych
        >>> geometry = diptych.Geometry(energy_eV=8800, distance_m=1.9, detector_pixel_m=75e-6)
        >>> positions_m = np.array([[0, 0], [0, 1e-6], [1e-6, 0]])
        >>> scan = diptych.Scan.from_metres(np.ones((3, 64, 64), dtype=np.uint16), positions_m, geometry)
        >>> [f"{pixel * 1e9:.1f} nm" for pixel in scan.pixel_m]
        ['55.8 nm', '55.8 nm']
        >>> scan.positions.round(1).tolist()
        [[0.0, 0.0], [0.0, 17.9], [17.9, 0.0]]
        """
        validation.instance(geometry, Geometry, "geometry", "from_metres", "It sets the size of the object pixel.")
        counts = validation.counts_array(counts, "from_metres")
        metres = validation.coordinates(positions_m, "(patterns, 2) numbers, (y, x) in metres", "from_metres")
        pixel = geometry.object_pixel_m(int(counts.shape[-1]))
        if pixel is None:
            raise InputError(
                "from_metres: geometry",
                "the object pixel is not known",
                "a geometry with energy_eV, distance_m and detector_pixel_m",
                "Complete the geometry, or pass positions in object pixels to Scan(...).",
            )
        if moves not in ("probe", "sample"):
            raise InputError("from_metres: moves", f"found {moves!r}", "'probe' or 'sample'")
        sign = 1.0 if moves == "probe" else -1.0
        return cls(counts, sign * metres / np.asarray(pixel), probe, geometry=geometry, **fields)

    def __repr__(self) -> str:
        probe = "no probe" if self.probe is None else mode_words(self.probe)
        sizes = f"{len(self)} patterns of {self.size} x {self.size}, {probe}{pixel_words(self.pixel_m)}"
        return f"Scan({self.name!r}: {sizes})"

    @property
    def size(self) -> int:
        """N, the side of a pattern in pixels."""
        return int(self.counts.shape[-1])

    @property
    def pixel_m(self) -> tuple[float, float] | None:
        """Object pixel (y, x) in metres, or None."""
        return self.geometry.object_pixel_m(self.size) if self.geometry is not None else None

    def __len__(self) -> int:
        return len(self.counts)

    def summary(self) -> dict[str, Any]:
        """Sizes, photons, positions, overlap, probe and geometry, as JSON values; see :func:`diptych.describe`."""
        import diptych

        return diptych.describe(self)

    def plot(self) -> Figure:
        """Mean pattern, scan positions over the totals, and the probe; a matplotlib Figure."""
        import diptych

        return diptych.plot(self)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A reconstructed object and probe, with history.

    Parameters
    ----------
    object : Canvas
        The complex object, in the coordinates of ``positions``.
    probe : (P, N, N) complex64
        Probe modes, strongest first; orthogonal, unless ``probe_components`` tell that the first one varies.
    positions : (M, 2) float64
        Positions used, object pixels (y, x).
    history : dict of str to list
        One list per column, one entry per recorded epoch: ``epoch``, ``seconds``, ``fit``, ``held_out_fit``, ``loss``
        ...
    error : (H, W) float32, optional
        Standard error of the object's complex values; NaN where no light reached. See :func:`diptych.error_bars`.
    amplitude_error, phase_error : (H, W) float32, optional
        Standard error of the amplitude, and of the phase in rad.
    frame_factors : (M,) float64, optional
        Factor of each pattern's intensity, mean 1, where they were fitted.
    background : (N, N) float32, optional
        Counts that are the same in every frame, where they were fitted.
    recorded_positions : (M, 2) float64, optional
        The scan's own positions, where ``positions`` are refined ones.
    flags : tuple of str
        Warnings about the result, for instance that the fit stayed far above 1.
    provenance : dict
        Options, versions, seeds and hashes (JSON values).
    name : str
        Name of the result in messages and figures.
    geometry : Geometry, optional
        As in the scan.
    illumination : (H, W) float32, optional
        Sum over positions of the probe's |P|^2, photons per object pixel: which pixels were measured
        (:mod:`diptych.ptycho.physics.illumination`).
    slices : (S, H, W) complex64, optional
        Slices of a thick object in the order in which the beam meets them; ``object`` is their product.
    slice_distance_m : float, optional
        From one slice to the next, metres.
    probe_components, probe_coefficients : (K, N, N) and (M, K + 1) complex64, optional
        A probe that varies: pattern j has ``coefficients[j] @ [probe[0], *components]`` in the place of ``probe[0]``.
    """

    object: Canvas
    probe: Complex
    positions: Floats
    history: dict[str, list[float]] = field(default_factory=dict)
    error: NDArray[np.float32] | None = None
    frame_factors: Floats | None = None
    recorded_positions: Floats | None = None
    flags: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    name: str = "reconstruction"
    geometry: Geometry | None = None
    illumination: NDArray[np.float32] | None = None
    amplitude_error: NDArray[np.float32] | None = None
    phase_error: NDArray[np.float32] | None = None
    slices: Complex | None = None
    slice_distance_m: float | None = None
    probe_components: Complex | None = None
    probe_coefficients: Complex | None = None
    background: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        validation.instance(
            self.object, Canvas, "object", self.name, "Give the array its origin: Canvas(array, origin=(y, x))."
        )
        set_(self, "probe", validation.probe_array(self.probe, None, "probe", self.name))
        places = validation.coordinates(self.positions, "(patterns, 2) floats, (y, x) in object pixels", self.name)
        set_(self, "positions", places)
        shape = self.object.shape
        for each in ("error", "amplitude_error", "phase_error"):
            set_(self, each, validation.object_map(getattr(self, each), shape, each, "standard errors", self.name))
        light = validation.object_map(self.illumination, shape, "illumination", "photons per pixel", self.name)
        set_(self, "illumination", validation.not_negative(light, "illumination", self.name))
        set_(self, "slices", validation.object_slices(self.slices, shape, "slices", self.name))
        if (apart := self.slice_distance_m) is not None:
            set_(self, "slice_distance_m", validation.positive(apart, f"{self.name}: slice_distance_m"))
        factors = validation.one_per_pattern(self.frame_factors, len(self.positions), f"{self.name}: frame_factors")
        set_(self, "frame_factors", factors)
        set_(self, "background", validation.background_array(self.background, self.probe.shape[-1], self.name))
        one = (len(self.positions), *self.probe.shape[1:])
        validation.varying_probe(self.probe_components, self.probe_coefficients, one, self.name)
        recorded = validation.alike(self.recorded_positions, self.positions, f"{self.name}: recorded_positions")
        set_(self, "recorded_positions", recorded)

    def __repr__(self) -> str:
        height, width = self.object.shape
        fits = [
            f"{words} {self.provenance[key]:.3g}"
            for key, words in (("fit", "fit"), ("held_out_fit", "held-out fit"))
            if isinstance(self.provenance.get(key), float)
        ]
        parts = [f"object {height} x {width} px", mode_words(self.probe), f"{len(self.positions)} positions", *fits]
        return f"Reconstruction({self.name!r}: {', '.join(parts)}, flags: {len(self.flags)})"

    def save(self, path: str | Path) -> Path:
        """Write the result to ``path`` (.h5 or .npz); see :func:`diptych.save`."""
        import diptych

        return diptych.save(self, path)

    def plot(self) -> Figure:
        """Amplitude, phase, complex view, probe and history; a matplotlib Figure."""
        import diptych

        return diptych.plot(self)

    def report(self, path: str | Path, **rest: Any) -> Path:
        """Write a page (.html) on how the result was made and how good it is; see :func:`diptych.report`."""
        import diptych

        return diptych.report(self, path, **rest)
