"""Compare several reconstructions of one scan: engines, networks and results of other programs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from diptych.errors import DiptychError, InputError
from diptych.ptycho.evaluate.comparison import TRUTH, Comparison
from diptych.ptycho.evaluate.methods import Method, check_names, kind_of, resolve_method, run_method
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.evaluate.scoring import MethodResult, score
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.options import Options
from diptych.runtime.progress import ProgressCallback

log = logging.getLogger("diptych")


def _as_in_evaluate(name: str) -> Any:
    """Default, limits and description of an option that means the same as in ``evaluate``."""
    return EvaluationOptions.model_fields[name]


class CompareOptions(Options):
    """How several reconstructions of one scan are compared."""

    gauge: Literal["auto", "full", "scale", "phase", "none"] = _as_in_evaluate("gauge")
    convention: Literal["textbook", "ptychopinn", "both"] = _as_in_evaluate("convention")
    crop: Literal["scan", "all"] = _as_in_evaluate("crop")
    max_shift: int | None = _as_in_evaluate("max_shift")
    reference: str | None = Field(
        default=None,
        description="Method that the others are compared with. Default: the truth, or without one the method called "
        "engine.",
    )
    chunk: int | None = Field(
        default=None,
        ge=1,
        description="Patterns that a network processes at a time; limits memory, does not change results. Default: "
        "chosen by the network. Engines choose their own.",
    )

    @property
    def evaluation(self) -> EvaluationOptions:
        """The options of ``evaluate`` among these."""
        return EvaluationOptions(gauge=self.gauge, convention=self.convention, crop=self.crop, max_shift=self.max_shift)


class ComparisonInterrupted(KeyboardInterrupt):
    """Ctrl-C during a comparison; ``comparison`` holds the methods that were finished."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__("interrupted")
        self.comparison = comparison


def compare(
    scan: Scan,
    methods: Mapping[str, Any],
    truth: Canvas | Scan | Reconstruction | str | Path | None = None,
    options: CompareOptions | None = None,
    progress: ProgressCallback | None = None,
    *,
    execution: ExecutionOptions | None = None,
    **overrides: Any,
) -> Comparison:
    """Reconstruct a scan with several methods and evaluate all on the same area, against the same reference.

    Parameters
    ----------
    scan : Scan
        The scan to reconstruct.
    methods : mapping of str to method
        By name: a Reconstruction; a result file (.h5, .npz) of diptych or another program; the name of an engine
        (``"auto"``, ``"rpie"``, ...) or ReconstructionOptions; a network (.safetensors); or an object with a method
        ``reconstruct`` (:class:`~diptych.ptycho.evaluate.methods.Reconstructs`).
    truth : Canvas, Scan, Reconstruction or path, optional
        The true object; by default that of the scan. Without one, a method is the reference: the one that the option
        ``reference`` names, or the one called ``engine``.
    options : CompareOptions, optional
        Gauge, convention, area, reference.
    progress : callable, optional
        Progress of the methods; the stage begins with the method's name.
    execution : ExecutionOptions, optional
        Device, precision, threads, for all methods.
    **overrides
        Single options by name.

    Returns
    -------
    Comparison
        Table, curves and aligned images. A method that fails has an ``error`` instead of numbers; the others are
        compared.

    Raises
    ------
    InputError
        Before any work, if a method is not known, a file cannot be read or there is no reference; after it, if the
        reference or every other method fails.
    ComparisonInterrupted
        On Ctrl-C once one method can be compared; its ``comparison`` holds the finished ones.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=64, step=2.0, dose=1e5, seed=0)
    >>> table = diptych.compare(scan, {"ml": "ml", "rpie": "rpie"})
    >>> table["ml"]["complex_error"] < 0.2
    True
    """
    options = (options or CompareOptions()).with_changes(**overrides)
    return Plan.of(scan, methods, truth, options).run(progress, execution or ExecutionOptions())


