"""Simulated persons with known utility, standardised to mean 0 and standard deviation 1 (sigma) over random latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import idctn

from diptych.prefer.spaces.sphere import usual_shape

Array = NDArray[np.float64]

DRAWS = 10_000
"""Number of latents over which a utility is standardised."""

LOW = 8
"""Low frequencies: the first 8 x 8 cosine coefficients of each channel."""

SUBSPACE = 10
"""Dimension of the subspace on which a peak depends."""

PEAK_AT, PEAK_WIDTH = math.sqrt(SUBSPACE), 2.5
"""Distance of a peak from the origin (that of a random latent) and its width; its maximum is near 6 sigma."""

REMEMBERED = 16
NOISE = 0.3
"""Scale of the logistic noise of an answer, sigma."""


class Person:
    """Answers good or bad by comparison with the mean utility of the last 16 images seen.

    Parameters
    ----------
    utility : callable
        Utility of latents (k, d), sigma.
    rng : Generator
        Draws the noise of the answers.
    flips : float
        Fraction of the answers within 0.5 sigma of the threshold that are inverted.
    drift : callable or None
        Called after each answer, for a utility that changes.
    """

    def __init__(
        self,
        utility: Callable[[Array], Array],
        rng: np.random.Generator,
        flips: float = 0.0,
        drift: Callable[[], None] | None = None,
    ) -> None:
        self.utility, self._rng, self._flips, self._drift = utility, rng, flips, drift
        self.shown: list[float] = []

    def rate(self, utility: float) -> bool:
        """Whether an image of this utility is judged good at present."""
        threshold = float(np.mean(self.shown[-REMEMBERED:])) if self.shown else 0.0
        good = utility - threshold + NOISE * self._rng.logistic() > 0
        if abs(utility - threshold) < 0.5 and self._rng.random() < self._flips:
            good = not good
        if self._drift is not None:
            self._drift()
        return bool(good)

    def seen(self, utility: float) -> None:
        """Include an image of this utility in the threshold."""
        self.shown.append(utility)


def linear(d: int, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Linear in one random direction."""
    return _along(_unit(rng.standard_normal(d)))


