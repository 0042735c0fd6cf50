"""Data types: what was shown (Frame, Candidate), how it was judged (Judgement), and both as arrays for a fit
(Observations).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.runtime.provenance import utc_now

Kind = Literal["rate", "stars", "pair", "best", "tie", "skip"]
KINDS: tuple[Kind, ...] = get_args(Kind)

STARS = range(1, 6)
"""Ratings that :meth:`Judgement.stars` takes."""

WEIGHTS = 1e-6, 100.0
"""Smallest and largest weight of a judgement. (Among 300 ratings of weight 1 in 256 dimensions, one of weight 100 turns
the fitted direction from a cosine of 0.71 with the true one to 0.64; of 1e3 to 0.42, of 1e4 to 0.24, and above 1e12
nothing is learned.)"""

LONGEST = 10.0
"""Largest length of a latent that is stored, in units of sqrt(d): 1 for noise, at most 1 for settings. (Among 60
judgements in 256 dimensions, one latent of 10 costs no model much, one of 100 hides the others from ridge regression,
and above 1e6 the Gaussian process cannot be fitted.)"""

SAME = ("prompt", "negative_prompt", "model", "width", "height")
"""Fields of a Frame that are equal for all rows of a fit."""

FLAGGED = ("steps", "guidance", "scheduler")
"""Fields of a Frame that may differ within a fit; differences are reported."""


@dataclass(frozen=True)
class Frame:
    """Everything besides the latent that determines the pixels: the same frame and latent give the same bytes on the
    same machine.

    Fields that do not apply to a decoder, or are unknown (in an old file), keep their defaults.

    Attributes
    ----------
    prompt, negative_prompt, model, scheduler : str
    width, height : int
        Size of the image, pixels.
    steps : int
    guidance : float
        The scale that was in effect, which may differ from the one requested.
    seed : int
        For schedulers that draw noise during the decode.
    versions : tuple of (package, version)
    device, dtype : str
    threads : int
    """

    prompt: str
    negative_prompt: str = ""
    model: str = ""
    width: int = 0
    height: int = 0
    steps: int = 0
    guidance: float = 0.0
    scheduler: str = ""
    seed: int = 0
    versions: tuple[tuple[str, str], ...] = ()
    device: str = ""
    dtype: str = ""
    threads: int = 0

    @cached_property
    def key(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of :meth:`to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """One line of JSON; equal frames give equal text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The frame that :meth:`to_json` wrote.

        Raises
        ------
        InputError
            If the text is not a JSON object, or a field is unknown, missing or of another type.
        """
        values = _json_object(text, "frame")
        defaults: dict[str, Any] = {
            "prompt": "",
            **{entry.name: entry.default for entry in dataclasses.fields(cls) if entry.name != "prompt"},
        }
        for name, value in values.items():
            if name not in defaults:
                raise InputError("frame", f"has the field {name!r}", f"some of {', '.join(defaults)}")
            if name == "versions":
                values[name] = tuple((str(package), str(version)) for package, version in value)
            elif name == "guidance" and isinstance(value, int) and not isinstance(value, bool):
                values[name] = float(value)
            elif type(value) is not type(defaults[name]):
                raise InputError(f"field {name!r} of a frame", f"is {value!r}", f"a value like {defaults[name]!r}")
        if "prompt" not in values:
            raise InputError("frame", "has no prompt", "at least that field")
        return cls(**values)

    def differences(self, other: Frame, names: Iterable[str] = SAME) -> tuple[str, ...]:
        """Those of ``names`` in which the two frames differ."""
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))


@dataclass(frozen=True, eq=False)
class Candidate:
    """An image to judge, and the latent that it was decoded from. Both arrays are read-only.

    Attributes
    ----------
    latent : (d,) float32
    frame : Frame
    image : (H, W, 3) uint8 or None
        None before the decode.
    id : str
        Unique within a ledger, which assigns one if it is empty.
    screen, slot : int
        Number of the screen, from 1 (0: not shown yet), and index on it, from 0.
    provenance : dict
        How the latent was proposed, as JSON values: proposal, position of the fit and of the ledger, generator key.

    Raises
    ------
    InputError
        If the latent is not (d,) finite numbers, or the image not (H, W, 3) uint8.
    """

    latent: NDArray[np.float32]
    frame: Frame
    image: NDArray[np.uint8] | None = None
    id: str = ""
    screen: int = 0
    slot: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        latent = _read_only(np.asarray(self.latent, dtype=np.float32), self.latent)
        if latent.ndim != 1 or latent.size == 0 or not np.all(np.isfinite(latent)):
            raise InputError("latent of a candidate", f"has shape {latent.shape}", "(d,) finite numbers")
        object.__setattr__(self, "latent", latent)
        if self.image is not None:
            image = np.asarray(self.image)
            if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
                raise InputError(
                    "image of a candidate", f"is {image.dtype} of shape {image.shape}", "uint8 of shape (H, W, 3)"
                )
            object.__setattr__(self, "image", _read_only(image, self.image))

    @property
    def dimension(self) -> int:
        """Length d of the latent."""
        return self.latent.size


@dataclass(frozen=True)
class Judgement:
    """One judgement of a person; use :meth:`rate`, :meth:`stars`, :meth:`pair`, :meth:`choose`, :meth:`tie` or
    :meth:`skip`.

    Attributes
    ----------
    kind : "rate", "stars", "pair", "best", "tie" or "skip"
    ids : tuple of str
        The candidates; the winner ("pair") or the best ("best") comes first.
    value : int
        "rate": 1 good, 0 bad; "stars": 1 to 5; else 0.
    weight : float
        Multiplies the log-likelihood; within :data:`WEIGHTS`.
    time : str
        When it was made, ISO 8601, UTC.

    Raises
    ------
    InputError
        If a field is out of range, or a candidate has no id or occurs twice.

    Examples
    --------
    >>> from diptych.prefer import Judgement
    >>> Judgement.rate("image-1", good=True, weight=2.0).value
    1
    >>> Judgement.choose("image-2", ["image-1", "image-2", "image-3"]).ids
    ('image-2', 'image-1', 'image-3')
    """

    kind: Kind
    ids: tuple[str, ...]
    value: int = 0
    weight: float = 1.0
    time: str = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("judgement", f"kind = {self.kind!r}", f"one of {', '.join(KINDS)}")
        allowed = {"rate": range(2), "stars": STARS}.get(self.kind, range(1))
        if not isinstance(self.value, int) or self.value not in allowed:
            raise InputError(
                f"judgement of kind {self.kind!r}", f"value = {self.value!r}", f"{allowed.start} to {allowed.stop - 1}"
            )
        if not WEIGHTS[0] <= self.weight <= WEIGHTS[1]:
            raise InputError(
                "judgement", f"weight = {self.weight:g}", f"a number from {WEIGHTS[0]:g} to {WEIGHTS[1]:g}"
            )
        if not all(isinstance(name, str) and name for name in self.ids):
            raise InputError("judgement", "names a candidate without id", "candidates that were shown")
        count = {"pair": (2, 2), "tie": (2, 2), "best": (2, math.inf)}.get(self.kind, (1, 1))
        if not count[0] <= len(self.ids) <= count[1] or len(set(self.ids)) != len(self.ids):
            few = (
                "at least two different candidates"
                if self.kind == "best"
                else ("one candidate", "two different candidates")[count[0] - 1]
            )
            raise InputError(f"judgement of kind {self.kind!r}", f"names {', '.join(self.ids) or 'nothing'}", few)

    @classmethod
    def rate(cls, candidate: Candidate | str, good: bool, weight: float = 1.0) -> Self:
        """Good or bad."""
        return cls("rate", (_id(candidate),), int(good), weight)

    @classmethod
    def stars(cls, candidate: Candidate | str, stars: int, weight: float = 1.0) -> Self:
        """1 (worst) to 5 (best)."""
        return cls("stars", (_id(candidate),), stars, weight)

    @classmethod
    def pair(cls, winner: Candidate | str, loser: Candidate | str, weight: float = 1.0) -> Self:
        """The first is better than the second."""
        return cls("pair", (_id(winner), _id(loser)), 0, weight)

    @classmethod
    def choose(cls, best: Candidate | str, others: Sequence[Candidate | str], weight: float = 1.0) -> Self:
        """The best of several; ``others`` may include it, so a whole screen can be passed."""
        chosen = _id(best)
        return cls("best", (chosen, *(name for name in map(_id, others) if name != chosen)), 0, weight)

    @classmethod
    def tie(cls, first: Candidate | str, second: Candidate | str, weight: float = 1.0) -> Self:
        """Both are equally good."""
        return cls("tie", (_id(first), _id(second)), 0, weight)

    @classmethod
    def skip(cls, candidate: Candidate | str) -> Self:
        """The image was seen and not judged."""
        return cls("skip", (_id(candidate),))

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The judgement that :meth:`to_json` wrote.

        Raises
        ------
        InputError
            If the text is not a JSON object with the fields of a judgement.
        """
        values = _json_object(text, "judgement")
        if set(values) != {entry.name for entry in dataclasses.fields(cls)}:
            raise InputError("judgement", f"has the fields {', '.join(values)}", "kind, ids, value, weight, time")
        return cls(**{**values, "ids": tuple(values["ids"])})

    @classmethod
    def stored(cls, text: str) -> Self:
        """The same for a judgement that a ledger holds, whatever its weight: earlier versions did not limit it."""
        try:
            return cls.from_json(text)
        except InputError:
            values = _json_object(text, "judgement")
            found = cls.from_json(json.dumps({**values, "weight": 1.0}))
            object.__setattr__(found, "weight", float(values.get("weight", 1.0)))
            return found


