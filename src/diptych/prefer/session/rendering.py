"""Proposing and decoding, in the background: what a session's decode worker does."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Candidate
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.match import blended, image_latent
from diptych.prefer.propose import Proposed
from diptych.prefer.session.candidates import Proposer
from diptych.prefer.session.fitting import Learning
from diptych.prefer.session.worker import Worker
from diptych.prefer.spaces.image_features import ImageFeatures as Gallery
from diptych.prefer.utility import Fitted
from diptych.prefer.utility.settings_gp import SettingsPosterior
from diptych.runtime.logging import LOGGER

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

Result = TypeVar("Result")

KEPT = 2**26
"""Bytes of images that were made and not shown: those that are shown later need not be decoded twice."""


class Maker:
    """Makes candidates on a worker.

    Parameters
    ----------
    decoder : Decoder
    ledger : Ledger
        Where images are kept.
    proposer : Proposer
    learning : Learning
        What proposals go by.
    guide : (prompt, Learning), optional
        What they go by until something is learned.
    worker : Worker
        The one thread that decodes.
    """

    def __init__(
        self,
        decoder: Decoder,
        ledger: Ledger,
        proposer: Proposer,
        learning: Learning,
        guide: tuple[str, Learning] | None,
        worker: Worker,
        gallery: Gallery | None,
    ) -> None:
        self._decoder, self._ledger, self._proposer, self._learning = decoder, ledger, proposer, learning
        self._guide, self._worker, self._gallery = guide, worker, gallery
        self._looked: OrderedDict[bytes, NDArray[np.uint8]] = OrderedDict()

    def behind(self, name: str, work: Callable[[], Result]) -> Result:
        """Have the worker do it before what it makes ahead; a caller who gives up takes the job along where it has not
        begun.
        """
        job = self._worker.submit(name, work)
        try:
            return job.result()
        except BaseException:
            job.cancel()
            raise

    def screen(self, count: int) -> list[Candidate]:
        """Propose and decode; runs on the worker."""
        return [self.decoded(proposed.latent, proposed.provenance) for proposed in self._propose(count)]

    def decoded(self, latent: NDArray[np.float32], provenance: Mapping[str, Any]) -> Candidate:
        """Decode a latent and put the image on the disk, so that showing it later is quick; runs on the worker."""
        image = self._made(latent)
        self._ledger.keep_image(image)
        return Candidate(latent, self._decoder.frame, image, provenance=provenance)

    def uploaded(self, image: NDArray[np.uint8], share: float) -> Candidate:
        """The decoded blend of the anchor and an image, which is kept; runs on the worker."""
        name = self._ledger.keep_image(image)
        latent = blended(self._decoder, self._proposer.anchor, image_latent(self._decoder, image), share)
        return self.decoded(latent, {"proposal": "upload", "upload": name, "share": share})

    def _previewer(self, fitted: Fitted | None) -> Callable[[NDArray[np.float32]], Fitted | None]:
        """Makes pictures of points, and returns the fit with their features."""

        def preview(latents: NDArray[np.float32]) -> Fitted | None:
            self._look(latents)
            if self._gallery is None or not isinstance(fitted, SettingsPosterior):
                return None
            return fitted.with_features(self._gallery.snapshot())

        return preview

    def _look(self, latents: NDArray[np.float32]) -> None:
        """Make pictures that need not be shown."""
        for latent in latents:
            self._looked[latent.tobytes()] = self._made(latent)
            while sum(image.nbytes for image in self._looked.values()) > KEPT:
                self._looked.popitem(last=False)

    def _made(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The image of a latent; of settings, what it looks like is remembered."""
        image = self._looked.pop(latent.tobytes(), None)
        if image is None:
            image = self._decoder.decode(latent)
            if self._gallery is not None:
                self._gallery.keep(latent, image)
        return image

    def _propose(self, count: int) -> list[Proposed]:
        known = self._learning.known_at_first()
        fitted = known.fitted
        facts: dict[str, Any] = {"fit": known.position}
        if fitted is None and self._guide is not None:
            prompt, learning = self._guide
            fitted, facts["warm_start"] = learning.known_at_first().fitted, prompt
        found = self._proposer.propose(fitted, known.liked, count, self._ledger.position, self._previewer(fitted))
        LOGGER.debug("[batch] new batch: %d by %s, fit %d", count, self._proposer.proposal.name, known.position)
        return [replace(one, provenance={**one.provenance, **facts}) for one in found]
