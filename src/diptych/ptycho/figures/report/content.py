"""What a result's record says, as rows and sentences: readings, choices with their evidence, quality, what to try."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from diptych.errors import to_type
from diptych.ptycho.engines.flags.base import by_kind, wrong_reading
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.physics.detector.point_spread import recorded_widths
from diptych.ptycho.physics.illumination import lit
from diptych.ptycho.scan import Reconstruction

Rows = list[tuple[str, str, str]]
"""What, what was chosen, and the evidence."""

STAGES = {
    0.0: "initial guess",
    1.0: "rescue",
    2.0: "second guess, trial or refinement",
    3.0: "maximum likelihood",
    4.0: "slices",
}
"""Stages of the automatic engine by their number in the history."""

GOOD_FIT, POOR_FIT = 1.5, 3.0
"""Held-out fits up to which a result counts as explained by photon noise, and above which as poor."""

_SHOWN = {
    *("engine", "stop_reason", "epochs", "best_epoch", "fit", "held_out_fit", "excess", "options", "scan", "load"),
    *("probe_start", "device", "device_reason", "seconds", "counts_per_photon", "run", "start", "left_out"),
    *("slices", "point_spread"),
}
"""Keys of the provenance that have their own place on the page."""


def number(value: Any, digits: int = 3) -> str:
    """A number as text, ``not known`` where there is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return f"{value:.{digits}g}"
    return "not known"


def mapping(value: Any) -> dict[str, Any]:
    """A mapping of the record; an empty one where a file holds something else there."""
    return dict(value) if isinstance(value, Mapping) else {}


def chosen(result: Reconstruction) -> Rows:
    """Every choice of the run, with what it was made on."""
    about = result.provenance
    options, start = mapping(about.get("options")), mapping(about.get("start"))
    asked = {name: _asked(name, value) for name, value in options.items() if value not in (None, "auto", "")}
    rows: Rows = [
        ("Photons", f"{number(about.get('counts_per_photon'))} counts per photon", "from the unit or noise of counts"),
        ("Initial probe", _initial_probe(about, options), str(about.get("probe_start") or asked.get("probe", ""))),
        ("Initial object", str(start.get("object", options.get("start", "not known"))), _start(start)),
        ("Engine", str(about.get("engine", "not known")), _stages(result.history)),
        ("Probe modes", _modes(result), _added_modes(result, asked)),
        ("Positions", *_positions(result, asked)),
        *_slices(result),
        ("Intensity of frames", *_factors(result, asked)),
        ("Background", *_background(result, asked)),
        ("Blur of patterns", *_point_spread(result, asked)),
        ("Batch", number(options.get("batch"), 6) if options.get("batch") else "by the engine", asked.get("batch", "")),
        ("Stop", f"after {number(about.get('epochs'), 6)} epochs", str(about.get("stop_reason", "not known"))),
        ("State kept", f"epoch {number(about.get('best_epoch'), 6)}", "the lowest held-out fit of the last stage"),
        ("Device", str(about.get("device", "not known")), str(about.get("device_reason", ""))),
    ]
    rows += [(f"Record: {key}", str(value), "") for key, value in about.items() if key not in _SHOWN]
    return rows


def _asked(name: str, value: Any) -> str:
    fields = ReconstructionOptions.model_fields
    by_default = name in fields and value == fields[name].default
    return f"{value}, the default" if by_default else f"asked for: {value}"


def readings(result: Reconstruction) -> Rows:
    """How the file was read: part, what it was read as, and from where."""
    stated = result.provenance.get("load")
    parts = [mapping(each) for each in stated] if isinstance(stated, list | tuple) else []
    return [(str(each.get("part", "")), str(each.get("read as", "")), str(each.get("from", ""))) for each in parts]


def left_out(result: Reconstruction) -> list[tuple[str, str]]:
    """What was not used of the scan."""
    return [(name.replace("_", " "), str(value)) for name, value in mapping(result.provenance.get("left_out")).items()]


