"""Image match: search for a latent whose image resembles a given one.

Every decode gives a whole image, not only an error. The search fits a linear map from latents to images through the
decodes near the best one, and steps to where that map predicts the target, with Levenberg-Marquardt damping. Between
steps it probes random directions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.decoders.protocols import Encodes, latent_shape
from diptych.prefer.spaces.sphere import combine, on_sphere, turn, typicality, usual_shape
from diptych.runtime.logging import LOGGER

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

PROBE = 0.25
"""Angle of a probe in a random direction, rad."""

REACH = 0.8
"""Longest step, rad; the map from latents to images is nonlinear beyond it."""

REMEMBERED = 512
"""Number of the last decodes that the linear map is fitted to."""

THUMBNAIL = 32
"""Side, px, of the reduced images that the map is fitted to; errors are computed for the whole image."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """A latent (d,) float32, its image, and the mean squared error of the image, grey levels squared."""

    latent: NDArray[np.float32]
    image: Image
    error: float


class Match:
    """A search that runs step by step. The error of :attr:`best` never increases.

    Parameters
    ----------
    decoder : Decoder
        With the space ``sphere``.
    target : (H, W, 3) uint8
        Resized to the size of the decoder's images.
    start : (d,) array, optional
        Initial latent; random by default.
    seed : int
        Seed of the random directions.
    decode : callable, optional
        Used instead of ``decoder.decode``, for instance to decode on the worker of a session.

    Raises
    ------
    InputError
        If the space of the decoder is not a sphere, or the start has another length.
    """

    def __init__(
        self,
        decoder: Decoder,
        target: Image,
        start: ArrayLike | None = None,
        *,
        seed: int = 0,
        decode: Callable[[NDArray[np.float32]], Image] | None = None,
    ) -> None:
        need_images(decoder, "match")
        self._decode = decode or decoder.decode
        self._rng = np.random.default_rng(seed)
        self._tests = typicality(_shape(decoder))
        begin = self._rng.standard_normal(decoder.dimension) if start is None else np.asarray(start, dtype=np.float64)
        if begin.shape != (decoder.dimension,):
            raise InputError("start", f"has shape {begin.shape}", f"({decoder.dimension},), as the decoder takes it")
        self._past: deque[tuple[Array, Array]] = deque(maxlen=REMEMBERED)
        first = self._tests.project(begin).latent.astype(np.float32)
        image = self._decode(first)
        self.target = resized(target, image.shape[1], image.shape[0])
        self._goal = _thumbnail(self.target)
        self._damping, self._probes = 1.0, 0
        self.best = self.last = self._judged(first, image)
        self.errors = [self.best.error]

    def step(self) -> Attempt:
        """One decode: a probe in a random direction, or a step. Returns the attempt, which becomes :attr:`best` if it
        has the lowest error.
        """
        probes = min(4 + len(self.errors) // 20, 10)
        stepping = self._probes >= probes
        latent = (
            self._towards_goal()
            if stepping
            else turn(self.best.latent, self._rng.standard_normal(len(self.best.latent)), PROBE)
        )
        typical = self._tests.project(latent).latent.astype(np.float32)
        self.last = self._judged(typical, self._decode(typical))
        better = self.last.error < self.best.error
        if stepping:
            self._damping = float(np.clip(self._damping * (0.5 if better else 3.0), 1e-4, 1e4))
            self._probes = probes if better else 0
        else:
            self._probes += 1
        if better:
            self.best = self.last
        self.errors.append(self.best.error)
        LOGGER.debug("[imatch] mse=%.2f best=%.2f", self.last.error, self.best.error)
        return self.last

    def run(self, decodes: int) -> Attempt:
        """Run that many steps; returns the best attempt so far."""
        for _ in range(decodes):
            self.step()
        return self.best

    def _judged(self, latent: NDArray[np.float32], image: Image) -> Attempt:
        self._past.append((latent.astype(np.float64), _thumbnail(image)))
        return Attempt(latent, image, float(np.mean((image.astype(np.float64) - self.target) ** 2)))

    def _towards_goal(self) -> Array:
        """The latent where the linear map predicts the target, at most :data:`REACH` away.

        Z (n, d) and P (n, p) are the differences of latents and thumbnails from the best, weighted less the longer they
        are. The step is Z'a, where a minimises |goal - P'a|^2 + damping |Z'a|^2; in the dual,
        (P P' + damping Z Z') a = P goal.
        """
        here, seen = self.best.latent.astype(np.float64), _thumbnail(self.best.image)
        moves = np.array([latent - here for latent, _ in self._past])
        changes = np.array([thumbnail - seen for _, thumbnail in self._past])
        square = (moves**2).sum(axis=1)
        keep = square > 0
        weight = 1 / (square[keep] + PROBE**2 * len(here))
        moves, changes = moves[keep] * weight[:, None], changes[keep] * weight[:, None]
        inner, reached = moves @ moves.T, changes @ changes.T
        scale = np.trace(reached) / np.trace(inner)
        floor = 1e-9 * np.trace(reached) * np.eye(len(inner))
        mix = np.linalg.solve(reached + self._damping * scale * inner + floor, changes @ (self._goal - seen))
        step = mix @ moves
        angle = float(np.linalg.norm(step)) / np.sqrt(len(here))
        return (
            turn(here, step, min(angle, REACH))
            if angle > 0
            else turn(here, self._rng.standard_normal(len(here)), PROBE)
        )


def need_images(decoder: Decoder, what: str) -> None:
    """Raise InputError if the images of a decoder follow from settings: an image of one's own is none of them."""
    if decoder.space != "sphere":
        found = f"the images of the decoder {decoder.name} are made from settings"
        raise InputError(what, found, "a decoder of images, such as diffusion")


