"""The tiny pipeline, made once; tests that take it skip where diffusers is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("diffusers", "transformers"):
        pytest.importorskip(package, reason=f"{package} is not installed (pip install 'diptych[prefer]')")
    from diptych.prefer.decoders.tiny import make_tiny_pipeline

    return make_tiny_pipeline(tmp_path_factory.mktemp("pipelines") / "tiny")
