"""Files that were made to do harm are refused with a message, wherever they are taken."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.errors import InputError
from diptych.prefer import Session
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state.listing import holds
from diptych.studio.state.prefer.archive import read_image, read_state
from diptych.studio.state.reconstruct.page import ReconstructPage
from studio.hostile import FILES, npz, pickled


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_scan_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    studio = Studio(StudioOptions(data=(tmp_path,)))
    page = ReconstructPage(studio)
    with pytest.raises(InputError):
        page.open(name)
    assert page.look is None
    assert holds(tmp_path / name) in ("scan", "nothing")  # Looked into for the list: no exception, no code is run.
    studio.close()
    assert not Path("/tmp/diptych-hacked").exists()


def test_a_hostile_state_is_refused(tmp_path: Path) -> None:
    with Session.open(tmp_path / "lake", decoder="synthetic", dimension=256, prompt="a lake") as session:
        file = tmp_path / "latent_state_0123456789.npz"
        for content in (npz(X=pickled(), y=pickled(), z=pickled()), b"PK\x03\x04", b"\x80\x04cos\nsystem\n."):
            file.write_bytes(content)
            with pytest.raises(InputError):
                read_state(session, file)
        assert session.rows == 0
    assert not Path("/tmp/diptych-hacked").exists()


def test_a_picture_that_unpacks_to_gigabytes_is_refused() -> None:
    small = io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(small, "PNG")
    data = small.getvalue()
    about = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + data[24:29]
    large = data[:12] + about + zlib.crc32(about).to_bytes(4, "big") + data[33:]
    for content in (large, b"<svg onload='a()'/>", b"\x89PNG\r\n\x1a\nbroken"):
        with pytest.raises(InputError, match=r"picture\.png"):
            read_image(content, "../../picture.png")
