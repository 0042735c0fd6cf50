"""What can be done about what was noticed in a scan: each remedy is a button."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions

_STATED = re.compile(r"\b([a-z_]+)=('[\w-]+'|True|False|-?\d+)")
_FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)")
_FRAMES = re.compile(r"\d+ frames (?:at positions|without photons|with )[^:]*: (.+?)\.?$")
_CENTRE = re.compile(r"centre of mass lies (-?[\d.]+), (-?[\d.]+) px")


@dataclass(frozen=True)
class Remedy:
    """Changes of options that answer a note.

    Parameters
    ----------
    label : str
        Text of the button.
    load, options : dict
        Changes of how the scan is read, and of how it is reconstructed.
    ask : str
        An option of reading whose value only the person knows: the button leads to its field.
    """

    label: str
    load: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    ask: str = ""


CHECK = Remedy("Run check")
"""Tries readings of the scan, and ranks them."""


def remedies_for(note: str, load: Mapping[str, Any] | None = None) -> list[Remedy]:
    """The remedies for a note of ``describe``; empty where only another measurement helps.

    A note states the option that answers it, as in ``(domain='amplitude')`` or ``(--scale, photons per count)``.

    Parameters
    ----------
    note : str
    load : mapping, optional
        How the scan was read when this was noticed.
    """
    found = [*_stated(note), *_frames(note), *_pixels(note)]
    if centre := _CENTRE.search(note):
        y, x = (-round(float(value)) for value in centre.groups())
        before = load or {}
        moves = {"move_y": before.get("move_y", 0) + y, "move_x": before.get("move_x", 0) + x}
        found += [Remedy(f"Move the patterns by {y}, {x} px", load=moves), CHECK]
    if "probe's energy lies at the corners" in note:
        found.append(Remedy("Estimate the probe", options={"probe": "estimate"}))
    if "repeat an earlier one" in note:
        found.append(CHECK)
    return list({remedy.label: remedy for remedy in found}.values())


def _stated(note: str) -> Iterator[Remedy]:
    """Remedies from the options that a note states with their values, or, without a value, by their flags."""
    stated = set()
    for name, text in _STATED.findall(note):
        value = ast.literal_eval(text)
        label = f"{name.replace('_', ' ')}: {'yes' if value is True else 'no' if value is False else value}"
        stated.add(name)
        if name == "probe" and value == "estimate":
            yield Remedy("Estimate the probe", options={"probe": "estimate"})
        elif name in LoadOptions.model_fields:
            yield Remedy(f"Read with {label}", load={name: value})
        elif name in ReconstructionOptions.model_fields:
            yield Remedy(f"Reconstruct with {label}", options={name: value})
    for flag in _FLAG.findall(note):
        name = flag.replace("-", "_")
        if name in LoadOptions.model_fields and name not in stated:
            yield Remedy(f"Set {name.replace('_', ' ')} ...", ask=name)


def _frames(note: str) -> Iterator[Remedy]:
    """Bad frames are left out, and events masked, unless they are kept."""
    found = _FRAMES.search(note)
    if found and re.fullmatch(r"[\d, -]+", found[1]):
        yield Remedy(f"Drop frames {found[1]}", options={"drop": found[1].replace(" ", "")})
    if found or "cosmic rays?" in note:
        yield Remedy("Keep them", options={"bad_frames": "keep"})


def _pixels(note: str) -> Iterator[Remedy]:
    if re.search(r"(hot|stuck|dead) pixels|are zero in all frames, beside", note):
        yield Remedy("Mask these pixels", options={"auto_mask": True})
    if "detector saturates" in note:
        yield Remedy("Mask saturated counts", options={"saturated": "auto"})
        yield Remedy("Use them as lower limits", options={"saturated": "limit"})


def reading_remedy(row: dict[str, Any]) -> Remedy | None:
    """The remedy that a row of ``check`` stands for; None where no option makes that reading."""
    changes = row.get("options")
    return Remedy(f"Read with '{row['reading']}'", load=dict(changes)) if changes else None
