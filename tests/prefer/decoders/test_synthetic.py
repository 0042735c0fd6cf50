from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.prefer.decoders import open_decoder
from diptych.prefer.decoders.synthetic import Synthetic

DIMENSIONS = (256, 1000, 4096, 12_544, 16_384, 25_600)


def noise(d: int, count: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, d), dtype=np.float32)


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a.astype(float) - b) ** 2).mean()))


@pytest.mark.parametrize("d", DIMENSIONS)
def test_images_show_something_and_differ(d):
    decoder = open_decoder("synthetic", dimension=d)
    images = np.stack([decoder.decode(z) for z in noise(d, 12)])
    assert images.shape == (12, 64, 64, 3)
    assert images.dtype == np.uint8
    assert images.std(axis=(1, 2, 3)).min() > 30
    assert min(rms(a, b) for a, b in pairwise(images)) > 40
    assert decoder.last.flaw == ""


def test_the_same_latent_gives_the_same_bytes_wherever_it_lies_in_memory():
    d = 16_384
    z = noise(d)[0]
    first, second = Synthetic(d), Synthetic(d)
    shifted = np.zeros(4 * d + 1, np.uint8)[1:].view(np.float32)
    shifted[:] = z
    expected = first.decode(z).tobytes()
    assert first.decode(z).tobytes() == expected
    assert second.decode(shifted).tobytes() == expected
    assert second.decode(z.reshape(4, 64, 64)).tobytes() == expected
    assert first.decode(noise(2 * d)[0][::2]).tobytes() != expected


def test_small_angles_make_small_changes_in_proportion():
    d = 4096
    decoder = Synthetic(d)
    changes = {}
    for angle in (0.02, 0.04, 0.3, np.pi / 2):
        pairs = zip(noise(d, 12, 1), noise(d, 12, 2), strict=True)
        changes[angle] = np.mean(
            [rms(decoder.decode(z), decoder.decode(np.cos(angle) * z + np.sin(angle) * g)) for z, g in pairs]
        )
    assert changes[0.04] / changes[0.02] == pytest.approx(2, rel=0.1)
    assert changes[0.02] < 4
    assert changes[0.02] < changes[0.3] < changes[np.pi / 2]


@pytest.mark.parametrize("d", [257, 16_384])
def test_every_number_of_the_latent_matters(d):
    decoder = Synthetic(d)
    z = noise(d)[0]
    image = decoder.decode(z)
    for index in (0, d // 2, d - 1):
        changed = z.copy()
        changed[index] += 60
        assert not np.array_equal(decoder.decode(changed), image)


def test_the_frame_says_what_decides_the_pixels():
    z = noise(256)[0]
    one, other = Synthetic(256, prompt="a"), Synthetic(256, prompt="b")
    assert one.frame.key != other.frame.key
    assert np.array_equal(one.decode(z), other.decode(z))
    reseeded = one.changed(seed=1)
    assert reseeded.frame.seed == 1
    assert reseeded.frame.prompt == "a"
    assert rms(reseeded.decode(z), one.decode(z)) > 20
    with pytest.raises(InputError, match="has no width to change; expected some of prompt, negative_prompt, seed"):
        one.changed(width=32)


def test_only_latents_of_four_square_channels_are_images():
    assert Synthetic(16_384).shape == (4, 64, 64)
    assert Synthetic(1000).shape is None


@pytest.mark.parametrize("d", [255, 25_601])
def test_dimensions_out_of_range_are_refused(d):
    with pytest.raises(InputError, match=f"dimension = {d}; expected 256 to 25600"):
        Synthetic(d)
