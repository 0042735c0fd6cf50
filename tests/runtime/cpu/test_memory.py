"""What the system says of its memory, and what is made of it where it says little."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diptych.runtime.cpu import memory


@pytest.mark.parametrize(
    ("meminfo", "limit", "expected"),
    [
        ("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n", "max\n", 4000 * 1024),
        ("MemAvailable:    4000 kB\n", "1024\n", 1024),
        ("MemAvailable:    4000 kB\n", "99999999999\n", 4000 * 1024),
        ("MemTotal: 9000 kB\n", "2048\n", 2048),
        ("MemAvailable: lots\n", None, None),
        (None, None, None),
    ],
)
def test_the_smaller_of_what_is_available_and_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meminfo: str | None, limit: str | None, expected: int | None
) -> None:
    for name, text in (("_MEMINFO", meminfo), ("_CGROUP_LIMIT", limit)):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(memory, name, path)
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.available_memory() == (installed if expected is None else expected)


def test_a_system_that_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "absent")
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", tmp_path / "absent")
    monkeypatch.delattr(os, "sysconf")
    assert memory.available_memory() is None
