"""Image features of settings: every decoded image is recorded in the ledger, and a fit uses those up to its position.

The features that a fit uses are those of the judged images, and of the images decoded before the last judgement or
undo. They depend only on the ledger, so a resumed session has the same posterior as one that stayed open, and images
decoded after a fit do not change its predictions.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.decoders.protocols import cube_of
from diptych.prefer.judgement import Observations
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.spaces.image_features import FeatureSnapshot, ImageFeatures, image_features
from diptych.prefer.utility import Fitted

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

Rows = NDArray[np.int64]


@runtime_checkable
class UsesFeatures(Protocol):
    """A fit that predicts from image features."""

    def with_features(self, features: FeatureSnapshot) -> Fitted:
        """The same fit with more features; they start with those of the fit, in the same order."""
        ...


class Previews:
    """Features of the images of one decoder of settings, read from and written to the ledger.

    Parameters
    ----------
    ledger : Ledger
    decoder : Decoder
        Images of its prompt, negative prompt, model and size are used.
    """

    def __init__(self, ledger: Ledger, decoder: Decoder) -> None:
        self._ledger, self._decoder = ledger, decoder
        self._lock = threading.RLock()
        self._features = ImageFeatures(cube_of(decoder))
        self._positions: list[float] = []
        self._read = 0

    def keep(self, latents: Sequence[NDArray[np.float32]], images: Sequence[NDArray[np.uint8]]) -> None:
        """Record the images (H, W, 3) of points (d,) in the ledger, except those whose features are known."""
        with self._lock:
            new = [row for row, latent in enumerate(latents) if latent not in self._features]
            self._ledger.preview(
                self._decoder.frame, [latents[row] for row in new], [image_features(images[row]) for row in new]
            )
            self._refresh()

    def of_fit(self, observations: Observations) -> Rows:
        """Rows of the features that a fit to these observations uses."""
        with self._lock:
            self._refresh()
            judged = set()
            for name, latent in zip(observations.ids, observations.latents, strict=True):
                if latent not in self._features and (image := self._ledger.candidate(name).image) is not None:
                    self._add(latent, image_features(image), math.inf)
                judged.add(self._features.row(latent))
            last = self._ledger.last_change(observations.position)
            chosen = [row for row, position in enumerate(self._positions) if position <= last or row in judged]
            return np.array(chosen, dtype=np.int64)

    def snapshot(self, rows: Rows) -> FeatureSnapshot:
        """The features of some rows; immutable."""
        return self._features.snapshot(rows)

    def with_all(self, fitted: Fitted, rows: Rows) -> Fitted:
        """A fit that used ``rows``, with the features of all images that are known now."""
        with self._lock:
            self._refresh()
            others = np.setdiff1d(np.arange(len(self._features)), rows)
        return self._extended(fitted, rows, others)

    def with_images(
        self,
        fitted: Fitted,
        rows: Rows,
        latents: Sequence[NDArray[np.float32]],
        images: Sequence[NDArray[np.uint8]],
    ) -> Fitted:
        """A fit that used ``rows``, with the features of some images (H, W, 3) of points (d,), and of no others."""
        with self._lock:
            for latent, image in zip(latents, images, strict=True):
                if latent not in self._features:
                    self._add(latent, image_features(image), math.inf)
            found = np.array([self._features.row(latent) for latent in latents], dtype=np.int64)
        return self._extended(fitted, rows, np.setdiff1d(found[found >= 0], rows))

    def _extended(self, fitted: Fitted, rows: Rows, others: Rows) -> Fitted:
        if not len(others) or not isinstance(fitted, UsesFeatures):
            return fitted
        return fitted.with_features(self._features.snapshot(np.concatenate([rows, others])))

    def _refresh(self) -> None:
        """Read previews that are new in the ledger, from any process."""
        for preview in self._ledger.previews(self._decoder.dimension, self._read):
            self._read = preview.position
            if not preview.frame.differences(self._decoder.frame):
                self._add(preview.latent, preview.features, preview.position)

    def _add(self, latent: NDArray[np.float32], features: NDArray[np.float32], position: float) -> None:
        """Add features, with their position in the ledger (infinite if they are not recorded there)."""
        if self._features.add(latent, features):
            self._positions.append(position)
        elif (row := self._features.row(latent)) >= 0:
            self._positions[row] = min(self._positions[row], position)
