"""Several reconstructions of one scan - networks, engines, results of other programs - judged alike."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from pydantic import Field

from diptych.errors import DiptychError, InputError
from diptych.ptycho.engines.options import EngineName, ReconstructionOptions
from diptych.ptycho.evaluate.comparison import TRUTH, Comparison
from diptych.ptycho.evaluate.judge import Outcome, judge
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.options import Options
from diptych.runtime.progress import Progress, ProgressCallback

log = logging.getLogger("diptych")

ENGINES = tuple(name for name in get_args(EngineName) if name != "network")
"""Engines that an arm can be by name. A network needs a trained one, which its bundle is."""
BUNDLE = ".safetensors"

_RESERVED = (TRUTH, "origin", "pixel_m")
_NAME = r"\w[\w .+-]{0,39}"


def _as_in_evaluate(name: str) -> Any:
    """Default, limits and description of an option that means the same to ``evaluate``."""
    return EvaluationOptions.model_fields[name]


class CompareOptions(Options):
    """How to judge several reconstructions of one scan."""

    gauge: Literal["auto", "full", "scale", "phase", "none"] = _as_in_evaluate("gauge")
    convention: Literal["textbook", "ptychopinn", "both"] = _as_in_evaluate("convention")
    crop: Literal["scan", "all"] = _as_in_evaluate("crop")
    max_shift: int = _as_in_evaluate("max_shift")
    reference: str | None = Field(
        default=None,
        description="Arm that the others are compared with; without it the truth, and where there is none the arm "
        "called engine.",
    )
    chunk: int | None = Field(
        default=None,
        ge=1,
        description="Patterns that a network works on at a time: it bounds the memory and changes no number. "
        "Without it the network "
        "decides; engines choose their own.",
    )

    @property
    def evaluation(self) -> EvaluationOptions:
        """The part that ``evaluate`` takes."""
        return EvaluationOptions(gauge=self.gauge, convention=self.convention, crop=self.crop, max_shift=self.max_shift)


class Reconstructs(Protocol):
    """Whatever turns a scan into a reconstruction, for instance a trained network."""

    def reconstruct(
        self, scan: Scan, *, progress: ProgressCallback | None, execution: ExecutionOptions, network_batch: int = ...
    ) -> Reconstruction:
        """The reconstruction of ``scan``; ``network_batch``, the patterns worked on at a time, is passed only where it
        is set.
        """


Arm = Reconstruction | ReconstructionOptions | Reconstructs


class ComparisonInterrupted(KeyboardInterrupt):
    """Ctrl-C during a comparison; ``comparison`` holds the arms that were finished."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__("interrupted")
        self.comparison = comparison


def compare(
    scan: Scan,
    arms: Mapping[str, Any],
    truth: Canvas | Scan | Reconstruction | str | Path | None = None,
    options: CompareOptions | None = None,
    progress: ProgressCallback | None = None,
    *,
    execution: ExecutionOptions | None = None,
    **overrides: Any,
) -> Comparison:
    """Reconstruct a scan in several ways and judge the results alike: same area, same reference, same metrics.

    Parameters
    ----------
    scan : Scan
        What the arms reconstruct.
    arms : mapping of str to arm
        By name: a Reconstruction; a result file (.h5, .npz), ours or another program's; the name of an engine
        (``"auto"``, ``"rpie"``, ...) or ReconstructionOptions; a network bundle (.safetensors); or an object with a
        method ``reconstruct`` (:class:`Reconstructs`).
    truth : Canvas, Scan, Reconstruction or path, optional
        The true object; without it the scan's. Where there is none, an arm is the reference: the one that the option
        ``reference`` names, or else the one called ``engine``.
    options : CompareOptions, optional
        Gauge, convention, area, reference.
    progress : callable, optional
        Progress of the arms; the stage begins with the arm's name.
    execution : ExecutionOptions, optional
        Device, precision, threads, for all arms.
    **overrides
        Single options by name.

    Returns
    -------
    Comparison
        An arm that fails has no numbers but an ``error``; the others are compared all the same.

    Raises
    ------
    InputError
        Before any work, if an arm is not known, a file cannot be read or there is nothing to compare with; after it, if
        the reference or every other arm fails.
    ComparisonInterrupted
        On Ctrl-C once an arm can be compared; its ``comparison`` holds the finished ones.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=64, step=2.0, dose=1e5, seed=0)
    >>> table = diptych.compare(scan, {"ml": "ml", "rpie": "rpie"})
    >>> table["ml"]["complex_error"] < 0.2
    True
    """
    options = (options or CompareOptions()).with_changes(**overrides)
    return Plan.of(scan, arms, truth, options).carry_out(progress, execution or ExecutionOptions())


