"""Number of probe modes by evidence: trials on part of a scan, and whole reconstructions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.flags.base import MODES, POINT_SPREAD, by_kind, faults
from diptych.ptycho.engines.flags.evidence import Evidence
from diptych.ptycho.engines.flags.readings import AS_GIVEN
from diptych.ptycho.engines.flags.trials import Verdict
from diptych.ptycho.engines.modes import trials
from diptych.ptycho.engines.modes.states import State
from diptych.ptycho.engines.modes.trials import Grown, ModesFound, grow_modes
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.problem import make_problem


def scan_of(modes: int, error: float = 0.0, patterns: int = 64) -> diptych.Scan:
    """A scan made with some modes, the solver being given the first one, and with wrong positions."""
    scan = diptych.simulate(object="blocks", size=32, patterns=patterns, step=4.0, dose=1e5, modes=modes, seed=1)
    assert scan.probe is not None
    wrong = scan.positions + np.random.default_rng(5).normal(0, error / np.sqrt(2), scan.positions.shape)
    return replace(scan, probe=scan.probe[:1], true_probe=None, positions=wrong if error else scan.positions)


def grown(scan: diptych.Scan, start: diptych.Reconstruction, *, alike: bool = False, movable: bool = True) -> Grown:
    """The trials, from a result of the scan."""
    with torch.no_grad():
        problem = make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.01, seed=0)
        image, probe = (torch.from_numpy(a.copy()) for a in (start.object.values, start.probe))
        nothing = Evidence(1, 1.0, 1, 1, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0)
        verdict = Verdict(AS_GIVEN, True, True, nothing, alike)
        return grow_modes(scan, problem, image, probe, lambda: verdict, movable)


def coherent(scan: diptych.Scan) -> diptych.Reconstruction:
    """A result with one mode, at the recorded positions."""
    return diptych.reconstruct(scan, modes=1, correct_positions="off", epochs=25)


def test_the_option_takes_a_number_or_auto() -> None:
    assert ReconstructionOptions().modes == "auto"
    assert ReconstructionOptions().first_modes is None
    assert ReconstructionOptions(modes=3).first_modes == 3
    for wrong in (0, 33, "some"):
        with pytest.raises(InputError):
            ReconstructionOptions.build({"modes": wrong})


def test_the_note_tells_the_evidence_and_is_no_fault() -> None:
    note = ModesFound(1, 3, 2.0, 1.38).flag()
    assert note.startswith(f"{MODES}: 1 -> 3: held-out deviance -31 %")
    assert list(by_kind([note])) == [MODES]
    assert faults([note]) == ()


def test_modes_grow_where_the_beam_has_them_unless_another_reading_may_be_right() -> None:
    scan = scan_of(2, patterns=36)
    start = coherent(scan)
    found = grown(scan, start)
    assert found.state is not None
    assert found.found is not None
    assert 2 <= len(found.state.probe) == found.found.modes <= 3
    assert found.found.fit - 1 < 0.6 * (found.found.fit_before - 1)
    assert grown(scan, start, alike=True) == Grown()


@pytest.mark.integration
def test_no_modes_are_added_where_refined_positions_explain_the_patterns_better() -> None:
    scan = scan_of(1, error=0.7, patterns=36)
    assert grown(scan, coherent(scan)).state is None


@pytest.mark.integration
def test_modes_are_added_where_the_beam_has_them_and_nothing_changes_where_not() -> None:
    mixed = scan_of(3)
    alone, found = diptych.reconstruct(mixed, modes=1, correct_positions="off"), diptych.reconstruct(mixed)
    assert len(alone.probe) == 1
    assert 2 <= len(found.probe) <= 8
    assert found.provenance["modes"]["modes"] == len(found.probe)
    assert found.provenance["held_out_fit"] < 0.95 * alone.provenance["held_out_fit"]
    assert MODES in by_kind(found.flags)
    assert found.recorded_positions is None, "positions were right"
    clean = scan_of(1)
    before, after = diptych.reconstruct(clean, modes=1), diptych.reconstruct(clean)
    np.testing.assert_array_equal(after.object.values, before.object.values)
    np.testing.assert_array_equal(after.probe, before.probe)


class Stops:
    """Asks for a stop after some epochs."""

    def __init__(self, after: int) -> None:
        self.left = after

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.integration
def test_a_run_that_is_interrupted_after_modes_were_added_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    scan, checkpoint = scan_of(2, patterns=36), tmp_path / "checkpoint.npz"
    whole = diptych.reconstruct(scan, epochs=220, stop=False)
    assert len(whole.probe) > 1
    stages = whole.history["stage"]
    added = next(i for i, stage in enumerate(stages) if stage == 2.0 and 3.0 in stages[:i])
    for after in (added + 3, added + 9):
        checkpoint.unlink(missing_ok=True)
        with pytest.raises(KeyboardInterrupt):
            diptych.reconstruct(scan, epochs=220, stop=False, checkpoint=checkpoint, cancel=Stops(after))
        again = diptych.reconstruct(scan, epochs=220, stop=False, checkpoint=checkpoint, resume=True)
        np.testing.assert_array_equal(again.object.values, whole.object.values)
        np.testing.assert_array_equal(again.probe, whole.probe)
        assert again.provenance["modes"] == whole.provenance["modes"]


@pytest.mark.slow
def test_modes_and_a_beam_that_varies_are_found_together() -> None:
    """Each hides the other: the intensity explains a fifth of the misfit, and the modes most of the rest."""
    scan = scan_of(3, patterns=100)
    varying = np.random.default_rng(1).normal(1, 0.05, len(scan)).clip(0.3, 3)
    rng = np.random.default_rng(2)
    counts = rng.binomial(np.rint(scan.counts).astype(int), (varying / varying.max())[:, None, None])
    result = diptych.reconstruct(replace(scan, counts=counts.astype(np.float32), truth=None))
    assert len(result.probe) >= 3
    assert result.frame_factors is not None
    np.testing.assert_allclose(result.frame_factors, varying / varying.mean(), rtol=0.03)


@pytest.mark.parametrize(("freed", "first"), [(1.5, True), (1.9, True), (2.4, False)])
def test_positions_that_explain_half_as_much_go_before_a_blur(
    monkeypatch: pytest.MonkeyPatch, freed: float, first: bool
) -> None:
    """Without anything the held-out fit is 2.5, with a blur 1.6, and with two modes 2.2."""
    here = State(torch.ones(4, 4), torch.ones(1, 2, 2), None, None, 2.5)
    there = here._replace(fit=1.6)
    monkeypatch.setattr(trials, "promise", lambda *_: 1.6)
    monkeypatch.setattr(trials, "fitted", lambda *_: there)
    monkeypatch.setattr(trials, "_freed", lambda *_: freed)
    found = trials._with_extras(None, here, [POINT_SPREAD], 2.2, True, None)  # type: ignore[arg-type]
    assert found.moved is first
    assert (found.state is there) is not first
