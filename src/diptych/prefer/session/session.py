"""A session: images are asked for and judged; fits and decodes run behind the caller's back.

A folder holds everything: the ledger, and ``session.json`` with the settings to resume by. Any number of processes may
work on one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer import decoders, utility
from diptych.prefer.exchange.pictures import load_image, save_picture
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.match import Match
from diptych.prefer.options import SessionOptions
from diptych.prefer.session import factory
from diptych.prefer.session.candidates import Proposer
from diptych.prefer.session.fitting import Learning
from diptych.prefer.session.folder import merged, read_settings, write_settings
from diptych.prefer.session.queue import Queue
from diptych.prefer.session.rendering import Maker
from diptych.prefer.session.state import Scores, State, lower_bound, reckon_scores, safest, steadiest
from diptych.prefer.session.worker import AtOnce, Background, Worker
from diptych.prefer.spaces.image_features import Gallery
from diptych.prefer.utility.diagnostics.cross_validation import CrossValidation, cross_validate
from diptych.runtime.logging import LOGGER

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder
    from diptych.prefer.propose import Proposal
    from diptych.prefer.utility import Fitted, Utility


class Session:
    """An open session; use :meth:`open`. Safe to call from several threads.

    Attributes
    ----------
    ledger : Ledger
    decoder : Decoder
    options : SessionOptions
    queue : Queue
        Images one by one, decoded ahead.

    Examples
    --------
    >>> from diptych.prefer import Judgement, Session
    >>> with Session.open("lake", decoder="synthetic", dimension=256, prompt="a lake at dawn", seed=0) as session:
    ...     first, second = session.ask(2)
    ...     position = session.tell(Judgement.pair(first, second))
    ...     session.wait()
    ...     best = session.best()
    >>> best.latent.shape, best.image.ndim, best.image.dtype.name
    ((256,), 3, 'uint8')
    """

    def __init__(
        self,
        ledger: Ledger,
        decoder: Decoder,
        model: Utility,
        proposal: Proposal,
        options: SessionOptions,
        gallery: Gallery | None,
        *,
        synchronous: bool,
    ) -> None:
        self.ledger, self.decoder, self.options = ledger, decoder, options
        self._utility, self._gallery = model, gallery
        self._decoding: Worker = AtOnce() if synchronous else Background("diptych decode")
        self._fitting: Worker = AtOnce() if synchronous else Background("diptych fit")
        self._learning = self._learner(model, decoder.frame, gallery)
        self._guide = (
            None if options.warm_start is None else (options.warm_start, self._other_taste(options.warm_start))
        )
        self._proposer = Proposer(proposal, decoder, options.seed, shared=not synchronous)
        self._maker = Maker(decoder, ledger, self._proposer, self._learning, self._guide, self._decoding, gallery)
        self.queue = Queue(
            options.queue, lambda: self._maker.screen(1)[0], lambda one: self.show(one)[0], self._decoding
        )
        self._validated: CrossValidation | None = None
        self._loaded: list[Callable[[], None]] = []
        self._end = weakref.finalize(self, _shut, self._learning, self._fitting, self._decoding, ledger, self._loaded)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        decoder: str | Decoder | None = None,
        *,
        utility: str | Utility | None = None,
        proposal: str | Proposal | None = None,
        synchronous: bool = False,
        **options: Any,
    ) -> Self:
        """Begin a session in a folder, or resume the one that is there with the settings that it was last opened with.

        Parameters
        ----------
        folder : path
        decoder, utility, proposal : str or object, optional
            Names, entry points, or objects that meet the protocols. Objects are not kept: give them again to resume.
        synchronous : bool
            Decode and fit in the caller, reproducibly, for tests and benchmarks; one process at a time.
        **options
            Fields of :class:`diptych.prefer.options.SessionOptions`: prompt, dimension, seed, ...

        Raises
        ------
        InputError
            An option or a name is unknown, or the folder holds something else.
        UnavailableError
            The folder cannot be written, or the decoder needs what is not installed.
        """
        home = Path(folder)
        named = {
            key: value if isinstance(value, str) else value.name
            for key, value in (("decoder", decoder), ("utility", utility), ("proposal", proposal))
            if value is not None
        }
        if decoder is not None and not isinstance(decoder, str):
            options["prompt"] = decoder.frame.prompt
        chosen = merged(read_settings(home), {**options, **named})
        engine = (
            factory.open_decoder(chosen)
            if decoder is None or isinstance(decoder, str)
            else decoders.open_decoder(decoder)
        )
        gallery = factory.gallery_of(engine)
        model = (
            factory.open_utility(chosen, engine, gallery) if utility is None or isinstance(utility, str) else utility
        )
        way = factory.open_proposal(chosen, engine) if proposal is None or isinstance(proposal, str) else proposal
        factory.check_spaces(engine, model, way)
        session = cls(Ledger.open(home), engine, model, way, chosen, gallery, synchronous=synchronous)
        if engine is not decoder and hasattr(engine, "close"):
            session._loaded.append(engine.close)
        write_settings(home, chosen)
        session._begin()
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the job at hand, cancel what waits, and close the ledger. Nothing that was acknowledged is lost."""
        self._end()

    @property
    def frame(self) -> Frame:
        """What besides the latent decides the pixels."""
        return self.decoder.frame

    @property
    def dimension(self) -> int:
        """Length d of the latents."""
        return self.decoder.dimension

    @property
    def rows(self) -> int:
        """Judgements that count: one number, for what is live is what is on the disk."""
        return self.ledger.rows

    # Ask and tell

    def ask(self, count: int | None = None) -> tuple[Candidate, ...]:
        """One screen of new images; returns when they are decoded and recorded as shown.

        Parameters
        ----------
        count : int, optional
            Images on the screen; ``options.batch`` when not given.
        """
        number = self.options.batch if count is None else count
        if number < 1:
            raise InputError(f"ask({number}): expected at least 1 image.")
        self._learning.refresh()
        return self.show(*self._maker.behind(f"decode a screen of {number}", lambda: self._maker.screen(number)))

    def tell(self, judgement: Judgement) -> int:
        """Record a judgement; on the disk when it returns, and learned from soon after.

        Returns
        -------
        int
            Its position in the ledger, by which :meth:`undo` can take it back.
        """
        position = self.ledger.judge(judgement)
        self._learning.request()
        return position

    def undo(self, position: int | None = None) -> int:
        """Take back the last judgement that counts, or the one at a position. Repeatable.

        Returns
        -------
        int
            Position of the judgement that no longer counts.
        """
        target = self.ledger.undo(position)
        self._learning.request()
        return target

    def show(self, *candidates: Candidate) -> tuple[Candidate, ...]:
        """Record images as shown together on a new screen, to be judged: new ones, or old ones again (which costs no
        decode).
        """
        return self.ledger.show(candidates)

    def decode(self, latent: ArrayLike, **provenance: Any) -> Candidate:
        """The image of a latent (d,), decoded in the background; not shown yet."""
        vector = np.asarray(latent, dtype=np.float32)
        if vector.shape != (self.dimension,):
            raise InputError(
                f"the latent has shape {vector.shape}; expected ({self.dimension},), what the decoder takes."
            )
        return self._maker.behind("decode", lambda: self._maker.decoded(vector, provenance))

    def upload(self, image: str | Path | NDArray[np.uint8], share: float = 0.5) -> Candidate:
        """An image of one's own, kept with the data, as a latent that is blended with the anchor; decoded and shown on
        a screen.

        Parameters
        ----------
        image : path or (H, W, 3) uint8
            PNG, JPEG or WebP.
        share : float
            The upload's part of the blend, 0 to 1.
        """
        pixels = image if isinstance(image, np.ndarray) else load_image(image)
        return self.show(self._maker.behind("decode an upload", lambda: self._maker.uploaded(pixels, share)))[0]

    def match(self, target: str | Path | NDArray[np.uint8], start: ArrayLike | None = None) -> Match:
        """A search for a latent whose image is like the target, from a latent (d,) or the anchor; its decodes run in
        the background.
        """
        pixels = target if isinstance(target, np.ndarray) else load_image(target)
        begin = self._proposer.anchor if start is None else start
        return Match(self.decoder, pixels, begin, seed=self.options.seed, decode=self._plain)

    def start_from(self, start: Candidate | ArrayLike | int | None) -> None:
        """Let proposals about an anchor move from a liked image, a latent (d,) or the latent of a seed; from the
        prompt's when None.
        """
        self._proposer.start_from(start)

    # What was learned

    def wait(self, timeout: float | None = None) -> None:
        """Until every judgement made so far is learned from.

        Raises
        ------
        UnavailableError
            The fit failed, or the time (s) is over.
        """
        self._learning.wait(timeout)

    @property
    def fitted(self) -> Fitted | None:
        """What was learned; None unless the status is ``ok``."""
        return self._learning.current.fitted

    def score(self, candidates: Sequence[Candidate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation (k,) of the utility of candidates; NaN, shown as n/a, unless the status is
        ``ok``.
        """
        fitted = self.fitted
        if fitted is None or not candidates:
            return np.full(len(candidates), np.nan), np.full(len(candidates), np.nan)
        if self._gallery is not None:
            for candidate in candidates:
                if candidate.image is not None:
                    self._gallery.keep(candidate.latent, candidate.image)
        mean, spread = fitted.score(np.stack([candidate.latent for candidate in candidates]))
        for candidate, value in zip(candidates, mean, strict=True):
            LOGGER.debug("[scorer] tile=%s vm=%s v=%.4f", candidate.id, self._utility.name, value)
        return mean, spread

    def step_scores(self, count: int, step: float) -> NDArray[np.float64]:
        """Utility (count,) after 1, 2 ... steps from the start towards what is thought best: angles (rad), or, of
        settings, lengths.

        NaN unless the status is ``ok``.
        """
        known = self._learning.current
        if known.fitted is None:
            return np.full(count, np.nan)
        return self._proposer.step_scores(
            known.fitted, known.liked[0] if len(known.liked) else self._proposer.anchor, count, step
        )

    def best(self, *, seen: bool = False, safe: bool = False) -> Candidate:
        """The best image that is known: the posterior mean, extrapolated to the sphere, and decoded; not shown yet.

        In a cube nothing is extrapolated: it is a judged image.

        Parameters
        ----------
        seen : bool
            The judged image of highest posterior mean instead.
        safe : bool
            Whichever of both has the higher lower bound, mean less standard deviation.

        Raises
        ------
        InputError
            Nothing is learned yet.
        """
        known = self._learning.current
        if known.fitted is None:
            raise InputError(
                f"there is no best image yet ({self._learning.status}); judge a few images good and others bad first."
            )
        seen = seen or self.decoder.space == "cube"
        if seen or safe:
            judged = (safest if safe else steadiest)(known.fitted, known.observations)
            latent = np.asarray(known.observations.latents[judged])
            if seen or lower_bound(known.fitted, latent) >= lower_bound(
                known.fitted, self._proposer.extrapolated(known.fitted)
            ):
                return self.ledger.candidate(known.observations.ids[judged])
        return self.decode(self._proposer.extrapolated(known.fitted), proposal="best", fit=known.position)

    def save_best(self, path: str | Path, *, seen: bool = False, safe: bool = False) -> Path:
        """Write :meth:`best` as a PNG that holds its frame and latent."""
        return save_picture(self.best(seen=seen, safe=safe), path)

    def scores(self) -> Scores:
        """How far the model, and the person, agree with what was said, and whether more labels would help."""
        return reckon_scores(self._learning.current)

    def cross_validate(self, folds: int = 5) -> CrossValidation:
        """Agreement with judgements that were left out, reckoned in the background when asked for; kept until something
        changes.
        """
        observations = self._learning.current.observations
        name = self._utility.name
        if name not in utility.NAMES:
            raise InputError(
                f"cross-validation makes the model anew for each fold, and {name!r} is no model of diptych; cannot "
                f"do that."
            )
        work = self._fitting.submit(
            "cross-validation",
            lambda: cross_validate(
                lambda: factory.make_utility(name, self.decoder, self._gallery),
                observations,
                folds=folds,
                known=self._validated,
            ),
        )
        self._validated = work.result()
        return self._validated

    @property
    def state(self) -> State:
        """What is running and waiting, and how far things are."""
        known = self._learning.current
        return State(
            status=self._learning.status,
            utility=self._utility.name,
            proposal=self._proposer.proposal.name,
            decoder=self.decoder.name,
            rows=self.rows,
            report=str(known.observations.report),
            running=tuple(filter(None, (self._fitting.running, self._decoding.running))),
            waiting=(*self._fitting.waiting, *self._decoding.waiting),
            delayed=self._learning.delayed,
            queue_ready=self.queue.ready,
            queue_coming=self.queue.coming,
            fit_position=known.position,
            fit_seconds=known.seconds,
            fit_time=known.time,
            decode_seconds=self.decoder.cost,
            journal=self.ledger.journal,
        )

    # Behind

    def _plain(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        return self._maker.behind("decode", lambda: self.decoder.decode(latent))

    def _begin(self) -> None:
        """Learn from what is there already, and from another prompt where that is wished."""
        self.start_from(self.options.start)
        if self._guide is not None:
            self._guide[1].resume()
        if self.rows:
            self._learning.resume()

    def _other_taste(self, prompt: str) -> Learning:
        # Its pictures are of something else, even where the settings are the same: there the settings alone tell.
        return self._learner(
            factory.open_utility(self.options, self.decoder, None), replace(self.frame, prompt=prompt), None
        )

    def _learner(self, model: Utility, frame: Frame, gallery: Gallery | None) -> Learning:
        options = self.options
        return Learning(
            self.ledger,
            model,
            frame,
            self.dimension,
            self._fitting,
            use_legacy=options.use_legacy,
            interval=options.fit_interval,
            gallery=gallery,
        )


def _shut(
    learning: Learning, fitting: Worker, decoding: Worker, ledger: Ledger, loaded: list[Callable[[], None]]
) -> None:
    """End the workers, then close what they work on, and what was loaded for this session alone."""
    learning.close()
    fitting.close()
    decoding.close()
    ledger.close()
    for release in loaded:
        release()
