"""Damaged files of every format: each loads or is one clear error, in bounded memory, and nothing is written."""

from __future__ import annotations

import resource
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import diptych
from damaged_files import SAMPLES, STEP, damage
from diptych.errors import InputError, UnavailableError
from diptych.ptycho.describe import describe_file
from diptych.ptycho.io.exchange.conformance import validate
from diptych.ptycho.io.exchange.standards import StandardName
from diptych.ptycho.io.files import opened
from diptych.ptycho.io.formats import BUILTIN
from diptych.ptycho.io.layouts.template import template
from diptych.ptycho.io.positions.read import read_positions

QUICK, SLOW = 10, 200
MOST_BYTES = 200 * 2**20
POSITIONS_ONLY = {"mda", "spec", "panda", "nxstxm", "fold-slice-positions"}
JUDGED: dict[str, StandardName] = {"ptychodus": "product", "cxi": "cxi", "nxptycho": "nxptycho", "ptychodus-cxi": "cxi"}
"""What a file of a format is validated as."""
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")


def write_template(path: Path) -> None:
    with opened(path) as file:
        if file.source is not None:
            template(file.source, path)


def readers(name: str) -> list[Callable[[Path], Any]]:
    load: Callable[[Path], Any] = lambda path: diptych.load(path, **STEP.get(name, {}))  # noqa: E731
    judges = [lambda path: validate(path, JUDGED[name])] if name in JUDGED else []
    return [load, describe_file, lambda path: read_positions(str(path)), write_template, *judges]


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())


@contextmanager
def bounded(how: str, traced: bool) -> Iterator[None]:
    """Memory taken inside stays bounded: every allocation where it is traced, else what was used."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if traced:
        tracemalloc.start()
    try:
        yield
    finally:
        if traced:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert peak < MOST_BYTES, f"{how}: {peak / 2**20:.0f} MB"


def check(name: str, folder: Path, seed: int, traced: bool = False) -> None:
    for old in folder.iterdir():
        old.unlink()
    path = SAMPLES[name](folder)
    how = damage(path, np.random.default_rng(seed))
    before = listing(folder)
    first, *others = readers(name)
    for read in (first, *(others if traced else [others[seed % len(others)]])):
        with bounded(how, traced):
            try:
                read(path)
            except (InputError, UnavailableError) as error:
                message = str(error)
                assert 0 < len(message) < 4000, how
                assert path.stem.split("_")[0] in message, f"{how}: the file is not named in {message!r}"
            except Exception as error:
                pytest.fail(f"{name}, seed {seed}, {how}: {type(error).__name__}: {error}")
    assert listing(folder) == before, how


def test_every_format_has_a_sample() -> None:
    """Patterns that a product bundles are read by the reader of plain HDF5."""
    assert set(BUILTIN) - set(SAMPLES) == {"raw-data"}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sound_file_is_read(name: str, tmp_path: Path) -> None:
    path = SAMPLES[name](tmp_path)
    if name == "panda":
        with pytest.raises(InputError, match="--positions FILE:COLUMN_OF_Y,COLUMN_OF_X"):
            read_positions(str(path))
    elif name in POSITIONS_ONLY:
        assert len(read_positions(str(path)).y) == 9
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert diptych.load(path, **STEP.get(name, {})).name


@pytest.mark.parametrize("name", SAMPLES)
def test_damaged_files_do_no_harm(name: str, tmp_path: Path) -> None:
    for seed in range(QUICK):
        check(name, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=SLOW, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(seed=st.integers(QUICK, 2**32 - 1))
def test_many_damaged_files_do_no_harm(name: str, tmp_path: Path, seed: int) -> None:
    """A seed that fails says all there is to say: no smaller one is searched for."""
    check(name, tmp_path, seed, traced=True)
