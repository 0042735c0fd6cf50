"""Proposing and decoding candidates on the decode worker of a session."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.decoders.protocols import measured_by
from diptych.prefer.judgement import Candidate, Frame
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.match import blended, image_latent, need_images
from diptych.prefer.propose import Proposed
from diptych.prefer.session.candidates import CandidateMaker
from diptych.prefer.session.changes import AHEAD, IMAGES, TRIED, Changes
from diptych.prefer.session.fitting import Fitting, Snapshot
from diptych.prefer.session.previews import Previews
from diptych.prefer.session.worker import SPARE, Worker
from diptych.prefer.utility import Fitted
from diptych.runtime.jobs.context import silent
from diptych.runtime.logging import LOGGER
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

Result = TypeVar("Result")
Decode = tuple[NDArray[np.uint8], Frame]
"""An image, and the frame that was in effect."""

LATER = "decode for later screens"
"""Name of jobs that nobody waits for."""

CACHE_BYTES = 2**26
"""Bytes of images that were decoded and not shown: if they are shown later, they are not decoded again."""


class Renderer:
    """Decodes candidates on a worker.

    Parameters
    ----------
    decoder : Decoder
    ledger : Ledger
        Where images are stored.
    candidates : CandidateMaker
    fitting : Fitting
        The fit that proposals use.
    guide : (prompt, Fitting), optional
        The fit that they use before there is one.
    worker : Worker
        The one worker that decodes.
    changes : Changes
        Notified after each decode.
    previews : Previews, optional
        Where image features of settings are recorded.
    progress : callable
        Called with the number of images decoded, of those of one screen, preview (:data:`TRIED`) or job done ahead.
    """

    def __init__(
        self,
        decoder: Decoder,
        ledger: Ledger,
        candidates: CandidateMaker,
        fitting: Fitting,
        guide: tuple[str, Fitting] | None,
        worker: Worker,
        changes: Changes,
        previews: Previews | None,
        progress: ProgressCallback = silent,
    ) -> None:
        self._decoder, self._ledger, self._candidates, self._fitting = decoder, ledger, candidates, fitting
        self._guide, self._worker, self._changes, self._previews = guide, worker, changes, previews
        self._progress = progress
        self._cache: OrderedDict[bytes, Decode] = OrderedDict()

    def run(self, name: str, work: Callable[[], Result]) -> Result:
        """Run a job on the worker, before those done ahead, and wait for it. If the caller is interrupted, a job that
        has not started is cancelled.
        """
        job = self._worker.submit(name, work)
        try:
            return job.result()
        except BaseException:
            job.cancel()
            raise

    def screen(self, count: int) -> list[Candidate]:
        """Propose and decode; runs on the worker."""
        found = self._propose(count)
        decodes = self._decodes([proposed.latent for proposed in found], store=True)
        return [self._stored(one.latent, made, one.provenance) for one, made in zip(found, decodes, strict=True)]

    def decoded(self, latent: NDArray[np.float32], provenance: Mapping[str, Any]) -> Candidate:
        """Decode a latent and store the image; runs on the worker."""
        return self._stored(latent, self._decodes([latent])[0], provenance)

    def plain(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Decode a latent, and store nothing; waits for the worker."""
        return self.run("decode", lambda: self._decode(latent)[0])

    def uploaded(self, image: NDArray[np.uint8], share: float) -> Candidate:
        """The decoded blend of the anchor and an image, which is stored; runs on the worker. The same blend of the same
        image is the candidate that it was before.
        """
        need_images(self._decoder, "upload")
        name = self._ledger.keep_image(image)
        latent = blended(self._decoder, self._candidates.anchor, image_latent(self._decoder, image), share)
        made: dict[str, Any] = {"proposal": "upload", "upload": name, "share": share}
        known = self._ledger.upload_of(made, latent)
        return self.decoded(latent, made) if known is None or known.frame != self._decoder.frame else known

    def _stored(self, latent: NDArray[np.float32], made: Decode, info: Mapping[str, Any]) -> Candidate:
        # Stored at once, so that showing the image later is fast.
        image, frame = made
        self._ledger.keep_image(image)
        measured = measured_by(self._decoder, latent)
        return Candidate(latent, frame, image, provenance={**info, "measured": measured} if measured else info)

    def _decodes(self, latents: list[NDArray[np.float32]], *, stage: str = IMAGES, store: bool = False) -> list[Decode]:
        """Images of latents, from the cache or decoded; features of settings are recorded. With ``store`` the progress
        names the file of each image as soon as it is there.
        """
        found: list[Decode] = []
        self._progress(Progress(stage, 0, len(latents)))
        for latent in latents:
            found.append(self._cached(latent) or self._decode(latent))
            name = self._ledger.keep_image(found[-1][0]) if store else ""
            note = str(self._ledger.files.path(name)) if name else ""
            self._progress(Progress(stage, len(found), len(latents), note=note))
        if self._previews is not None:
            self._previews.keep(latents, [image for image, _ in found])
        return found

    def _cached(self, latent: NDArray[np.float32]) -> Decode | None:
        key = latent.tobytes()
        return self._cache.pop(key) if key in self._cache else None

    def _decode(self, latent: NDArray[np.float32]) -> Decode:
        image = self._decoder.decode(latent)
        self._changes.notify("decode")
        return image, self._decoder.frame

    def _preview(self, latents: NDArray[np.float32], known: Snapshot) -> Fitted | None:
        """Decode images that need not be shown; returns the fit with their features."""
        self._keep(list(latents), self._decodes(list(latents), stage=TRIED))
        return self._with_features(known)

    def _later(self, latents: NDArray[np.float32]) -> None:
        """Decode images that need not be shown, one after the other, when nothing else is to be decoded."""
        if self._worker.waiting.count(LATER):
            return  # the person is faster than the decoder
        for latent in latents:
            self._worker.submit(LATER, partial(self._kept, latent), SPARE)

    def _kept(self, latent: NDArray[np.float32]) -> None:
        self._keep([latent], self._decodes([latent], stage=AHEAD))

    def _keep(self, latents: Sequence[NDArray[np.float32]], decodes: Sequence[Decode]) -> None:
        for latent, made in zip(latents, decodes, strict=True):
            self._cache[latent.tobytes()] = made
        while sum(image.nbytes for image, _ in self._cache.values()) > CACHE_BYTES:
            self._cache.popitem(last=False)

    def _with_features(self, known: Snapshot) -> Fitted | None:
        """The fit, with the features of all images that are known now."""
        if self._previews is None or known.fitted is None:
            return known.fitted
        return self._previews.with_all(known.fitted, known.feature_rows)

    def _propose(self, count: int) -> list[Proposed]:
        known = self._fitting.first()
        fitted = self._with_features(known)
        info: dict[str, Any] = {"fit": known.position}
        if fitted is None and self._guide is not None:
            prompt, guide = self._guide
            fitted, info["warm_start"] = guide.first().fitted, prompt
        found = self._candidates.propose(
            fitted,
            known.liked,
            count,
            self._ledger.position,
            lambda latents: self._preview(latents, known),
            self._later,
        )
        LOGGER.info("[batch] new batch: %d by %s, fit %d", count, self._candidates.proposal.name, known.position)
        return [replace(one, provenance={**one.provenance, **info}) for one in found]
