"""``diptych batch`` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diptych
from diptych.cli.batch import split
from diptych.errors import InputError

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (("a.h5",), (["a.h5"], "reconstruct", [])),
        (("a.h5", "b.h5", "info"), (["a.h5", "b.h5"], "info", [])),
        (("a.h5", "train", "--epochs", "3"), (["a.h5"], "train", ["--epochs", "3"])),
        (("a.h5", "--engine", "rpie"), (["a.h5"], "reconstruct", ["--engine", "rpie"])),
    ],
)
def test_patterns_verb_and_arguments(items: tuple[str, ...], expected: tuple[Any, ...]) -> None:
    assert split(items) == expected


def test_no_file_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no file is named"):
        split(("reconstruct",))


def test_exit_codes_and_json(cli: Cli) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=16, step=2.0, dose=1e4, seed=0)
    diptych.save(scan, "scan.npz")
    done = cli("batch", "scan.npz", "info", "--out", "b", "--json", "--", "--domain", "counts")
    assert (done.code, done.json["done"], done.json["failed"]) == (0, 1, {})
    Path("broken.npz").write_bytes(b"no file")
    failed = cli("batch", "*.npz", "info", "--out", "b")
    assert failed.code == 1
    assert "broken.npz" in failed.out
    assert "1 of 2 files failed" in failed.err
    wrong = cli("batch", "scan.npz", "--out", "b", "--scheduler", "dask://elsewhere:1")
    assert (wrong.code, "encrypted" in wrong.err) == (2, True)


def test_a_misspelt_verb_lists_the_verbs() -> None:
    with pytest.raises(InputError, match=r"neither a file nor a verb; .*reconstruct"):
        split(("scans/*.h5", "reconstrct", "--", "--epochs", "3"))