@dataclass(frozen=True)
class Term:
    """One judgement, with its candidates as rows of :attr:`Observations.latents`; order, ``value`` and ``weight`` are
    those of :class:`Judgement`.

    ``screen`` is the latest screen on which one of the candidates had been shown when it was judged, ``position`` the
    position in the ledger.
    """

    kind: Kind
    rows: tuple[int, ...]
    value: int
    weight: float
    screen: int
    position: int


@dataclass(frozen=True)
class Report:
    """Number of judgements that a fit uses, of those left out (by reason), and of those used although a setting differs
    (by setting).

    ``damaged`` has the ids of candidates whose stored latent is damaged, ``skips`` the number of skips, of which a fit
    uses nothing.
    """

    used: int = 0
    unused: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, int] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    skips: int = 0

    def __str__(self) -> str:
        parts = [f"{self.used} judgement{'' if self.used == 1 else 's'} used"]
        parts += [f"{self.skips} skip{'' if self.skips == 1 else 's'}"] if self.skips else []
        parts += [f"{count} not used ({reason})" for reason, count in self.unused.items()]
        parts += [f"{count} used with other {name}" for name, count in self.flagged.items()]
        return "; ".join(parts)


@dataclass(frozen=True, eq=False)
class Observations:
    """Judged candidates and their judgements, as the arrays that a fit uses.

    Rows are in the order in which candidates were first judged (those of one judgement in the order shown), so later
    judgements only append rows; an undo removes rows.

    Attributes
    ----------
    latents : (n, d) float32
        One row per judged candidate, read-only.
    screen : (n,) int64
        The screen on which each was first shown.
    terms : list of Term
        In ledger order; a skip has no likelihood.
    ids : tuple of str
        Candidate of each row.
    report : Report
        How many judgements were left out, and why.
    position : int
        Position of the ledger up to which judgements were read.
    """

    latents: NDArray[np.float32]
    screen: NDArray[np.int64]
    terms: list[Term]
    ids: tuple[str, ...] = ()
    report: Report = field(default_factory=Report)
    position: int = 0


def check_length(latent: NDArray[np.float32], where: str) -> None:
    """Raise InputError if a latent (d,) is longer than :data:`LONGEST` sqrt(d)."""
    length = float(np.linalg.norm(latent.astype(np.float64))) / math.sqrt(latent.size)
    if not length <= LONGEST:
        raise InputError(where, f"its latent has the length {length:.3g} sqrt(d)", f"at most {LONGEST:g} sqrt(d)")


def image_hash(image: NDArray[np.uint8]) -> str:
    """Hexadecimal SHA-256 of the shape and the pixels (H, W, 3) of an image, independent of its file format."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _id(candidate: Candidate | str) -> str:
    return candidate if isinstance(candidate, str) else candidate.id


def _read_only(values: NDArray[Any], given: Any) -> NDArray[Any]:
    """``values`` as a read-only array; copied if it is a writable array of the caller."""
    if values.flags.writeable:
        values = values.copy() if values is given or values.base is not None else values
        values.setflags(write=False)
    return values


def _json_object(text: str, what: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(what, f"is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise InputError(what, f"is a {type(values).__name__}", "a JSON object")
    return cast("dict[str, Any]", values)
