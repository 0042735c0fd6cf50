"""Number of probe modes by evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.flags.base import MODES, by_kind, faults
from diptych.ptycho.engines.modes import ModesFound
from diptych.ptycho.engines.options import ReconstructionOptions


def scan_of(modes: int) -> diptych.Scan:
    """A scan made with some modes; the solver is given the first one."""
    scan = diptych.simulate(object="blocks", size=32, patterns=64, step=4.0, dose=1e5, modes=modes, seed=1)
    assert scan.probe is not None
    return replace(scan, probe=scan.probe[:1], true_probe=None)


def test_the_option_takes_a_number_or_auto() -> None:
    assert ReconstructionOptions().first_modes is None
    assert ReconstructionOptions(modes="auto").first_modes is None
    assert ReconstructionOptions(modes=3).first_modes == 3
    for wrong in (0, 33, "some"):
        with pytest.raises(InputError):
            ReconstructionOptions.build({"modes": wrong})


def test_the_note_tells_the_evidence_and_is_no_fault() -> None:
    note = ModesFound(1, 3, 2.0, 1.38).flag()
    assert note.startswith(f"{MODES}: 1 -> 3: held-out deviance -31 %")
    assert list(by_kind([note])) == [MODES]
    assert faults([note]) == ()


@pytest.mark.integration
def test_modes_are_added_where_the_beam_has_them_and_nothing_changes_where_not() -> None:
    mixed = scan_of(3)
    alone, found = diptych.reconstruct(mixed), diptych.reconstruct(mixed, modes="auto")
    assert len(alone.probe) == 1
    assert 2 <= len(found.probe) <= 8
    assert found.provenance["modes"]["modes"] == len(found.probe)
    assert found.provenance["held_out_fit"] < 0.95 * alone.provenance["held_out_fit"]
    assert MODES in by_kind(found.flags)
    assert len({len(column) for column in found.history.values()}) == 1
    assert found.history["epoch"] == [float(n + 1) for n in range(len(found.history["epoch"]))]
    assert (np.diff(found.history["seconds"]) >= 0).all()
    clean = scan_of(1)
    before, after = diptych.reconstruct(clean), diptych.reconstruct(clean, modes="auto")
    np.testing.assert_array_equal(after.object.values, before.object.values)
    np.testing.assert_array_equal(after.probe, before.probe)
