"""FFTs inside compiled code, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

transform = pytest.importorskip("diptych.ptycho.physics.compiled.transform", reason="needs the extra 'speed'")


@pytest.mark.parametrize(
    ("size", "base"), [(32, 32), (48, 48), (64, 64), (96, 48), (128, 128), (192, 48), (256, 128), (384, 48), (512, 128)]
)
def test_as_numpy(size: int, base: int) -> None:
    assert transform.base_of(size) == base
    rng = np.random.default_rng(size)
    values = (rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size))).astype(np.complex64)
    by, wave = transform.transform(size), transform.aligned(size, size)
    for forward, wanted in ((True, np.fft.fft2(values)), (False, np.fft.ifft2(values, norm="forward"))):
        wave[:] = values
        transform.fft2(wave, by, forward)
        # Rounding of an FFT grows with the root of log N; the wanted values have an rms of 1.4 N.
        assert np.abs(wave - wanted).max() < 3e-6 * size


@pytest.mark.parametrize("size", [0, 16, 50, 63, 100, 144, 2048])
def test_other_sizes_have_no_base(size: int) -> None:
    assert transform.base_of(size) == 0
