"""The standards that :func:`diptych.validate` knows: which arrays each describes, and where their contents lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StandardName = Literal["product", "cxi", "nxptycho"]
"""Names of the standards, for ``--as``."""

Kind = Literal["real", "complex", "text", "any"]


@dataclass(frozen=True)
class Rule:
    """One array that a standard describes.

    Parameters
    ----------
    path : str
        Where it lies; other paths where it may lie instead follow after ``|``.
    kind : {"real", "complex", "text", "any"}
        What it holds.
    shape : tuple, optional
        A number, a name (equal in all arrays of the file that have it), or None for any length; None: any shape.
    required : bool
        Whether a file without it deviates.
    units : tuple of str
        What its attribute ``units`` may say, where it has one.
    positive : bool
        A single number that must be finite and above 0.
    between : (float, float), optional
        Plausible range of a single number in the first of the units; outside of it the unit is in doubt.
    attributes : tuple of str
        Attributes that it must have.
    """

    path: str
    kind: Kind = "real"
    shape: tuple[int | str | None, ...] | None = None
    required: bool = True
    units: tuple[str, ...] = ()
    positive: bool = False
    between: tuple[float, float] | None = None
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deviation:
    """One place where a file deviates from a standard: ``path``, what was ``found``, ``expected``, and what to do."""

    path: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.found}; expected {self.expected}"


_METRE = ("m", "metre", "meter", "metres", "meters")
_LENGTHS = (*_METRE, "mm", "um", "nm")
_DETECTOR, _SOURCE = "entry_1/instrument_1/detector_1/", "entry_1/instrument_1/source_1/"
_PIXELS = ("pixel_width_m", "pixel_height_m")

PRODUCT = (
    Rule("probe_position_indexes", shape=("positions",)),
    Rule("probe_position_x_m", shape=("positions",)),
    Rule("probe_position_y_m", shape=("positions",)),
    Rule("probe", "complex", (None, None, "N", "N"), attributes=_PIXELS),
    Rule("object", "complex", (None, None, None), attributes=(*_PIXELS, "center_x_m", "center_y_m")),
    Rule("object_layer_spacing_m", shape=(None,)),
    Rule("loss_values|costs", shape=("epochs",)),
    Rule("loss_epochs", shape=("epochs",), required=False),
    Rule("opr_weights", shape=("positions", None), required=False),
)

CXI_SCAN = (
    Rule("cxi_version", shape=(), positive=True, between=(100, 999)),
    Rule("number_of_entries", shape=(), required=False),
    Rule("entry_1/data_1/data", shape=("patterns", "N", "N")),
    Rule(_DETECTOR + "data", shape=("patterns", "N", "N")),
    Rule("entry_1/data_1/translation", shape=("patterns", 3), units=_METRE),
    Rule("entry_1/sample_1/geometry_1/translation", shape=("patterns", 3), units=_METRE),
    Rule(_SOURCE + "energy", shape=(), units=("J", "joule"), positive=True, between=(1e-20, 1e-12)),
    Rule(_DETECTOR + "distance", shape=(), units=_METRE, positive=True, between=(1e-4, 1e3)),
    Rule(_DETECTOR + "x_pixel_size", shape=(), units=_METRE, positive=True, between=(1e-8, 1e-2)),
    Rule(_DETECTOR + "y_pixel_size", shape=(), units=_METRE, positive=True, between=(1e-8, 1e-2)),
    Rule(_DETECTOR + "basis_vectors", shape=(None, None), required=False),
    Rule(_DETECTOR + "mask", required=False),
)

NXPTYCHO = (
    Rule("entry_1/definition", "text"),
    Rule("entry_1/title", "text"),
    Rule("entry_1/data_1/data", shape=("patterns", "N", "N")),
    Rule(
        "entry_1/data_1/translation|entry_1/sample_1/geometry_1/translation",
        shape=("patterns", 3),
        attributes=("units",),
    ),
    Rule(_SOURCE + "name", "text"),
    Rule(_SOURCE + "type", "any"),
    Rule(_SOURCE + "probe", "any"),
    Rule(
        "entry_1/instrument_1/beam_1/energy",
        units=("J", "eV", "keV"),
        positive=True,
        between=(1e-20, 1e-12),
        attributes=("units",),
    ),
    Rule("entry_1/instrument_1/beam_1/extent", attributes=("units",)),
    Rule(_DETECTOR + "distance", units=_LENGTHS, positive=True, between=(1e-4, 1e3), attributes=("units",)),
    Rule(_DETECTOR + "x_pixel_size", units=_LENGTHS, positive=True, between=(1e-8, 1e-2), attributes=("units",)),
    Rule(_DETECTOR + "y_pixel_size", units=_LENGTHS, positive=True, between=(1e-8, 1e-2), attributes=("units",)),
    Rule(_DETECTOR + "beam_center_x", attributes=("units",)),
    Rule(_DETECTOR + "beam_center_y", attributes=("units",)),
)
_EXTRAS = "entry_1/ptychodus/"
CXI_RESULT = (
    Rule("cxi_version", shape=(), positive=True, between=(100, 999)),
    Rule("entry_1/image_1/data", "complex", (None, None, "N", "N")),
    Rule("entry_1/image_2/data", "complex", (None, None, None)),
    Rule("entry_1/sample_1/geometry_1/translation", shape=("positions", 3), units=_METRE),
    Rule(_SOURCE + "energy", shape=(), units=("J", "joule"), positive=True, between=(1e-20, 1e-12)),
    Rule(_DETECTOR + "distance", shape=(), units=_METRE, positive=True, between=(1e-4, 1e3)),
    *(
        Rule(_EXTRAS + f"{name}_pixel_{side}_m", shape=(), positive=True, between=(1e-13, 1e-3))
        for name in ("probe", "object")
        for side in ("height", "width")
    ),
    Rule(_EXTRAS + "object_center_y_m", shape=()),
    Rule(_EXTRAS + "object_center_x_m", shape=()),
    Rule(_EXTRAS + "probe_position_indexes", shape=("positions",), required=False),
    Rule(_EXTRAS + "loss_values", shape=("epochs",), required=False),
    Rule(_EXTRAS + "loss_epochs", shape=("epochs",), required=False),
)


@dataclass(frozen=True)
class Attribute:
    """An attribute of the file that a standard asks for; alternatives follow after ``|``.

    Parameters
    ----------
    name : str
        Its name.
    between : (float, float), optional
        Plausible range of the number that it holds.
    unit : str
        Unit of that number.
    """

    name: str
    between: tuple[float, float] | None = None
    unit: str = ""


@dataclass(frozen=True)
class Standard:
    """A standard: arrays, attributes, and where patterns, positions, mask, probe and object lie.

    Parameters
    ----------
    rules : tuple of Rule
        Its arrays.
    attributes : tuple of Attribute
        Those of the file.
    patterns, mask, probe, object : tuple of str
        Paths; the first that exists counts.
    positions : tuple of str
        Path of (M, 3), x, y, z, or those of y and x.
    result : bool
        Whether it describes a result, whose windows must lie in its object.
    """

    rules: tuple[Rule, ...]
    attributes: tuple[Attribute, ...] = ()
    patterns: tuple[str, ...] = ()
    positions: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    result: bool = False


_TRANSLATIONS = ("entry_1/data_1/translation", "entry_1/sample_1/geometry_1/translation")
_PATTERNS = ("entry_1/data_1/data", _DETECTOR + "data")
_ILLUMINATION = (_SOURCE + "illumination",)

STANDARDS: dict[StandardName, Standard] = {
    "product": Standard(
        PRODUCT,
        (
            Attribute("name"),
            Attribute("detector_object_distance_m", (1e-4, 1e3), "m"),
            # Ptychodus 1.7 writes the first, earlier versions the second.
            Attribute("photon_energy_eV|probe_energy_eV", (0.1, 1e7), "eV"),
        ),
        positions=("probe_position_y_m", "probe_position_x_m"),
        probe=("probe",),
        object=("object",),
        result=True,
    ),
    "cxi": Standard(
        CXI_SCAN, patterns=_PATTERNS, positions=_TRANSLATIONS[:1], mask=(_DETECTOR + "mask",), probe=_ILLUMINATION
    ),
    "nxptycho": Standard(
        NXPTYCHO, patterns=_PATTERNS, positions=_TRANSLATIONS[:1], mask=(_DETECTOR + "mask",), probe=_ILLUMINATION
    ),
}
"""Ptychodus products (HDF5, 1.7), CXI 1.60 (CXIDB), and NXcxi_ptycho (NeXus, contributed definition)."""

CXI_RESULTS = Standard(
    CXI_RESULT,
    positions=("entry_1/sample_1/geometry_1/translation",),
    probe=("entry_1/image_1/data",),
    object=("entry_1/image_2/data",),
    result=True,
)
"""What ``cxi`` means for a file that holds images and no patterns."""
DEFINITIONS = ("NXcxi_ptycho", "NXptycho")