@dataclass(frozen=True, eq=False)
class Plan:
    """A comparison that is known to make sense, before any work is done.

    Parameters
    ----------
    scan : Scan
        What the arms reconstruct.
    arms : dict of str to arm
        Files are read.
    reference : str
        ``"truth"`` or the name of an arm.
    truth : Canvas, optional
        None when an arm is the reference.
    options : CompareOptions
        How to judge.
    """

    scan: Scan
    arms: dict[str, Arm]
    reference: str
    truth: Canvas | None
    options: CompareOptions

    @classmethod
    def of(cls, scan: Scan, arms: Mapping[str, Any], truth: Any, options: CompareOptions) -> Plan:
        """Check names, read files and settle the reference. Raises InputError when something is wrong."""
        if not isinstance(scan, Scan):
            raise InputError(
                f"compare: expected a Scan, got {type(scan).__name__}; diptych.load(path) makes one from a file."
            )
        if not arms:
            raise InputError(
                "compare: there are no arms; name at least one, for instance {'engine': 'auto'} (--arm engine=auto)."
            )
        _check_names(arms)
        reference, canvas = _choose_reference(scan, list(arms), truth, options)
        return cls(scan, {name: resolve_arm(name, what) for name, what in arms.items()}, reference, canvas, options)

    def carry_out(self, progress: ProgressCallback | None, execution: ExecutionOptions) -> Comparison:
        """Run the arms and judge what they give; see :func:`compare`."""
        outcomes: dict[str, Outcome] = {}
        stopped: KeyboardInterrupt | None = None
        try:
            # The reference first: without it there is no comparison.
            for name in sorted(self.arms, key=lambda name: name != self.reference):
                outcomes[name] = self._outcome(name, progress, execution)
        except KeyboardInterrupt as stop:
            stopped = stop
        if stopped is not None and not any(
            outcome.result is not None for name, outcome in outcomes.items() if name != self.reference
        ):
            raise stopped
        missing = "interrupted before it was done"
        done = {name: outcomes.get(name, Outcome(kind=_kind(arm), error=missing)) for name, arm in self.arms.items()}
        comparison = judge(self.scan, done, self.reference, self.truth, self.options.evaluation)
        if stopped is not None:
            raise ComparisonInterrupted(comparison)
        return comparison

    def _outcome(self, name: str, progress: ProgressCallback | None, execution: ExecutionOptions) -> Outcome:
        arm = self.arms[name]
        if isinstance(arm, Reconstruction):
            seconds = arm.provenance.get("seconds")
            if isinstance(seconds, float | int) and seconds > 0:
                return Outcome(arm, _kind(arm), float(seconds), "recorded", len(arm.positions))
            return Outcome(arm, _kind(arm))
        began = time.perf_counter()
        try:
            result = _reconstruct(arm, self.scan, _named(name, progress), execution, self.options.chunk)
        except DiptychError as error:
            if name == self.reference:
                raise InputError(
                    f"compare: the reference arm {name!r} failed, so there is nothing to compare with: {error}"
                ) from error
            log.info("arm %s failed: %s", name, error)
            return Outcome(kind=_kind(arm), error=str(error))
        seconds = time.perf_counter() - began
        log.info("arm %s: %.2f s", name, seconds)
        return Outcome(result, _kind(arm), seconds, "measured", len(self.scan))


