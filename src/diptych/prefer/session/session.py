"""A session: images are requested and judged; fits and decodes run in the background.

A folder has everything: the ledger, and ``session.json`` with the options to resume with. Any number of processes may
work on it.
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
from diptych.prefer.decoders import protocols
from diptych.prefer.exchange.pictures import load_image, save_picture
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.match import Match
from diptych.prefer.options import SessionOptions
from diptych.prefer.session import factory
from diptych.prefer.session.answers import Answers, Undone, saved, shown_latents, unanswered
from diptych.prefer.session.candidates import CandidateMaker
from diptych.prefer.session.changes import Callback, Changes
from diptych.prefer.session.fitting import Fitting
from diptych.prefer.session.folder import merged, read_settings, with_last_prompt, without, write_or_note
from diptych.prefer.session.previews import Previews
from diptych.prefer.session.queue import Queue
from diptych.prefer.session.rendering import Renderer
from diptych.prefer.session.scoring import best_judged, cross_validated, score_candidates
from diptych.prefer.session.state import Scores, State, compute_scores, compute_state
from diptych.prefer.session.worker import BackgroundWorker, SynchronousWorker, Worker
from diptych.prefer.utility.diagnostics.cross_validation import CrossValidation
from diptych.runtime.interrupts import Cancel
from diptych.runtime.jobs.context import silent
from diptych.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder
    from diptych.prefer.propose import Proposal
    from diptych.prefer.utility import Fitted, Utility


class Session:
    """An open session; use :meth:`open`. Thread-safe.

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
        utility: Utility,
        proposal: Proposal,
        options: SessionOptions,
        *,
        synchronous: bool,
        owns_decoder: bool,
        progress: ProgressCallback = silent,
    ) -> None:
        def worker(name: str) -> Worker:
            return SynchronousWorker() if synchronous else BackgroundWorker(f"diptych {name}")

        self.ledger, self.decoder, self.options = ledger, decoder, options
        self._utility = utility
        self._decoding, self._fit_worker, notifying = worker("decode"), worker("fit"), worker("notify")
        self._changes, self._answers = Changes(notifying), Answers(ledger)
        cancel = Cancel()
        protocols.attend(decoder, progress, cancel)
        self._previews = Previews(ledger, decoder) if decoder.space == "cube" else None
        self._fitting = self._make_fitting(utility, decoder.frame, self._previews)
        self._guide = None if options.warm_start is None else (options.warm_start, self._guide_of(options.warm_start))
        shown = shown_latents(ledger, decoder.frame, decoder.dimension) if decoder.space == "cube" else []
        self._candidates = CandidateMaker(proposal, decoder, options.seed, shown, shared=not synchronous)
        parts = (self._candidates, self._fitting, self._guide, self._decoding, self._changes, self._previews)
        self._renderer = Renderer(decoder, ledger, *parts, progress)
        self.queue = Queue(
            options.queue, lambda: self._renderer.screen(1)[0], lambda one: self.show(one)[0], self._decoding
        )
        self.validated: CrossValidation | None = None
        closing = (self._fitting, self._decoding, (self._fit_worker, notifying), ledger, decoder, owns_decoder, cancel)
        self._end = weakref.finalize(self, factory.shut, *closing)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        decoder: str | Decoder | None = None,
        *,
        utility: str | Utility | None = None,
        proposal: str | Proposal | None = None,
        synchronous: bool = False,
        unset: Sequence[str] = (),
        remember: bool = True,
        read_only: bool = False,
        progress: ProgressCallback = silent,
        **options: Any,
    ) -> Self:
        """Start a session in a folder, or resume the one that is there with the options that it stores.

        Parameters
        ----------
        folder : path
        decoder, utility, proposal : str or object, optional
            Names, or objects that meet the protocols. Objects are not stored: give them again to resume.
        synchronous : bool
            Decode and fit in the caller, reproducibly, for tests and benchmarks; one process at a time.
        unset : sequence of str
            Stored options to forget; their defaults hold again.
        remember : bool
            Store the options that are given. Otherwise they hold until the session is closed.
        read_only : bool
            Write nothing: for scores and the best image of a session that is there; the options hold for this time.
        progress : callable
            Called from a background thread with a :class:`~diptych.runtime.progress.Progress` during long decodes.
        **options
            Fields of :class:`diptych.prefer.options.SessionOptions` (prompt, seed, ...), and options of the decoder,
            utility and proposal (dimension, ...).

        Raises
        ------
        InputError
            If an option or a name is unknown, a prompt is needed and missing, or the folder has something else.
        UnavailableError
            If the folder cannot be written, or the decoder needs something that is not installed.
        """
        home = Path(folder)
        parts = (("decoder", decoder), ("utility", utility), ("proposal", proposal))
        named = {key: value if isinstance(value, str) else value.name for key, value in parts if value is not None}
        if decoder is not None and not isinstance(decoder, str):
            options["prompt"] = decoder.frame.prompt
        chosen = merged(without(read_settings(home), unset), {**options, **named})
        opened, model, method = factory.open_parts(with_last_prompt(home, chosen), decoder, utility, proposal)
        parts_of = (Ledger.open(home, read_only=read_only), opened, model, method, chosen)
        session = cls(*parts_of, synchronous=synchronous, owns_decoder=opened is not decoder, progress=progress)
        if not read_only:
            write_or_note(home, chosen, remember=remember)
        session._begin()
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish the fit that runs, stop the decode (abandon it in its thread if the decoder cannot stop it), cancel
        the other jobs, and close the ledger. No acknowledged judgement is lost.
        """
        self._end()

    @property
    def frame(self) -> Frame:
        """Everything besides the latent that determines the pixels."""
        return self.decoder.frame

    @property
    def dimension(self) -> int:
        """Length d of the latents."""
        return self.decoder.dimension

    @property
    def anchor(self) -> NDArray[Any]:
        """The latent (d,) from which proposals near an anchor move; :meth:`start_from` sets it."""
        return self._candidates.anchor

    @property
    def rows(self) -> int:
        """Number of judgements that count, skips among them; all of them are on disk."""
        return self.ledger.rows

    @property
    def unanswered(self) -> list[tuple[Candidate, ...]]:
        """Screens of this prompt and model, shown after the last judgement, that wait for one; the latest first."""
        return unanswered(self.ledger, self.frame, self.dimension)

    def ask(self, count: int | None = None) -> tuple[Candidate, ...]:
        """One screen of new images, decoded and recorded as shown.

        Parameters
        ----------
        count : int, optional
            Images on the screen; by default ``options.batch``.
        """
        return self.show(*self.prepare(count))

    def prepare(self, count: int | None = None) -> list[Candidate]:
        """The images that :meth:`ask` would show, not recorded as shown: pass them to :meth:`show` when they are."""
        number = self.options.batch if count is None else count
        if number < 1:
            raise InputError(f"ask({number})", "is no number of images", "1 or more")
        self._fitting.refresh()
        return self._renderer.run(f"decode a screen of {number}", lambda: self._renderer.screen(number))

    def tell(self, *judgements: Judgement, source: str = "") -> int:
        """Record an answer: one judgement, or several that are undone together. They are on disk when this returns, and
        a fit to them is requested. ``source="simulated"`` marks judgements that no person made.

        Returns
        -------
        int
            Position in the ledger of the last one, which :meth:`undo` takes.
        """
        positions = self._answers.tell(judgements, source)
        saved(self.ledger, judgements, positions)
        self._fitting.request()
        for position in positions:
            self._changes.notify("judgement", position)
        return positions[-1]

    def undo(self, position: int | None = None) -> int:
        """Undo the last answer (:meth:`take_back`), or the judgement at a position; returns the (first) position."""
        if position is None:
            return self.take_back().positions[0]
        target = self.ledger.undo(position)
        self._fitting.request()
        self._changes.notify("undo", target)
        return target

    def take_back(self) -> Undone:
        """Undo the last answer with all its judgements. Repeated calls undo earlier ones: those that were given to this
        object, then those of earlier sessions and other processes, whose names are in the result.
        """
        undone = self._answers.undo()
        self._fitting.request()
        self._changes.notify("undo", undone.positions[0])
        return undone

    def show(self, *candidates: Candidate) -> tuple[Candidate, ...]:
        """Record images as shown together on a new screen. Images that were shown before need no decode."""
        return self.ledger.show(candidates)

    def decode(self, latent: ArrayLike, **provenance: Any) -> Candidate:
        """The image of a latent (d,), decoded in the background; it is not recorded as shown."""
        vector = np.asarray(latent, dtype=np.float32)
        if vector.shape != (self.dimension,):
            raise InputError("latent", f"has shape {vector.shape}", f"({self.dimension},), as the decoder takes it")
        return self._renderer.run("decode", lambda: self._renderer.decoded(vector, provenance))

    def upload(self, image: str | Path | NDArray[np.uint8], share: float = 0.5) -> Candidate:
        """The image of the blend of an uploaded image's latent and the anchor, recorded as shown on a screen.

        Parameters
        ----------
        image : path or (H, W, 3) uint8
            PNG, JPEG or WebP; stored with the data.
        share : float
            Share of the image in the blend, 0 to 1; the rest is the anchor.
        """
        pixels = image if isinstance(image, np.ndarray) else load_image(image)
        return self.show(self._renderer.run("decode an upload", lambda: self._renderer.uploaded(pixels, share)))[0]

    def match(self, target: str | Path | NDArray[np.uint8], start: ArrayLike | None = None) -> Match:
        """A background search for a latent whose image resembles the target, from a latent (d,) or the anchor."""
        pixels = target if isinstance(target, np.ndarray) else load_image(target)
        begin = self.anchor if start is None else start
        return Match(self.decoder, pixels, begin, seed=self.options.seed, decode=self._renderer.plain)

    def start_from(self, start: Candidate | ArrayLike | int | None) -> None:
        """Set the anchor: an image, a latent (d,), or the latent of a seed; None is the anchor of the prompt."""
        self._candidates.start_from(start)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every judgement made so far is fitted.

        Raises
        ------
        UnavailableError
            If the fit failed, or the time (s) is over.
        """
        self._fitting.wait(timeout)

    def on_change(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback`` after each fit, decode, judgement and undo, from a background thread.

        Parameters
        ----------
        callback : callable
            Takes a :class:`~diptych.prefer.session.changes.Change`. Its exceptions are logged, and do not affect the
            session. In a synchronous session it is called in the caller.

        Returns
        -------
        callable
            Call it to unsubscribe.
        """
        return self._changes.subscribe(callback)

    @property
    def fitted(self) -> Fitted | None:
        """The last fit; None unless the status is ``ok``. It is immutable."""
        return self._fitting.current.fitted

    def score(self, candidates: Sequence[Candidate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation (k,) of the utility of candidates; NaN unless the status is ``ok``."""
        return score_candidates(self._fitting.current, self._previews, candidates, self._utility.name)

    def step_scores(self, count: int, step: float) -> NDArray[np.float64]:
        """Expected utility (count,) after 1, 2, ... steps (angles, rad; lengths for settings) from the best liked
        latent, or the anchor, in the direction of highest expected utility. NaN unless the status is ``ok``.
        """
        known = self._fitting.current
        if known.fitted is None:
            return np.full(count, np.nan)
        start = known.liked[0] if len(known.liked) else self._candidates.anchor
        return self._candidates.step_scores(known.fitted, start, count, step)

    def best(self, *, seen: bool = False, safe: bool = False) -> Candidate:
        """The image of highest expected utility: the posterior mean, extrapolated to the sphere and decoded. It is not
        recorded as shown. For settings it is a judged image.

        Parameters
        ----------
        seen : bool
            The judged image of highest expected utility instead.
        safe : bool
            The one of both that has the higher lower bound (mean minus standard deviation).

        Raises
        ------
        InputError
            If there is no fit yet.
        """
        known = self._fitting.current
        if known.fitted is None:
            why = f"there is no best image yet ({self._fitting.status}) for the prompt {self.frame.prompt!r}"
            raise InputError("session", why, remedy="Rate a few images good and others bad first.")
        seen = seen or self.decoder.space == "cube"
        extrapolated = None if seen else self._candidates.extrapolated(known.fitted)
        if (seen or safe) and (judged := best_judged(known, extrapolated, safe=safe)) is not None:
            return self.ledger.candidate(judged)
        assert extrapolated is not None
        return self.decode(extrapolated, proposal="best", fit=known.position)

    def save_best(self, path: str | Path, *, seen: bool = False, safe: bool = False) -> Path:
        """Write :meth:`best` as a PNG file with its frame and latent."""
        return save_picture(self.best(seen=seen, safe=safe), path)

    def scores(self) -> Scores:
        """Agreement of the model with the judgements, and the expected gain from more judgements."""
        return compute_scores(self._fitting.current)

    def cross_validate(self, folds: int = 5) -> CrossValidation:
        """Agreement with held-out judgements, computed in the background, kept as ``validated``."""
        known, name = self._fitting.current, self._utility.name
        work = self._fit_worker.submit(
            "cross-validation",
            lambda: cross_validated(name, self.options, self.decoder, known, self._previews, folds, self.validated),
        )
        self.validated = work.result()
        return self.validated

    @property
    def state(self) -> State:
        """Running and waiting jobs, and progress."""
        workers = (self._fit_worker, self._decoding)
        parts = (self._utility.name, self._candidates.proposal.name, self.decoder, self.ledger, self.queue)
        return compute_state(self._fitting, workers, *parts)

    def _begin(self) -> None:
        """Fit what is there already, for this prompt and for that of the warm start."""
        self.start_from(self.options.start)
        if self._guide is not None:
            self._guide[1].resume()
        if self.rows:
            self._fitting.resume()

    def _guide_of(self, prompt: str) -> Fitting:
        # Image features of another prompt are not used: the same settings give other images there.
        return self._make_fitting(
            factory.open_utility(self.options, self.decoder), replace(self.frame, prompt=prompt), None
        )

    def _make_fitting(self, utility: Utility, frame: Frame, previews: Previews | None) -> Fitting:
        parts = (self.ledger, utility, frame, self.dimension, self._fit_worker, self._changes)
        options = self.options
        return Fitting(*parts, use_legacy=options.use_legacy, interval=options.fit_interval, previews=previews)
