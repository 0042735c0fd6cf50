"""Where messages go, and that nothing stays behind."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import pytest

from diptych.cli.console import progress_bars, silent
from diptych.runtime.logging import LOGGER, log_file, logged, warnings_on_stderr
from diptych.runtime.progress import Progress


def test_the_log_file_has_utc_times_and_each_progress_report(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with log_file(tmp_path / "log.txt") as log:
        log.info("start")
        logged(seen.append)(Progress("ml", 3, 200, {"fit": 1.0625}))
    first, second = (tmp_path / "log.txt").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO start", first)
    assert second.endswith("INFO ml 3/200 fit=1.0625")
    assert seen == [Progress("ml", 3, 200, {"fit": 1.0625})]


def test_warnings_reach_the_person_and_the_log_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings_on_stderr(), log_file(tmp_path / "log.txt"), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("the probe is dim", stacklevel=1)
        LOGGER.warning("fit stays above 3")
        LOGGER.info("not for the terminal")
    assert capsys.readouterr().err.splitlines() == ["warning: the probe is dim", "warning: fit stays above 3"]
    text = (tmp_path / "log.txt").read_text()
    assert "the probe is dim" in text
    assert "not for the terminal" in text


def test_handlers_and_levels_are_as_before(tmp_path: Path) -> None:
    before = (list(LOGGER.handlers), LOGGER.level, warnings.showwarning)
    with pytest.raises(RuntimeError), warnings_on_stderr(), log_file(tmp_path / "log.txt"):
        raise RuntimeError
    assert (list(LOGGER.handlers), LOGGER.level, warnings.showwarning) == before


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        assert progress is silent
        progress(Progress("ml", 1, 2))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_per_stage_with_its_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_bars() as progress:
        progress(Progress("download", 3, 0))
        progress(Progress("ml", 5, 10, {"fit": 1.25}))
        progress(Progress("check: as given", 1, 16))
        progress(Progress("check: transposed", 2, 16))
    out, err = capsys.readouterr()
    assert out == ""
    assert "download" in err
    assert "5/10" in err
    assert "fit 1.25" in err
    last = err.split("download")[-1]
    assert "check: transposed" in last
    assert "as given" not in last
