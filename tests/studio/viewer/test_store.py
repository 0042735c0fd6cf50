from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.studio.components.viewer.images import image_of_values
from diptych.studio.components.viewer.source import ImageSource
from diptych.studio.components.viewer.store import ImageStore


def small(name: str) -> ImageSource:
    return image_of_values(np.ones((32, 32), np.complex64), name)


def test_a_file_keeps_its_key_until_it_changes(tmp_path: Path) -> None:
    store, path = ImageStore(), tmp_path / "a.bin"
    path.write_bytes(b"1")
    first = store.add_file(path, lambda given: small(given.name))
    assert store.add_file(path, lambda given: small(given.name)) == first
    assert store[first].name == "a.bin"
    path.write_bytes(b"22")
    assert store.add_file(path, lambda given: small(given.name)) != first
    with pytest.raises(InputError):
        store.add_file(tmp_path / "missing")


def test_images_beyond_the_limit_are_read_again() -> None:
    reads: list[str] = []

    def load(name: str) -> ImageSource:
        reads.append(name)
        return small(name)

    store = ImageStore(limit_bytes=small("x").nbytes)
    a, b = store.add("a", lambda: load("a")), store.add("b", lambda: load("b"))
    assert [store[key].name for key in (a, a, b, b, a)] == ["a", "a", "b", "b", "a"]
    assert reads == ["a", "b", "a"]


def test_unknown_keys_are_unknown() -> None:
    with pytest.raises(KeyError):
        ImageStore()["../../etc/passwd"]