def image_latent(decoder: Decoder, image: Image) -> Array:
    """A latent (d,) of an image: from the decoder's encoder if it has one, otherwise the standardised colours of the
    image in the pixels of the latent.

    The result is not typical of noise; see :func:`blended`.
    """
    if isinstance(decoder, Encodes):
        return on_sphere(np.asarray(decoder.encode(image), dtype=np.float64).ravel())
    channels, height, width = _shape(decoder)
    small = resized(image, width, height).astype(np.float64)
    layers = np.concatenate([small.transpose(2, 0, 1), small.mean(axis=2)[None]])
    laid = np.resize(layers, (channels, height, width))
    spread = laid.std(axis=(1, 2), keepdims=True)
    centred = np.divide(laid - laid.mean(axis=(1, 2), keepdims=True), spread, out=np.zeros_like(laid), where=spread > 0)
    if not np.any(centred):
        raise InputError("image", "has a single colour, so it has no latent", "an image with structure")
    return on_sphere(centred.ravel())


def colours_lost(decoder: Decoder) -> str:
    """A sentence for a person who uploads an image to a decoder that has no encoder; empty for others."""
    if isinstance(decoder, Encodes):
        return ""
    return (
        f"The decoder {decoder.name} has no encoder: the blend keeps where the parts of your image are, but not its "
        "colours, brightness and details."
    )


def blended(decoder: Decoder, anchor: ArrayLike, latent: ArrayLike, share: float) -> NDArray[np.float32]:
    """The weighted spherical mean of an anchor and a latent (d,), projected to pass the typicality tests.

    Parameters
    ----------
    share : float
        Weight of the latent, from 0 (only the anchor) to 1.
    """
    if not 0 <= share <= 1:
        raise InputError("share of the upload", f"is {share}", "0 to 1")
    mixed = combine(
        np.stack([np.asarray(anchor, dtype=np.float64), np.asarray(latent, dtype=np.float64)]), [1 - share, share]
    )
    return typicality(_shape(decoder)).project(mixed).latent.astype(np.float32)


def resized(image: Image, width: int, height: int) -> Image:
    """An image (H, W, 3), resized by box averages."""
    from PIL import Image as Pictures

    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Pictures.fromarray(image).resize((width, height), Pictures.Resampling.BOX), dtype=np.uint8)


def _thumbnail(image: Image) -> Array:
    height, width = (min(size, THUMBNAIL) for size in image.shape[:2])
    return resized(image, width, height).astype(np.float64).ravel()


def _shape(decoder: Decoder) -> tuple[int, int, int]:
    return latent_shape(decoder) or usual_shape(decoder.dimension)
