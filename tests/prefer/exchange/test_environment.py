"""Environment variables of the earlier program."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.errors import InputError
from diptych.prefer.exchange import environment


def test_variables_are_read_and_empty_ones_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (environment.DATA_ROOT, environment.LOG_LEVEL, environment.LOCAL_MODEL, *environment.SANITY_OPTIONS):
        monkeypatch.delenv(name, raising=False)
    assert (environment.data_root(), environment.log_level(), environment.local_model()) == (
        Path("data"),
        "WARNING",
        None,
    )
    assert environment.sanity_options("diffusion") == {}
    monkeypatch.setenv("IPO_DATA_ROOT", "elsewhere")
    monkeypatch.setenv("SANITY_PROMPT", "a lake")
    monkeypatch.setenv("SANITY_W", "64")
    monkeypatch.setenv("SANITY_H", "")
    assert environment.data_root() == Path("elsewhere")
    assert environment.sanity_options("diffusion") == {"prompt": "a lake", "width": "64"}
    assert environment.sanity_options("synthetic") == {"prompt": "a lake"}


def test_a_threshold_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(environment.SANITY_MIN_STD, raising=False)
    assert environment.sanity_threshold(30.0) == 30
    monkeypatch.setenv(environment.SANITY_MIN_STD, "12.5")
    assert environment.sanity_threshold(30.0) == 12.5
    monkeypatch.setenv(environment.SANITY_MIN_STD, "much")
    with pytest.raises(InputError, match="SANITY_MIN_STD: is 'much'; expected a number"):
        environment.sanity_threshold(30.0)