def _initial_probe(about: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    if about.get("probe_start"):
        return "made for this scan"
    return "the scan's, unchanged" if options.get("probe") == "fixed" else "the scan's, then refined"


def _start(start: Mapping[str, Any]) -> str:
    if not start:
        return "no trained network was given"
    fits = f"held-out fit {number(start.get('network_fit'))}, of a flat object {number(start.get('flat_fit'))}"
    return f"{start.get('why', '')} ({fits})"


def _stages(history: Mapping[str, list[float]]) -> str:
    """The stages with their epochs and the held-out fit at the end of each."""
    stages, fits = history.get("stage", []), history.get("held_out_fit", [])
    if not stages or len(stages) != len(fits):
        return ""
    parts, at = [], 0
    for stage, run in groupby(stages):
        epochs = len(list(run))
        at += epochs
        parts.append(f"{STAGES.get(stage, f'stage {stage:g}')}: {epochs} epochs, to {number(fits[at - 1])}")
    return "held-out fit by stage: " + "; ".join(parts)


def _modes(result: Reconstruction) -> str:
    power = (np.abs(result.probe.astype(np.complex128)) ** 2).sum((1, 2))
    shares = ", ".join(f"{100 * share:.3g} %" for share in power / max(float(power.sum()), 1e-300))
    return f"{len(power)} ({shares} of the power)"


def _added_modes(result: Reconstruction, asked: Mapping[str, str]) -> str:
    said = next((flag for flag in result.flags if flag.startswith("probe modes:")), None)
    return said or asked.get("modes", "as many as the initial probe; the held-out pixels did not ask for more")


def _positions(result: Reconstruction, asked: Mapping[str, str]) -> tuple[str, str]:
    said = next((flag for flag in result.flags if flag.startswith("positions:")), None)
    if said is not None:
        return "refined", said
    return f"as recorded ({len(result.positions)})", asked.get("correct_positions", "no test said that they are wrong")


def _slices(result: Reconstruction) -> Rows:
    if result.slices is None:
        return []
    said = next((flag for flag in result.flags if flag.startswith("slices:")), "")
    return [("Slices", f"{len(result.slices)}, {number(result.slice_distance_m)} m apart", said)]


def _factors(result: Reconstruction, asked: Mapping[str, str]) -> tuple[str, str]:
    if result.frame_factors is None:
        return "constant", asked.get("frame_factors", "the totals of the frames show no variation that a factor fits")
    spread = 100 * float(result.frame_factors.std())
    return f"a factor for each frame, {spread:.2g} % rms", "the held-out fit fell"


def _background(result: Reconstruction, asked: Mapping[str, str]) -> tuple[str, str]:
    if result.background is None:
        return "as the scan states", asked.get("background", "held-out pixels did not ask for one")
    said = next((flag for flag in result.flags if flag.startswith("background:")), "")
    return f"{number(float(result.background.mean()))} counts per pixel", said


def _point_spread(result: Reconstruction, asked: Mapping[str, str]) -> tuple[str, str]:
    widths = recorded_widths(result.provenance, result.name)
    if not any(widths):
        return "none", asked.get("point_spread", "held-out pixels did not ask for one")
    said = next((flag for flag in result.flags if flag.startswith("point spread:")), asked.get("point_spread", ""))
    return f"{number(widths[0])} x {number(widths[1])} px (rms, y and x)", said


def quality(result: Reconstruction) -> list[tuple[str, str, str]]:
    """Fit, error bars and pixel: what, value, and what it means."""
    about = result.provenance
    rows = [
        ("Fit", number(about.get("fit")), "deviance over that of photon noise, on the fitted pixels; 1 is expected"),
        ("Held-out fit", number(about.get("held_out_fit")), judgement(about.get("held_out_fit"))),
        ("Error bars", *error_bars(result)),
    ]
    if (pixel := result.object.pixel_m) is not None:
        rows.append(("Object pixel", f"{pixel[0]:.4g} x {pixel[1]:.4g} m", "no finer detail can be resolved"))
    return rows


def judgement(held_out: Any) -> str:
    """What a held-out fit says."""
    if number(held_out) == "not known":
        return "no pixels were held out"
    if held_out <= GOOD_FIT:
        return "pixels that the engine never saw are predicted to photon noise, or nearly"
    if held_out <= POOR_FIT:
        return "something beside photon noise is left, but it is small"
    return "much is unexplained: see the flags and what to try next"


def error_bars(result: Reconstruction) -> tuple[str, str]:
    """Median standard error of the object where light fell, and what it is."""
    if result.error is None:
        return "none", "this result holds no standard errors"
    where = np.isfinite(result.error)
    if result.illumination is not None:
        where &= lit(result.illumination)
    if not where.any():
        return "none", "no pixel with light has a finite standard error"
    return f"{float(np.median(result.error[where])):.2g}", "median standard error of the object's values, lit pixels"


def next_steps(result: Reconstruction, *, resolution: bool) -> list[str]:
    """What to try, most useful first. Remedies of the flags stand with the flags."""
    about, options = result.provenance, mapping(result.provenance.get("options"))
    held, kinds = about.get("held_out_fit"), by_kind(result.flags)
    poor = isinstance(held, int | float) and held > GOOD_FIT
    steps = []
    if wrong_reading(result.flags):
        steps.append(to_type("Nothing helps while the reading is wrong. To settle it first", "diptych check FILE"))
    if str(about.get("stop_reason", "")).startswith("all "):
        steps.append("All epochs were used before convergence: allow more (--epochs), or continue with --resume.")
    if poor and options.get("correct_positions", "off") == "off":
        steps.append("Let the positions be tested and refined: --correct-positions auto.")
    if poor and len(result.probe) == 1:
        steps.append("Try partial coherence: --modes 3. Keep it where the held-out fit falls clearly.")
    if "over-fitting" in kinds:
        steps.append("Use fewer modes, or record more photons or overlap: the noise was fitted.")
    if result.geometry is not None and result.geometry.propagation == "near" and poor:
        steps.append("Check the focus distance: it sets the magnification and the propagation (--focus-distance-m).")
    if not resolution:
        purpose, command = (
            "To measure the resolution from two halves of the data",
            "diptych evaluate RESULT --scan FILE",
        )
        steps.append(to_type(purpose, command))
    return steps


def arguments(result: Reconstruction) -> dict[str, Any]:
    """The run's arguments as far as they are recorded: file, and the options that differ from the defaults."""
    run, options = mapping(result.provenance.get("run")), mapping(result.provenance.get("options"))
    inputs = run.get("inputs")
    first = mapping(inputs[0]) if isinstance(inputs, list | tuple) and inputs else {}
    defaults = ReconstructionOptions().resolved()
    changed = {name: value for name, value in options.items() if name in defaults and value != defaults[name]}
    found = {"file": str(first.get("path", "SCAN")), "load": mapping(run.get("load_options")), "options": changed}
    return found | ({"model": str(run["model"])} if run.get("model") else {})


def origin(result: Reconstruction) -> list[tuple[str, str]]:
    """Versions, inputs and seeds of the run."""
    run = mapping(result.provenance.get("run"))
    rows = [(name, str(run[name])) for name in ("started", "commit", "command") if run.get(name)]
    versions = mapping(run.get("versions"))
    rows += [("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))] if versions else []
    rows += [("seeds", _listed(mapping(run.get("seeds"))))] if run.get("seeds") else []
    rows += [("machine", _listed(mapping(run.get("device"))))] if run.get("device") else []
    inputs = run.get("inputs")
    for each in map(mapping, inputs if isinstance(inputs, list | tuple) else []):
        rows.append((f"input {each.get('path', '')}", f"{each.get('bytes', '?')} bytes, SHA-256 {each.get('sha256')}"))
    seconds = result.provenance.get("seconds")
    return [*rows, ("reconstruction took", f"{number(seconds)} s")] if seconds is not None else rows


def _listed(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in dict(values).items() if value is not None)
