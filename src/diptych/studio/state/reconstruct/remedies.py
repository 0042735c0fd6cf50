"""What can be done about what was noticed in a scan: each remedy is a button."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any

from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions

_STATED = re.compile(r"\((\w+)=('[\w-]+'|True|False)\)")


@dataclass(frozen=True)
class Remedy:
    """Changes of options that answer a note.

    Parameters
    ----------
    label : str
        Text of the button.
    load, options : dict
        Changes of how the scan is read, and of how it is reconstructed.
    """

    label: str
    load: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def remedies_for(note: str) -> list[Remedy]:
    """The remedies for a note of ``describe``; empty where only a person can judge.

    A note states the option that answers it, as in ``(domain='amplitude')``.
    """
    found = []
    for name, text in _STATED.findall(note):
        value = ast.literal_eval(text)
        label = f"{name.replace('_', ' ')}: {'yes' if value is True else 'no' if value is False else value}"
        if name in LoadOptions.model_fields:
            found.append(Remedy(f"Read with {label}", load={name: value}))
        elif name in ReconstructionOptions.model_fields:
            found.append(Remedy(f"Reconstruct with {label}", options={name: value}))
    if "no probe to start from" in note:
        found.append(Remedy("Estimate the probe", options={"probe": "estimate"}))
    if re.search(r"(hot|stuck|dead) pixels|are zero in all frames, beside", note):
        found.append(Remedy("Mask these pixels", options={"auto_mask": True}))
    return found


def reading_remedy(row: dict[str, Any]) -> Remedy | None:
    """The remedy that a row of ``check`` stands for; None where no option makes that reading."""
    changes = row.get("options")
    return Remedy(f"Read with '{row['reading']}'", load=dict(changes)) if changes else None
