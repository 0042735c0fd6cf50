"""The examples in the docstrings of the public functions and classes run and print what they say."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

import diptych
import diptych.prefer

PUBLIC: dict[str, Any] = {
    "diptych": diptych,
    **{f"diptych.{name}": getattr(diptych, name) for name in diptych.__all__},
    **{f"diptych.prefer.{name}": getattr(diptych.prefer, name) for name in diptych.prefer.__all__},
}
WITHOUT = {
    "diptych.DiptychError",
    "diptych.UnavailableError",
    "diptych.Model",
    "diptych.Reconstruction",
    "diptych.prefer.Candidate",
    "diptych.prefer.Frame",
    "diptych.prefer.Observations",
}
"""Classes that other objects' examples make or raise."""


def examples(name: str) -> list[doctest.DocTest]:
    # A module's own docstring alone; of a class, those of its methods too.
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=name != "diptych")
    found = finder.find(PUBLIC[name], name, module=False, globs={"diptych": diptych, "InputError": diptych.InputError})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - WITHOUT))
def test_examples_of_the_docstring_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tests = examples(name)
    assert tests, f"{name} has no example"
    printed: list[str] = []
    for test in tests:
        doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=printed.append)
    assert not printed, "".join(printed)
