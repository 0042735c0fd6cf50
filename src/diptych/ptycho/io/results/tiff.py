"""Results as TIFF for viewers: pages of 32-bit amplitude and phase (rad), first of the object, then of each probe mode.

The resolution tags hold the pixel size; the description, JSON, holds name, origin and pixel. Positions and history have
no place and are left out. Needs tifffile (the extra ``formats``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io.files import DataFile, writing
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.results.without_positions import flagged
from diptych.ptycho.io.source import json_text
from diptych.ptycho.io.source.base import Header, refuse_what_does_not_fit
from diptych.ptycho.scan import Canvas, Reconstruction
from diptych.runtime.registry import NoOptions

_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_KIND = "diptych result"
_HEAD_BYTES = 64 * 1024
_CENTIMETRE = 0.01


def write_tiff(result: Reconstruction, path: Path) -> None:
    """Write amplitude and phase of object and probe as pages of a TIFF file.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if tifffile is not installed.
    """
    tifffile = _library()
    pixel = result.object.pixel_m
    about = {
        "kind": _KIND,
        "name": result.name,
        "origin": list(result.object.origin),
        "pixel_m": None if pixel is None else list(pixel),
        "pages": ["object amplitude", "object phase (rad)", "probe amplitude", "probe phase (rad)", "..."],
    }
    # Readers expect width before height.
    resolution = {} if pixel is None else {"resolution": (_CENTIMETRE / pixel[1], _CENTIMETRE / pixel[0])}
    unit = {} if pixel is None else {"resolutionunit": "CENTIMETER"}
    text = json_text(about, f"{result.name}: description")
    with writing(path) as temporary, tifffile.TiffWriter(temporary) as file:
        for number, image in enumerate((result.object.values, *result.probe)):
            described = {"description": text} if number == 0 else {}
            values = image.astype(np.complex64)
            file.write(
                np.abs(values),
                photometric="minisblack",
                metadata=None,
                contiguous=False,
                **resolution,
                **unit,
                **described,
            )
            file.write(
                np.angle(values), photometric="minisblack", metadata=None, contiguous=False, **resolution, **unit
            )


def read_tiff(path: Path) -> Reconstruction:
    """The object and the probe in a TIFF file that :func:`write_tiff` wrote; amplitude and phase are 32-bit numbers.

    Raises
    ------
    InputError
        If pages are missing or damaged.
    UnavailableError
        If tifffile is not installed.
    """
    tifffile = _library()
    try:
        with tifffile.TiffFile(path) as file:
            pages = list(file.pages)
            for page in pages:
                refuse_what_does_not_fit(Header(tuple(page.shape), np.dtype(np.complex64)), str(path), "a page")
            about = json.loads(pages[0].description)
            images = [_complex(pages[place], pages[place + 1], path) for place in range(0, len(pages) - 1, 2)]
        origin, pixel = about["origin"], about["pixel_m"]
        name = str(about["name"])
        canvas = Canvas(images[0], (int(origin[0]), int(origin[1])), None if pixel is None else (pixel[0], pixel[1]))
        probe = np.stack(images[1:])
    except (InputError, UnavailableError):
        raise
    except Exception as error:
        # Damage shows as any of the library's exceptions, and as wrong types in the description.
        raise InputError(
            path, f"the TIFF file is damaged ({type(error).__name__}: {error})", "what diptych.save writes"
        ) from None
    return flagged(
        Reconstruction(
            canvas, probe, np.empty((0, 2)), provenance={"layout": "diptych TIFF", "file": path.name}, name=name
        )
    )


def _complex(amplitude: Any, phase: Any, path: Path) -> NDArray[np.complex64]:
    pair = [np.asarray(page.asarray(), np.float32) for page in (amplitude, phase)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 2:
        raise InputError(path, f"has pages of {pair[0].shape} and {pair[1].shape}", "amplitude and phase of one shape")
    return np.asarray(pair[0] * np.exp(1j * pair[1]), np.complex64)


def _library() -> Any:
    try:
        import tifffile
    except ImportError:
        raise UnavailableError(
            "TIFF needs tifffile, which is not installed. Run: pip install 'diptych[formats]'"
        ) from None
    return tifffile


def _matches(file: DataFile) -> bool:
    if file.kind != "other" or not file.path.is_file():
        return False
    with file.path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return head.startswith(_MAGIC) and _KIND.encode() in head


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_tiff(file.path)


FORMAT = Format(
    name="tiff",
    help="Result as TIFF for viewers: 32-bit amplitude and phase of object and probe, pixel size in the tags.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_tiff,
    suffixes=(".tif", ".tiff"),
)
