"""Messages of errors: their parts, and their length."""

from __future__ import annotations

import copy

from diptych.errors import LONGEST, IncompleteError, InputError


def test_what_a_file_holds_is_shortened_in_the_message_and_kept_in_the_part() -> None:
    unit = "begin" + 50_000 * "m" + "end"
    error = IncompleteError("scan.h5", f"the unit is {unit}", "a length", "Pass --scan-step.")
    text = str(error)
    assert error.found == f"the unit is {unit}"
    assert len(text) < 2 * LONGEST
    assert text.startswith("scan.h5: the unit is beginmmm")
    assert text.endswith("mmmend; expected a length. Pass --scan-step.")
    assert len(str(InputError(unit))) < 4 * LONGEST


def test_a_copied_error_is_the_same() -> None:
    error = IncompleteError("scan.h5", "found", "expected", "Remedy.")
    other = copy.copy(error)
    assert type(other) is IncompleteError
    assert (str(other), other.remedy) == (str(error), "Remedy.")