@dataclass(frozen=True, eq=False)
class Plan:
    """A comparison whose inputs have been checked, before any work is done.

    Parameters
    ----------
    scan : Scan
        The scan to reconstruct.
    methods : dict of str to Method
        Files have been read.
    reference : str
        ``"truth"`` or the name of a method.
    truth : Canvas, optional
        None when a method is the reference.
    options : CompareOptions
        How to compare.
    """

    scan: Scan
    methods: dict[str, Method]
    reference: str
    truth: Canvas | None
    options: CompareOptions

    @classmethod
    def of(cls, scan: Scan, methods: Mapping[str, Any], truth: Any, options: CompareOptions) -> Plan:
        """Check names, read files and choose the reference. Raises InputError when something is wrong."""
        if not isinstance(scan, Scan):
            raise InputError(
                "compare", f"the scan is a {type(scan).__name__}", "a Scan", "diptych.load(path) reads one."
            )
        if not methods:
            raise InputError(
                "compare",
                "no method is given",
                "at least one",
                "Name one, for instance {'engine': 'auto'} (--method engine=auto).",
            )
        check_names(methods)
        reference, canvas = _choose_reference(scan, list(methods), truth, options)
        resolved = {name: resolve_method(name, what) for name, what in methods.items()}
        return cls(scan, resolved, reference, canvas, options)

    def run(self, progress: ProgressCallback | None, execution: ExecutionOptions) -> Comparison:
        """Run the methods and evaluate their results; see :func:`compare`."""
        results: dict[str, MethodResult] = {}
        stopped: KeyboardInterrupt | None = None
        try:
            # The reference first: without it nothing can be compared.
            for name in sorted(self.methods, key=lambda name: name != self.reference):
                results[name] = self._run_one(name, progress, execution)
        except KeyboardInterrupt as stop:
            stopped = stop
        if stopped is not None and not any(
            each.result is not None for name, each in results.items() if name != self.reference
        ):
            raise stopped
        missing = "interrupted before it was done"
        done = {
            name: results.get(name, MethodResult(kind=kind_of(method), error=missing))
            for name, method in self.methods.items()
        }
        comparison = score(self.scan, done, self.reference, self.truth, self.options.evaluation)
        if stopped is not None:
            raise ComparisonInterrupted(comparison)
        return comparison

    def _run_one(self, name: str, progress: ProgressCallback | None, execution: ExecutionOptions) -> MethodResult:
        method = self.methods[name]
        if isinstance(method, Reconstruction):
            seconds = method.provenance.get("seconds")
            if isinstance(seconds, float | int) and seconds > 0:
                return MethodResult(method, kind_of(method), float(seconds), "recorded", len(method.positions))
            return MethodResult(method, kind_of(method))
        began = time.perf_counter()
        try:
            result = run_method(name, method, self.scan, progress, execution, self.options.chunk)
        except DiptychError as error:
            if name == self.reference:
                raise InputError(
                    "compare", f"the reference method {name!r} failed, so there is nothing to compare with: {error}"
                ) from error
            log.info("method %s failed: %s", name, error)
            return MethodResult(kind=kind_of(method), error=str(error))
        seconds = time.perf_counter() - began
        log.info("method %s: %.2f s", name, seconds)
        return MethodResult(result, kind_of(method), seconds, "measured", len(self.scan))


def _choose_reference(scan: Scan, names: list[str], truth: Any, options: CompareOptions) -> tuple[str, Canvas | None]:
    """``"truth"`` and the true object, or the method that is the reference and None."""
    wanted = options.reference
    if wanted is not None and truth is not None:
        raise InputError(
            "compare",
            "both truth= (--truth) and reference= (--reference) are given",
            "one of them",
            "Leave one out.",
        )
    if wanted is None and (truth is not None or scan.truth is not None):
        canvas = _true_object(scan if truth is None else truth)
        _check_overlap(scan, canvas)
        return TRUTH, canvas
    listed = ", ".join(names)
    if wanted is None and "engine" not in names:
        raise InputError(
            f"scan {scan.name!r}",
            "has no truth to compare with",
            "a truth or a reference method",
            f"Pass truth= (--truth FILE), or reference= (--reference) with the name of a method: {listed}.",
        )
    if wanted is not None and wanted not in names:
        raise InputError(f"reference {wanted!r}", "is not among the methods", f"one of {listed}")
    if len(names) < 2:
        raise InputError(
            "compare",
            "the reference is the only method",
            "at least one other method",
            "Name another one, or pass truth= (--truth FILE).",
        )
    return wanted or "engine", None


def _true_object(truth: Any) -> Canvas:
    if isinstance(truth, str | Path):
        from diptych.ptycho.io import load_object

        return load_object(truth)
    found = truth.object if isinstance(truth, Reconstruction) else truth.truth if isinstance(truth, Scan) else truth
    if not isinstance(found, Canvas):
        what = (
            f"the scan {truth.name!r} has no true object" if isinstance(truth, Scan) else f"is a {type(truth).__name__}"
        )
        raise InputError("truth", what, "a Canvas, a simulated Scan, a reference Reconstruction or a file")
    return found


def _check_overlap(scan: Scan, truth: Canvas) -> None:
    y0, y1, x0, x1 = truth.extent
    (top, left), (bottom, right) = scan.positions.min(axis=0), scan.positions.max(axis=0)
    if not (y0 <= bottom and top < y1 and x0 <= right and left < x1):
        raise InputError(
            "truth",
            f"covers y {y0}..{y1}, x {x0}..{x1}, but the scan's positions cover y {top:g}..{bottom:g}, "
            f"x {left:g}..{right:g}",
            "the same coordinates",
            "Check the origin of the truth.",
        )
