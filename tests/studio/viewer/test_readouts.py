from __future__ import annotations

import math

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.studio.components.viewer.images import image_of_values
from diptych.studio.components.viewer.readouts import BINS, histogram, profile, values_at
from diptych.studio.components.viewer.source import ImageSource


def ramp(pixel_m: tuple[float, float] | None = None) -> ImageSource:
    """Amplitude 1 + 0.1 x, phase 0.01 y."""
    y, x = np.mgrid[:80, :60]
    mask = np.ones((80, 60), bool)
    mask[:, 40:] = False
    values = ((1 + 0.1 * x) * np.exp(0.01j * y)).astype(np.complex64)
    return image_of_values(values, "a", mask=mask, origin=(100, -20), pixel_m=pixel_m)


def test_values_under_the_cursor() -> None:
    found = values_at(ramp(), 110.9, -15.2)
    values = {each["name"]: each["value"] for each in found["values"]}
    assert (found["y"], found["x"], found["inside"], found["lit"]) == (110, -16, True, True)
    assert values["amplitude"] == pytest.approx(1.4, abs=1e-5)
    assert values["phase"] == pytest.approx(0.1, abs=1e-5)
    assert values_at(ramp(), 110.0, 25.0)["lit"] is False
    assert values_at(ramp(), 0.0, 0.0) == {"y": 0, "x": 0, "inside": False, "lit": None, "values": []}


def test_profile_follows_the_values_and_measures_in_metres() -> None:
    # From the middle of pixel x = -20 to the middle of pixel x = 10, along one row.
    line = profile(ramp((2e-9, 1e-9)), "amplitude", (105.5, -19.5), (105.5, 10.5))
    assert line["length_unit"] == "m"
    assert line["distance"][-1] == pytest.approx(30e-9)
    np.testing.assert_allclose(line["value"], np.linspace(1, 4, len(line["value"])), atol=1e-4)
    across = profile(ramp((2e-9, 1e-9)), "phase", (100.5, 0.0), (130.5, 0.0))
    assert across["distance"][-1] == pytest.approx(60e-9)
    np.testing.assert_allclose(across["value"], 0.01 * np.arange(31), atol=1e-4)


def test_profile_outside_the_image_has_no_values() -> None:
    line = profile(ramp(), "amplitude", (105.5, -30.0), (105.5, -10.0))
    assert line["length_unit"] == "px"
    assert line["value"][0] is None
    assert line["value"][-1] is not None
    with pytest.raises(InputError):
        profile(ramp(), "amplitude", (math.nan, 0), (1, 1))


def test_histogram_counts_lit_pixels() -> None:
    found = histogram(ramp(), "amplitude")
    assert len(found["counts"]) == BINS
    assert sum(found["counts"]) <= 80 * 40
    assert sum(found["counts"]) > 0.98 * 80 * 40
    assert found["low"] < found["range"][0] < found["range"][1] < found["high"]
    # Brighter pixels are not lit.
    assert found["high"] < 6
