"""Pictures of the home page."""

from __future__ import annotations

import io

from PIL import Image

from diptych.studio.state.samples import NAMES, sample


def test_every_picture_is_drawn_and_no_other_name_is_known() -> None:
    found = [sample(name) for name in NAMES]
    assert len({each for each in found if each}) == len(NAMES)
    for each in found:
        assert each is not None
        picture = Image.open(io.BytesIO(each))
        assert picture.width == picture.height or abs(picture.width - picture.height) < 0.2 * picture.width
    for wrong in ("", "judged-9", "../pattern", "judged-x"):
        assert sample(wrong) is None
