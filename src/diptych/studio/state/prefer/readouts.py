"""The readouts beside the pictures, as text. What is not known is ``n/a``, never 0."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from diptych.prefer.decoders.protocols import last_decode
from diptych.prefer.judgement import Judgement
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.session.answers import label_of
from diptych.prefer.session.session import Session
from diptych.prefer.session.state import State
from diptych.prefer.utility import Agreement
from diptych.prefer.utility.diagnostics.cross_validation import CrossValidation
from diptych.studio.state.prefer.desk import Desk

NONE = "n/a"
LAST_LABELS = 5

ENOUGH = 0.1
"""Expected gain of 20 more labels, sigma, below which the page advises to stop."""


@dataclass
class Labels:
    """Counts of the judgements of a ledger, kept up to date from its new events."""

    position: int = 0
    live: dict[int, Judgement] = field(default_factory=dict)

    def update(self, ledger: Ledger) -> None:
        """Read what is new."""
        for event in ledger.events(self.position):
            self.position = event.position
            if event.judgement is not None:
                self.live[event.position] = event.judgement
            elif event.target is not None:
                self.live.pop(event.target, None)

    @property
    def positives(self) -> int:
        """Pictures rated good, or with four or five stars."""
        return sum(_sign(one) > 0 for one in self.live.values())

    @property
    def negatives(self) -> int:
        """Pictures rated bad, or with one or two stars."""
        return sum(_sign(one) < 0 for one in self.live.values())

    @property
    def comparisons(self) -> int:
        """Pairs, ties, and choices of the best."""
        return sum(one.kind in ("pair", "best", "tie") for one in self.live.values())

    @property
    def skips(self) -> int:
        """Skips, which are rows too."""
        return sum(one.kind == "skip" for one in self.live.values())

    @property
    def last(self) -> str:
        """The last five labels, latest last."""
        recent: deque[Judgement] = deque(self.live.values(), maxlen=LAST_LABELS)
        return ", ".join(map(label_of, recent)) or NONE


def _sign(judgement: Judgement) -> int:
    """1 for good, -1 for bad, 0 for what is neither."""
    if judgement.kind == "rate":
        return 2 * judgement.value - 1
    return (judgement.value > 3) - (judgement.value < 3) if judgement.kind == "stars" else 0


def readouts(desk: Desk, labels: Labels, steps: int, step: float) -> dict[str, str]:
    """All readouts by their names on the page.

    Parameters
    ----------
    desk : Desk
    labels : Labels
        Updated here.
    steps : int
        Number of step scores.
    step : float
        Length of a step, rad (for settings: length in the unit cube).
    """
    session = desk.session
    labels.update(session.ledger)
    state, scores = session.state, session.scores()
    known = state.status == "ok"
    return {
        **_rows(desk, labels, state),
        "Train score": _agreement(scores.train) if known else NONE,
        "Leave-one-out agreement": _agreement(scores.left_out) if known else NONE,
        "Chance level": _chance(scores.left_out) if known else NONE,
        "Predicted values": (f"not to be trusted yet: {scores.doubt}" if scores.doubt else "ok") if known else NONE,
        "Value scorer": state.scorer,
        **_training(session, state),
        "Step scores": step_scores(session, steps, step),
        "Agreement with yourself": _agreement(scores.itself),
        "Advice": _advice(session),
        "Dimension": f"{session.dimension}",
        "Other data": mismatch(session),
        "Queue remaining": f"{desk.lines['queue'].remaining}",
        "Images": _images(desk),
        "Judgements used": state.report,
        **_geometry(desk),
    }


def _rows(desk: Desk, labels: Labels, state: State) -> dict[str, str]:
    live, disk = desk.base + desk.saved, state.rows
    others = "" if live == disk else f" ({disk - live:+d} by other programs)"
    return {
        "Dataset rows": str(live),
        "Rows (disk)": f"{disk}{others}",
        "Positives": str(labels.positives),
        "Negatives": str(labels.negatives),
        "Comparisons": str(labels.comparisons),
        "Skips": str(labels.skips),
        "Last labels": labels.last,
    }


def _training(session: Session, state: State) -> dict[str, str]:
    running = "fit" in state.running or "fit" in state.waiting
    ridge = "idle"
    if state.utility == "ridge":
        ridge = "running" if running else "ok" if state.status == "ok" else "idle"
    fit = "running" if running else "waiting (min seconds between trains)" if state.delayed else "idle"
    took = f"{state.fit_time}, {1000 * state.fit_seconds:.0f} ms" if state.fit_time else NONE
    return {
        "Ridge training": ridge,
        "XGB active": "yes" if state.utility == "xgboost" and state.status == "ok" else "no",
        "Training": fit,
        "Last train": took,
    }


def step_scores(session: Session, count: int, step: float) -> str:
    """Expected utility after each of ``count`` steps from the best liked picture; ``n/a`` without a fit."""
    values = session.step_scores(count, step) if count > 0 else np.zeros(0)
    return ", ".join(f"{value:.2f}" for value in values) if len(values) and np.isfinite(values).all() else NONE


def mismatch(session: Session) -> str:
    """A line about latents of another length in the folder; empty if there are none."""
    found = (re.fullmatch(r"latents-(\d+)", path.stem) for path in session.ledger.folder.glob("latents-*.f32"))
    others = sorted({int(match[1]) for match in found if match} - {session.dimension})
    if not others:
        return ""
    old = ", ".join(map(str, others))
    return f"Dataset recorded at d={old} (ignored); current latent dim d={session.dimension}"


def _images(desk: Desk) -> str:
    line = desk.line
    if line.problem:
        return "failed"
    return "ready" if line.current is not None else "decoding…" if line.coming else "empty"


def _agreement(found: Agreement | None) -> str:
    return NONE if found is None or not found.total else f"{found.share:.0%} ({found.hits} of {found.total})"


def _chance(found: Agreement | None) -> str:
    """What guessing gets right of the same judgements."""
    if found is None or not found.total or math.isnan(found.chance):
        return NONE
    return f"{found.chance / found.total:.0%} ({found.chance:.3g} of {found.total})"


def cv_text(found: CrossValidation | None) -> str:
    """The last cross-validation, with the time of its computation."""
    if found is None:
        return f"CV score: {NONE}"
    chance = _chance(found.agreement)
    return f"CV score: {_agreement(found.agreement)}, {found.folds} folds, computed {found.time}; chance {chance}"


def _advice(session: Session) -> str:
    advice = session.scores().advice
    if advice is None or not math.isfinite(advice.gain):
        return NONE
    text = f"{advice.labels} more labels: expected gain {advice.gain:.2f} sigma"
    return f"{text}. You can stop." if advice.gain < ENOUGH else text


def _geometry(desk: Desk) -> dict[str, str]:
    """Distance and angle of the pictures on the screen from the anchor."""
    found = distances(desk)
    return {
        "||z − anchor||": ", ".join(f"{length:.1f}" for length, _ in found) or NONE,
        "Angle from the anchor": ", ".join(f"{angle:.0f}°" for _, angle in found) or NONE,
    }


def distances(desk: Desk) -> list[tuple[float, float]]:
    """Distance, and angle in degrees, of each picture on the screen from the anchor."""
    screen = desk.line.current
    if screen is None:
        return []
    anchor = np.asarray(desk.session.anchor, dtype=np.float64)
    found = []
    for tile in screen.tiles:
        latent = tile.candidate.latent.astype(np.float64)
        norm = float(np.linalg.norm(latent) * np.linalg.norm(anchor))
        angle = math.degrees(math.acos(float(np.clip(latent @ anchor / norm, -1, 1)))) if norm else math.nan
        found.append((float(np.linalg.norm(latent - anchor)), angle))
    return found


def debug(session: Session) -> Mapping[str, str]:
    """The last decode; a warning where its picture or its latent is flat."""
    last = last_decode(session.decoder)
    if last is None:
        return {"Last decode": "none yet"}
    frame = last.frame
    flat = last.flaw or ("latent is flat" if last.latent_std <= 1e-9 else "")
    return {
        "Last decode": f"{last.seconds:.3f} s",
        "Model": frame.model or NONE,
        "Event": last.retried or "decode",
        "Size": f"{frame.width} x {frame.height}",
        "Steps": str(frame.steps) if frame.steps else NONE,
        "Guidance in effect": f"{frame.guidance:.2f}",
        "Scheduler": frame.scheduler or NONE,
        "Latents": f"shape {last.shape}, mean {last.latent_mean:.4f}, std {last.latent_std:.4f}",
        "init_sigma": NONE if last.init_sigma is None else f"{last.init_sigma:.4f}",
        "Image": f"mean {last.image_mean:.1f}, std {last.image_std:.1f}, {last.image_min} to {last.image_max}",
        "Warning": f"The last picture is {flat}." if flat else "",
    }


def environment(session: Session) -> dict[str, str]:
    """Versions, device and files of the session."""
    import platform

    from diptych import __version__

    frame = session.frame
    return {
        "diptych": __version__,
        "Python": platform.python_version(),
        **dict(frame.versions),
        "Device": " ".join(filter(None, (frame.device, frame.dtype))) or "cpu",
        "Folder": session.ledger.folder.name,
        "Journal": session.ledger.journal,
    }
