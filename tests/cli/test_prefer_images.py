"""Images that a person brings, and the picture of a screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diptych.cli.prefer.sheet import GAP, TITLE, write_sheet
from diptych.prefer import Session
from diptych.prefer.decoders.protocols import measured_text
from diptych.prefer.judgement import Candidate, Frame

Cli = Callable[..., Any]


def test_the_same_image_uploaded_twice_is_one_candidate(cli: Cli) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save("photo.png")
    start = ("prefer", "upload", "up", "--image", "photo.png", "--json")
    first = cli(*start, "--prompt", "a lake", "--dimension", 256).json
    assert cli(*start).json["id"] == first["id"]
    assert cli(*start, "--share", 0.4).json["id"] != first["id"]


def test_flags_of_a_reconstruction_stand_behind_its_fits() -> None:
    measured = {"fit": 0.98, "held_out_fit": 1.234, "flags": ["few photons", "beam intensity"]}
    candidate = Candidate(np.zeros(2, np.float32), Frame("a"), provenance={"measured": measured})
    assert measured_text(candidate) == "fit 0.98, held out 1.23, flags: few photons, beam intensity"


def test_small_images_are_enlarged_by_whole_pixels_on_the_screen(tmp_path: Path) -> None:
    with Session.open(
        tmp_path, decoder="synthetic", dimension=256, prompt="x", seed=0, synchronous=True, batch=2
    ) as session:
        screen = session.ask()
    image = screen[0].image
    assert image is not None
    path = write_sheet(screen, tmp_path)
    assert path is not None
    with Image.open(path) as opened:
        sheet = np.asarray(opened)
    assert sheet.shape[1] >= 800
    width = (sheet.shape[1] - GAP) // 2
    scale = width // image.shape[1]
    assert width == scale * image.shape[1]
    top = sheet[TITLE : TITLE + scale * image.shape[0], :width]
    assert np.array_equal(top, image.repeat(scale, 0).repeat(scale, 1))
