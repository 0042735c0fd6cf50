from __future__ import annotations

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.scan import Canvas
from diptych.ptycho.simulate import detector
from diptych.ptycho.simulate.objects import make_object
from diptych.ptycho.simulate.probes import add_modes, make_probe

SIZE = 24


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def truth() -> Canvas:
    return Canvas(make_object("blocks", (60, 60), generator()), (-3, 5))


@pytest.fixture
def probe() -> np.ndarray:
    return 100 * add_modes(make_probe("zone-plate", SIZE), (0.8, 0.2))


@pytest.fixture
def positions() -> np.ndarray:
    return generator(1).uniform((10, 18), (44, 52), size=(37, 2))


def test_totals_are_those_of_the_patterns(truth, probe, positions) -> None:
    patterns = np.concatenate([values for _, values in detector.expected_intensities(truth, probe, positions)])
    totals = detector.signal_totals(truth, probe, positions)
    np.testing.assert_allclose(patterns.sum((1, 2)), totals, rtol=1e-12)


def test_whole_positions_agree_with_numpy(truth, probe) -> None:
    (part, pattern), *rest = detector.expected_intensities(truth, probe, np.array([[20.0, 31.0]]))
    assert not rest
    assert part == slice(0, 1)
    y, x = 20 + 3 - SIZE // 2, 31 - 5 - SIZE // 2
    waves = probe * truth.values[y : y + SIZE, x : x + SIZE].astype(complex)
    field = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(waves, (-2, -1)), norm="ortho"), (-2, -1))
    np.testing.assert_allclose(pattern[0], (np.abs(field) ** 2).sum(0), rtol=1e-10, atol=1e-9)


def test_chunks_change_nothing(truth, probe, positions, monkeypatch) -> None:
    whole = detector.expose(truth, probe, positions, generator(3), background=0.2)[0]
    done: list[int] = []
    monkeypatch.setattr(detector, "_CHUNK_BYTES", 5 * probe.size * 16)
    parts = detector.expose(truth, probe, positions, generator(3), background=0.2, report=done.append)[0]
    assert done == [5, 10, 15, 20, 25, 30, 35, 37]
    assert whole.tobytes() == parts.tobytes()


def test_poisson_mean_and_variance(truth, probe) -> None:
    positions = np.tile([[25.3, 33.8]], (400, 1))
    expected = next(detector.expected_intensities(truth, probe, positions[:1]))[1][0] + 2.0
    counts = detector.expose(truth, probe, positions, generator(5), background=2.0)[0].astype(float)
    # Standardised means have unit variance: 576 pixels give 1 +- 0.06.
    score = (counts.mean(0) - expected) / np.sqrt(expected / 400)
    assert abs(score.mean()) < 4 / SIZE
    assert score.var() == pytest.approx(1, abs=0.25)
    assert (counts.var(0) / expected).mean() == pytest.approx(1, abs=0.02)


def test_saturation_masks_what_reads_the_level(truth, probe, positions) -> None:
    expected = np.concatenate([values for _, values in detector.expected_intensities(truth, probe, positions)])
    level = float(np.quantile(expected, 0.99))
    counts, mask = detector.expose(truth, probe, positions, None, saturation=level)
    assert mask is not None
    assert mask.shape == counts.shape
    np.testing.assert_array_equal(mask, expected < level)
    assert counts.max() == np.float32(level)
    noisy, valid = detector.expose(truth, probe, positions, generator(), saturation=level)
    assert valid is not None
    np.testing.assert_array_equal(noisy[~valid], int(level))
    assert noisy[valid].max() < int(level)
    free = detector.expose(truth, probe, positions, generator())[0]
    np.testing.assert_array_equal(noisy[valid], free[valid])


def test_saturation_that_is_never_reached_gives_no_mask(truth, probe, positions) -> None:
    assert detector.expose(truth, probe, positions, None, saturation=1e9)[1] is None


def test_masked_pixels_read_nothing(truth, probe, positions) -> None:
    mask = detector.dead_pixels(SIZE, 0.05, 2.0, generator(2))
    assert mask is not None
    counts, found = detector.expose(truth, probe, positions, generator(), background=50.0, mask=mask)
    assert found is mask
    assert counts[:, ~mask].max() == 0
    assert counts[:, mask].min() > 0
    both = detector.expose(truth, probe, positions, generator(), mask=mask, saturation=20)[1]
    assert both is not None
    assert not both[:, ~mask].any()
    assert both.any()


def test_dead_pixels_and_beam_stop_are_as_many_as_asked_for() -> None:
    mask = detector.dead_pixels(100, 0.013, 0.0, generator())
    assert mask is not None
    assert (~mask).sum() == 130
    stop = detector.dead_pixels(64, 0.0, 3.0, generator())
    assert stop is not None
    y, x = np.nonzero(~stop)
    assert len(y) == 29
    assert (y.mean(), x.mean()) == (32, 32)
    assert detector.dead_pixels(64, 0.0, 0.0, generator()) is None
    with pytest.raises(InputError, match="leave no valid pixel of 16 x 16"):
        detector.dead_pixels(16, 0.0, 20.0, generator())


def test_counts_take_the_first_type_that_fits(truth, positions) -> None:
    probe = make_probe("disk", SIZE)[None]
    for photons, dtype in ((1e4, np.uint16), (1e7, np.uint32), (1e12, np.uint64)):
        counts = detector.expose(truth, np.sqrt(photons) * probe, positions, generator())[0]
        assert counts.dtype == dtype
        assert counts.max() < np.iinfo(dtype).max
        assert counts.sum((1, 2)).mean() == pytest.approx(
            detector.signal_totals(truth, np.sqrt(photons) * probe, positions).mean(), rel=0.01
        )
    assert detector.expose(truth, probe, positions, None)[0].dtype == np.float32
