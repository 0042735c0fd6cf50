"""Settings as numbers from 0 to 1, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.prefer.decoders.reconstruction import SETTINGS
from diptych.prefer.decoders.settings import Number


@pytest.mark.parametrize(
    "setting", [setting for setting in SETTINGS if isinstance(setting, Number)], ids=lambda setting: setting.name
)
def test_numbers_rise_from_limit_to_limit_and_can_be_turned_round(setting):
    grid = np.linspace(0, 1, 41, dtype=np.float32)
    values = [setting.value(np.array([u])) for u in grid]
    assert (values[0], values[20], values[-1]) == (setting.low, setting.default, setting.high)
    assert np.all(np.diff(values) >= 0)
    for value in values:
        assert setting.value(np.array(setting.part(value))) == pytest.approx(value, rel=1e-9)
    with pytest.raises(InputError, match=f"{setting.name} = .* is outside"):
        setting.part(setting.high * 1.1)


def test_a_default_that_is_a_limit_takes_half_of_the_space():
    for low, default, high, wanted in ((0.05, 1.0, 1.0, [0.2, 0.5, 0.5]), (0.05, 0.05, 1.0, [0.5, 0.5, 0.8])):
        flat = Number("step", low, default, high).flat(0)
        assert flat.level(np.array([0.2, 0.5, 0.8])).tolist() == wanted
    assert Number("alpha", 0.02, 0.3, 1.0).flat(0) is None
    whole = Number("epochs", 1, 4, 4, log=True, whole=True).flat(0)
    assert len(set(whole.level(np.linspace(0, 1, 99)))) == 4