def low_frequencies(d: int, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Linear in one random direction among the low frequencies."""
    return _along(_low_directions(d, 1, rng)[0])


def mixed(d: int, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Linear; half the variance from all frequencies, half from the low ones."""
    return _along(_unit(_unit(rng.standard_normal(d)) + _low_directions(d, 1, rng)[0]))


def one_peak(d: int, rng: np.random.Generator) -> Callable[[Array], Array]:
    """One Gaussian peak in ten directions of the low frequencies."""
    return _peaks(d, (1.0,), rng)


def three_peaks(d: int, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Three Gaussian peaks of different heights."""
    return _peaks(d, (1.0, 0.8, 0.6), rng)


def image_linear(d: int, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Linear in features of the synthetic decoder's image."""
    weights = _unit(rng.standard_normal(_drawn_features(d).shape[1]))
    return _of_image(d, lambda features: np.asarray(features @ weights))


def image_peak(d: int, rng: np.random.Generator) -> Callable[[Array], Array]:
    """One Gaussian peak in ten directions of those features."""
    drawn = _drawn_features(d)
    basis = np.linalg.qr(rng.standard_normal((drawn.shape[1], SUBSPACE)))[0]
    centre, spread = (drawn @ basis).mean(axis=0), (drawn @ basis).std(axis=0)
    peak = PEAK_AT * _unit(rng.standard_normal(SUBSPACE))

    def bump(features: Array) -> Array:
        apart = ((features @ basis - centre) / spread - peak) ** 2
        return np.asarray(np.exp(-apart.sum(axis=1) / (2 * PEAK_WIDTH**2)))

    return _of_image(d, bump)


LATENT_PERSONS = {
    "linear": linear,
    "low frequencies": low_frequencies,
    "mixed": mixed,
    "one peak": one_peak,
    "three peaks": three_peaks,
}
IMAGE_PERSONS = {"image, linear": image_linear, "image, one peak": image_peak}
NAMES = (*LATENT_PERSONS, "drifting utility", "close flips", *IMAGE_PERSONS)


def make(name: str, d: int, seed: int) -> Person:
    """The person of a name; a seed determines utility and noise."""
    utility_rng, noise_rng = (np.random.default_rng([seed, d, part]) for part in (1, 2))
    if name == "drifting utility":
        moving = Drifting(d, utility_rng)
        return Person(moving.utility, noise_rng, drift=moving.drift)
    if name == "close flips":
        return Person(linear(d, utility_rng), noise_rng, flips=0.3)
    return Person({**LATENT_PERSONS, **IMAGE_PERSONS}[name](d, utility_rng), noise_rng)


class Drifting:
    """A linear utility with a random walk: its correlation over 100 answers is 0.8."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._weights = _unit(rng.standard_normal(d))
        self._step = math.sqrt(-2 * math.log(0.8) / 100)

    def utility(self, latents: Array) -> Array:
        """Present utility of latents (k, d), sigma."""
        return np.asarray(latents, dtype=np.float64) @ self._weights

    def drift(self) -> None:
        """Change after one answer."""
        self._weights = _unit(self._weights + self._step * _unit(self._rng.standard_normal(len(self._weights))))


def _along(direction: Array) -> Callable[[Array], Array]:
    return lambda latents: np.asarray(latents, dtype=np.float64) @ direction


def _peaks(d: int, heights: tuple[float, ...], rng: np.random.Generator) -> Callable[[Array], Array]:
    basis = _low_directions(d, SUBSPACE, rng)
    peaks = np.stack([PEAK_AT * _unit(rng.standard_normal(SUBSPACE)) for _ in heights])

    def bumps(points: Array) -> Array:
        apart = ((points[:, None] - peaks) ** 2).sum(axis=2)
        return np.asarray(np.exp(-apart / (2 * PEAK_WIDTH**2)) @ np.array(heights))

    # Projections of random latents on orthonormal directions are standard normal.
    level = bumps(rng.standard_normal((DRAWS, SUBSPACE)))
    mean, spread = float(level.mean()), float(level.std())
    return lambda latents: (bumps(np.asarray(latents, dtype=np.float64) @ basis.T) - mean) / spread


def _low_directions(d: int, count: int, rng: np.random.Generator) -> Array:
    """Orthonormal directions (count, d) among the low frequencies."""
    channels, height, width = usual_shape(d)
    few = np.zeros((count, channels, height, width))
    few[:, :, :LOW, :LOW] = rng.standard_normal(few[:, :, :LOW, :LOW].shape)
    flat = idctn(few, axes=(2, 3), norm="ortho").reshape(count, d)
    return np.asarray(np.linalg.qr(flat.T)[0].T)


@lru_cache(maxsize=2)
def _decoder(d: int) -> Any:
    from diptych.prefer.decoders.synthetic import Synthetic

    return Synthetic(dimension=d)


@lru_cache(maxsize=2)
def _drawn_features(d: int) -> Array:
    """Features of the images of random latents, over which image persons are standardised."""
    rng = np.random.default_rng(d)
    return np.concatenate([_features(rng.standard_normal((100, d)), d) for _ in range(DRAWS // 100)])


def _features(latents: Array, d: int) -> Array:
    """Features of images (H, W, 3): means over 8 x 8 blocks, 8 x 8 x 3 numbers."""
    images = np.stack([_decoder(d).decode(latent.astype(np.float32)) for latent in np.atleast_2d(latents)]) / 255
    count, height, width, colours = images.shape
    return images.reshape(count, 8, height // 8, 8, width // 8, colours).mean(axis=(2, 4)).reshape(count, -1)


def _of_image(d: int, utility: Callable[[Array], Array]) -> Callable[[Array], Array]:
    level = utility(_drawn_features(d))
    mean, spread = float(level.mean()), float(level.std())
    return lambda latents: (utility(_features(np.asarray(latents), d)) - mean) / spread


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))
