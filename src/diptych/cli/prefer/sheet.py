"""A screen as one picture, for an image viewer beside the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.runtime.files import replacing
from diptych.runtime.logging import LOGGER

if TYPE_CHECKING:
    from diptych.prefer.judgement import Candidate

NAME = "screen.png"
"""File in the folder of a session: the screen that is to be judged."""

GAP = 8
"""Pixels between two images."""

TITLE = 24
"""Pixels above an image, with its number and, of a reconstruction, its fit and flags."""

LETTERS = 16
"""Size of the letters in it, pixels."""

COLUMNS = 4
"""Images in a row."""


WIDTH = 800
"""Pixels: images of a narrower screen are enlarged by the integer factor that makes it at least this wide."""


def write_sheet(screen: Sequence[Candidate], folder: Path) -> Path | None:
    """Write the images of a screen, numbered, to :data:`NAME` in a folder; None, and a warning, if that fails: they can
    be judged without it.
    """
    from PIL import Image, ImageDraw, ImageFont

    from diptych.prefer.decoders.protocols import measured_text

    images = [candidate.image for candidate in screen if candidate.image is not None]
    if len(images) < len(screen):
        return None
    columns = min(COLUMNS, len(images))
    room = WIDTH - (columns - 1) * GAP
    scale = max(1, -(-room // (columns * max(image.shape[1] for image in images))))
    # Repeated, not interpolated: what is judged are the pixels.
    images = [image.repeat(scale, 0).repeat(scale, 1) for image in images]
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    rows = -(-len(images) // columns)
    size = (columns * (width + GAP) - GAP, rows * (height + TITLE + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    font = ImageFont.load_default(LETTERS)
    for index, image in enumerate(images):
        x, y = index % columns * (width + GAP), index // columns * (height + TITLE + GAP)
        title = "   ".join(filter(None, (str(index + 1), measured_text(screen[index]))))
        line = Image.new("RGB", (width, TITLE), "white")  # of its own: what is too long ends with the image
        ImageDraw.Draw(line).text((4, 3), title, fill="black", font=font)
        sheet.paste(line, (x, y))
        sheet.paste(Image.fromarray(np.asarray(image)), (x, y + TITLE))
    path = folder / NAME
    try:
        with replacing(path) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        LOGGER.warning("%s: cannot be written (%s); the images can be judged without it.", path, error.strerror)
        return None
    return path
