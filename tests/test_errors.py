"""Messages of errors: their parts, and their length."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path

import diptych
from diptych.errors import LONGEST, IncompleteError, InputError, to_type


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


def test_a_command_at_the_end_of_a_message_stands_alone_on_its_line() -> None:
    remedy = to_type("To see its tree", "diptych info FILE")
    assert str(InputError("a.h5", "holds x", "a scan", remedy)).splitlines() == [
        "a.h5: holds x; expected a scan. To see its tree:",
        "  diptych info FILE",
    ]


def test_commands_with_arguments_begin_their_own_string_so_that_to_type_sets_them_apart() -> None:
    """In a sentence, a command would be copied with what stands behind it."""
    command = re.compile(r"(?<![\w/.-])diptych (?:prefer )?[a-z-]+ (?:[A-Z{]|--)")
    found = []
    for path in sorted(Path(diptych.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            text = ""
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | texts:
                text = node.value
            if (match := command.search(text)) is not None and text[: match.start()].strip("# "):
                found.append(f"{path.name}:{node.lineno}: {text}")
    assert not found


def test_messages_give_the_output_of_prepare_as_its_second_argument() -> None:
    for path in Path(diptych.__file__).parent.rglob("*.py"):
        assert not re.search(r"diptych prepare [^\"]*--out\b", path.read_text(encoding="utf-8")), path