def resolve_arm(name: str, what: Any) -> Arm:
    """The arm that ``what`` means: an engine's options, a result read from its file, a network from its bundle, or
    ``what`` itself.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if isinstance(what, Reconstruction | ReconstructionOptions):
        return what
    if isinstance(what, str) and what in ENGINES:
        return ReconstructionOptions.build({"engine": what})
    if isinstance(what, str | Path):
        if not Path(what).exists():
            raise InputError(
                f"compare: the arm {name!r} is {str(what)!r}, which is no engine and no file; expected one of "
                f"{', '.join(ENGINES)}, "
                f"a result file (.h5, .npz) or a network bundle ({BUNDLE})."
            )
        if Path(what).suffix.lower() == BUNDLE:
            from diptych.ptycho.neural.model import load_model

            return load_model(what)
        from diptych.ptycho.io import load_result

        return load_result(what)
    if callable(getattr(what, "reconstruct", None)):
        found: Reconstructs = what
        return found
    raise InputError(
        f"compare: the arm {name!r} is a {type(what).__name__}; expected a Reconstruction, a file, the name of an "
        f"engine, "
        "ReconstructionOptions, or an object with a method reconstruct(scan, progress=..., execution=...)."
    )


def _check_names(arms: Mapping[str, Any]) -> None:
    for name in arms:
        if not isinstance(name, str) or not re.fullmatch(_NAME, name) or name in _RESERVED:
            raise InputError(
                f"compare: an arm is called {name!r}; expected up to 40 letters, digits, spaces or any of _ . + -, "
                f"and none of {', '.join(_RESERVED)}."
            )


def _choose_reference(scan: Scan, names: list[str], truth: Any, options: CompareOptions) -> tuple[str, Canvas | None]:
    """``"truth"`` and the true object, or the arm that is the reference and None."""
    wanted = options.reference
    if wanted is not None and truth is not None:
        raise InputError("compare: both a truth and reference= (--reference) are given; leave one of them out.")
    if wanted is None and (truth is not None or scan.truth is not None):
        canvas = _true_object(scan if truth is None else truth)
        _check_overlap(scan, canvas)
        return TRUTH, canvas
    if wanted is None and "engine" not in names:
        raise InputError(
            f"compare: the scan {scan.name!r} carries no truth; pass truth= (--truth FILE), name an arm as the "
            f"reference with "
            f"reference= (--reference), or call one 'engine'. The arms are {', '.join(names)}."
        )
    if wanted is not None and wanted not in names:
        raise InputError(f"compare: reference is {wanted!r}, which is no arm; expected one of {', '.join(names)}.")
    if len(names) < 2:
        raise InputError("compare: the reference is the only arm; name another one, or pass truth= (--truth FILE).")
    return wanted or "engine", None


def _true_object(truth: Any) -> Canvas:
    if isinstance(truth, str | Path):
        from diptych.ptycho.io import load_object

        return load_object(truth)
    found = truth.object if isinstance(truth, Reconstruction) else truth.truth if isinstance(truth, Scan) else truth
    if not isinstance(found, Canvas):
        what = (
            f"the scan {truth.name!r}, which carries no true object"
            if isinstance(truth, Scan)
            else f"a {type(truth).__name__}"
        )
        raise InputError(
            f"compare: the truth is {what}; expected a Canvas, a simulated Scan, a reference Reconstruction or a file."
        )
    return found


def _check_overlap(scan: Scan, truth: Canvas) -> None:
    (y0, y1, x0, x1), (top, left), (bottom, right) = (
        truth.extent,
        scan.positions.min(axis=0),
        scan.positions.max(axis=0),
    )
    if not (y0 <= bottom and top < y1 and x0 <= right and left < x1):
        raise InputError(
            f"compare: the truth covers y {y0}..{y1}, x {x0}..{x1}, but the scan's positions lie at y "
            f"{top:g}..{bottom:g}, "
            f"x {left:g}..{right:g}; expected the same coordinates. Check the origin of the truth."
        )


def _reconstruct(
    arm: Any, scan: Scan, progress: ProgressCallback | None, execution: ExecutionOptions, chunk: int | None
) -> Reconstruction:
    if isinstance(arm, ReconstructionOptions):
        from diptych.ptycho.reconstruct import reconstruct

        return reconstruct(scan, options=arm, progress=progress, execution=execution)
    bounded = {} if chunk is None else {"network_batch": chunk}
    result = arm.reconstruct(scan, progress=progress, execution=execution, **bounded)
    if not isinstance(result, Reconstruction):
        raise InputError(f"its method reconstruct gave a {type(result).__name__}; expected a Reconstruction.")
    return result


def _kind(arm: Arm) -> str:
    if isinstance(arm, Reconstruction):
        return "result"
    return f"engine {arm.engine}" if isinstance(arm, ReconstructionOptions) else "network"


def _named(name: str, progress: ProgressCallback | None) -> ProgressCallback | None:
    if progress is None:
        return None
    return lambda report: progress(Progress(f"{name}: {report.stage}", report.done, report.total, report.values))
