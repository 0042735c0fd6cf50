"""The preference panel for the person at the terminal: undo, showing again, settings to take away, full disks."""

from __future__ import annotations

import ast
import io
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import diptych
from diptych.cli.prefer.status import drop_what_was_typed
from diptych.errors import UnavailableError
from diptych.prefer import Judgement, Ledger, Session
from diptych.prefer.judgement import Candidate, Frame
from diptych.prefer.ledger.store import NAME

Cli = Callable[..., Any]

D = 256


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))


def live(folder: str) -> list[Judgement]:
    with Ledger.open(folder, read_only=True) as ledger:
        return [said.judgement for said in ledger.judgements()]


@pytest.fixture
def scan() -> str:
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, dose=1e3, seed=0), "scan.npz")
    return "scan.npz"


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, without the log and what SQLite keeps beside an open database."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in files if path.name not in ("session.log", f"{NAME}-shm", f"{NAME}-wal")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in kept}


# answers


def test_a_question_mark_lists_the_answers_and_stores_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "?", "help", "q")
    done = cli("prefer", "label", "s", "--dimension", D, "--prompt", "a lake")
    assert done.out.count("t12: images 1 and 2 are equally good") == 3  # once at the start
    assert live("s") == []


def test_an_answer_is_undone_as_a_whole_and_its_screen_is_shown_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "g", "u", "2", "q")
    done = cli("prefer", "label", "s", "--dimension", D, "--prompt", "a lake")
    assert "taken back: 4 judgements of screen 1" in done.out
    (said,) = live("s")
    assert (said.kind, said.ids[0]) == ("best", "000001-1")


def test_a_screen_whose_two_answers_are_undone_comes_again_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1", "a", "b2", "u", "u", "g1 b2", "g1", "q")
    cli("prefer", "label", "s", "--dimension", D, "--batch", 2, "--prompt", "a lake")
    assert [one.ids[0] for one in live("s")] == ["000001-0", "000001-1", "000002-0"]


def test_undo_takes_back_own_answers_before_those_of_others(tmp_path: Path) -> None:
    home = tmp_path / "s"
    with Session.open(home, decoder="synthetic", dimension=D, prompt="a") as first, Session.open(home) as second:
        one, other = first.ask(2), second.ask(2)
        first.tell(Judgement.rate(one[0], True), Judgement.rate(one[1], False))
        second.tell(Judgement.rate(other[0], True))
        undone = first.take_back()
        assert (undone.ids, undone.whose) == ((one[0].id, one[1].id), "")
        theirs = first.take_back()
        assert theirs.ids == (other[0].id,)
        assert "session" in theirs.whose
        assert first.rows == 0


def test_undo_names_an_earlier_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1", "q")
    cli("prefer", "label", "s", "--dimension", D, "--batch", 2, "--prompt", "a lake")
    answer(monkeypatch, "u", "q")
    assert (
        "taken back: 1 judgement of screen 1. From an earlier run of this session, at 2"
        in cli("prefer", "label", "s").out
    )
    assert live("s") == []


def test_what_was_typed_before_a_screen_was_shown_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        os.write(leader, b"g1\n")
        select.select([terminal], [], [], 10)
        drop_what_was_typed()
        os.write(leader, b"b2\n")
        assert terminal.readline() == "b2\n"
    os.close(leader)


def test_ties_weights_and_images_shown_again_have_answers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "t12*2 g3*0.5", "a", "g1", "s*2", "t11", "a 000001-2", "b", "q")
    done = cli("prefer", "label", "s", "--dimension", D, "--batch", 3, "--prompt", "a lake")
    assert [(one.kind, one.ids, one.value, one.weight) for one in live("s")] == [
        ("tie", ("000001-0", "000001-1"), 0, 2.0),
        ("rate", ("000001-2",), 1, 0.5),
        ("rate", ("000001-0",), 1, 1.0),
        ("rate", ("000001-2",), 0, 1.0),
    ]
    assert "a skip has no weight" in done.out
    assert "'t11': does not name two different images; expected t12" in done.out
    assert Path("s/screen.png").is_file()


def test_a_shows_the_last_screen_of_an_earlier_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "a", "g1", "g1", "q")
    done = cli("prefer", "label", "s", "--dimension", D, "--batch", 2, "--prompt", "a lake")
    assert "'a': no other screen of this prompt and model is judged" in done.out
    answer(monkeypatch, "a", "a", "q")
    out = cli("prefer", "label", "s").out
    assert re.findall(r"^(screen \d+)", out, re.MULTILINE) == ["screen 3", "screen 2", "screen 3"]


@pytest.mark.parametrize(
    ("batch", "line", "why"),
    [
        (1, "t", "'t': the screen has one image, and a tie needs two; expected g, b, s, or 1 to 5 stars"),
        (1, "6", "'6': one image has stars; expected 1 to 5"),
        (4, "t", "'t': does not say which two of the 4 images; expected t12"),
    ],
)
def test_an_answer_that_this_screen_cannot_have_is_told_what_it_can(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, batch: int, line: str, why: str
) -> None:
    answer(monkeypatch, line, "q")
    assert why in cli("prefer", "label", "s", "--dimension", D, "--batch", batch, "--prompt", "a lake").out
    assert live("s") == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("g2 b2", "judges image 2 twice"),
        ("b g2", "judges image 2 twice"),
        ("1 2", "names 2 images as the best"),
        ("3 t13", "image 3 is the best, and as good as another"),
    ],
)
def test_a_line_that_contradicts_itself_is_refused(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, line: str, why: str
) -> None:
    answer(monkeypatch, line, "q")
    done = cli("prefer", "label", "s", "--dimension", D, "--batch", 3, "--prompt", "a lake")
    assert why in done.out
    assert live("s") == []


def test_answers_before_q_on_the_same_line_are_stored(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "1 b3 q", "g1")
    cli("prefer", "label", "s", "--dimension", D, "--batch", 3, "--prompt", "a lake")
    assert [(one.kind, one.ids[0]) for one in live("s")] == [("best", "000001-0"), ("rate", "000001-2")]


def test_a_screen_shown_again_is_left_without_an_answer(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """a shows the screen before, after undoing as well, and a once more returns to the one that waits."""
    answer(monkeypatch, "g1", "g1", "u", "a", "a", "g2", "q")
    cli("prefer", "label", "s", "--dimension", D, "--batch", 2, "--prompt", "a lake")
    assert [one.ids for one in live("s")] == [("000001-0",), ("000002-1",)]
    answer(monkeypatch, "a 000001-0", "a 000002-0", "a", "b1", "q")
    done = cli("prefer", "label", "s")
    new = re.findall(r"^1  image (\S+)", done.out, re.MULTILINE)
    assert new[1:4] == ["000001-0", "000002-0", new[0]]
    assert live("s")[-1].ids == (new[0],)


def test_a_number_of_a_screen_names_the_screen_that_was_printed_with_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Showing screens again, and judging them again, uses up no number."""
    answer(monkeypatch, "g1", "a", "a", "a", "b1", "g1", "a screen 3", "a", "g1", "a screen 9", "a screen x", "q")
    done = cli("prefer", "label", "s", "--dimension", D, "--batch", 2, "--prompt", "a lake")
    new = re.findall(r"^screen (\d+)$", done.out, re.MULTILINE)
    assert new == ["1", "2", "3", "4"]
    shown = re.findall(r"^screen (\d+).*\n1  image (\d+)-0", done.out, re.MULTILINE)
    assert all(int(number) == int(image) for number, image in shown)
    assert "screen 3 again" in done.out
    assert re.search(r"a screen 9: was not shown in this session; expected a number from 1 to \d\.", done.out)
    answer(monkeypatch, "a screen 2", "q")
    assert "\nscreen 2 again\n1  image 000002-0" in cli("prefer", "label", "s").out


def test_an_image_that_cannot_be_read_starts_no_session(cli: Cli) -> None:
    for name in ("upload", "match"):
        assert cli("prefer", name, "s", "--image", "absent.png", "--dimension", D).code == 2
    assert not Path("s").exists()


def test_images_of_ones_own_have_verbs(cli: Cli) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)).save("own.png")
    assert cli("prefer", "upload", "s", "--image", "own.png", "--dimension", D, "--prompt", "a", "--json").json["id"]
    done = cli("prefer", "match", "s", "--image", "own.png", "--decodes", 30, "--json").json
    assert done["error_grey_levels"] < done["first_error_grey_levels"]
    assert Path(done["file"]).is_file()


# what there is to take away


def test_the_code_for_the_best_image_runs_as_it_is_printed(cli: Cli) -> None:
    folder = "a session whose name is long enough to be wrapped where a terminal has only eighty columns or a pipe"
    assert cli("prefer", "simulate", folder, "--dimension", D, "--labels", 12, "--prompt", "a").code == 0
    out = cli("prefer", "best", folder, "--out", f"{folder}.png").out
    code = out[out.index("from diptych") :]
    ast.parse(code)
    names: dict[str, Any] = {}
    exec(code, names)
    assert np.array_equal(names["image"], names["candidate"].image)


@pytest.mark.slow
def test_the_settings_of_the_best_reconstruction_are_yaml_for_reconstruct(
    cli: Cli, scan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "g1 b2", "q")
    args = ("--decoder", "reconstruction", "--scan", scan, "--batch", 2, "--threads", 1)
    labelled = cli("prefer", "label", "s", *args)
    assert "alpha=" in labelled.out
    out = cli("prefer", "best", "s", "--out", "best.png").out
    written = yaml.safe_load(Path("best.yaml").read_text(encoding="utf-8"))
    assert set(written) == {"likelihood", "epochs", "alpha", "step", "momentum"}
    assert yaml.safe_load(out[out.index("# best.yaml") :]) == written
    assert cli("reconstruct", scan, "--config", "best.yaml", "--run", "again").code == 0


def test_images_of_another_model_have_no_value(cli: Cli) -> None:
    for name, seed in (("s", 0), ("t", 1)):
        args = ("--dimension", D, "--labels", 8, "--prompt", f"a{seed}")
        assert cli("prefer", "simulate", name, *args).code == 0
        assert cli("prefer", "best", name, "--out", f"{name}.png").code == 0
    ours, theirs = cli("prefer", "score", "s", "--images", "s.png", "t.png", "--json").json["images"]
    assert ours["value"] is not None
    assert theirs["value"] is None
    assert "prompt 'a1', not 'a0'" in theirs["note"]


def test_simulated_judgements_are_kept_apart_from_those_of_a_person(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1 b2", "q")
    assert cli("prefer", "label", "s", "--dimension", D, "--prompt", "a").code == 0
    refused = cli("prefer", "simulate", "s", "--labels", 4)
    assert refused.code == 2
    assert "--add" in refused.err
    assert cli("prefer", "simulate", "s", "--labels", 4, "--add").code == 0
    with Ledger.open("s") as ledger:
        assert [said.source for said in ledger.judgements()] == ["", "", *["simulated"] * 4]


# disks, silence, logs


def test_reading_verbs_write_nothing(cli: Cli) -> None:
    assert cli("prefer", "simulate", "s", "--dimension", D, "--labels", 12, "--prompt", "a").code == 0
    before = contents(Path("s"))
    calls = (("score",), ("best", "--out", "b.png"), ("rows", "--seconds", 0), ("export", "--out", "rows"), ("train",))
    for verb, *more in calls:
        extra = ("--value-model", "ridge") if verb == "train" else ()
        assert cli("prefer", verb, "s", *more, *extra).code == 0, verb
    assert cli("prefer", "sessions", ".").code == 0
    assert contents(Path("s")) == before


def test_a_session_whose_log_cannot_be_written_is_read(cli: Cli) -> None:
    """A folder takes the name of the log, which then cannot be opened, as on a read-only or full disk."""
    assert cli("prefer", "simulate", "s", "--dimension", D, "--labels", 12, "--prompt", "a").code == 0
    Path("s/session.log").unlink()
    Path("s/session.log").mkdir()
    for verb, *more in (("score",), ("best", "--out", "b.png"), ("rows", "--seconds", 0), ("export", "--out", "rows")):
        assert cli("prefer", verb, "s", *more).code == 0, verb


@pytest.mark.parametrize("log", ["empty", "with entries"])
def test_a_ledger_is_read_where_nothing_can_be_written(log: str, tmp_path: Path) -> None:
    """SQLite cannot make its index (ledger.sqlite-shm), whose name leads nowhere, as on a read-only disk."""
    source, copy = tmp_path / "a", tmp_path / "b"
    ledger = Ledger.open(source)
    shown = ledger.show([Candidate(np.ones(4, np.float32), Frame("a"))])
    ledger.judge(Judgement.rate(shown[0], True))
    if log == "empty":
        ledger.close()
    copy.mkdir()
    for path in source.iterdir():
        if path.is_file() and not path.name.endswith("-shm"):
            (copy / path.name).write_bytes(path.read_bytes())
    ledger.close()
    (copy / f"{NAME}-shm").symlink_to(copy / "absent" / "index")
    with Ledger.open(copy, read_only=True) as read:
        assert read.rows == 1
        with pytest.raises(UnavailableError, match="reading only"):
            read.judge(Judgement.rate("000001-0", True))


@pytest.mark.slow
def test_ctrl_c_ends_a_long_reconstruction_at_once(cli: Cli) -> None:
    # One of its reconstructions takes a minute.
    big = diptych.simulate(object="blocks", size=64, patterns=1600, step=3.0, dose=1e5, probe_error=0.5, seed=0)
    diptych.save(big, "big.npz")
    program = "from diptych.cli import main; main()"
    args = ["prefer", "label", "s", "--decoder", "reconstruction", "--scan", "big.npz", "--threads", "1"]
    log = Path("s/session.log")
    with subprocess.Popen(
        [sys.executable, "-c", program, *args], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        while not (log.exists() and "[pipe] reconstruct" in log.read_text(encoding="utf-8")):
            assert child.poll() is None, "ended before the first reconstruction was begun"
            time.sleep(0.1)
        time.sleep(2)
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        try:
            assert child.wait(30) == 130
        finally:
            child.kill()
    assert time.monotonic() - began < 10


def test_lines_that_users_of_row_folders_look_for_are_in_the_log(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1 b2", "b", "q")
    assert cli("prefer", "label", "s", "--dimension", D, "--prompt", "a", "--utility", "ridge").code == 0
    log = Path("s/session.log").read_text(encoding="utf-8")
    assert "[data] saved sample #3 label=-1 rows_disk=2 rows_live=2" in log
    for line in ("[batch]", "[ridge] fit rows=", "[train-summary] ridge rows=2 lam=", "[perf]", "[scorer]"):
        assert line in log, line


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        (
            ("--dimension", D, "--batch", 1, "--utility", "xgboost"),
            ("[queue]", "[xgb] fit rows=", "[train-summary] xgb"),
        ),
        pytest.param(
            ("--decoder", "reconstruction", "--scan", "scan.npz"),
            ("[pipe] reconstruct likelihood=poisson epochs=",),
            marks=pytest.mark.integration,
        ),
    ],
)
def test_each_way_to_judge_has_its_lines_in_the_log(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, flags: tuple[Any, ...], lines: tuple[str, ...]
) -> None:
    if "xgboost" in flags:
        pytest.importorskip("xgboost")
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, dose=1e4, seed=0), "scan.npz")
    answer(monkeypatch, "g", "b", "q")
    assert cli("prefer", "label", "s", "--prompt", "a", *flags).code == 0
    log = Path("s/session.log").read_text(encoding="utf-8")
    for line in ("[batch]", *lines):
        assert line in log, line


def test_options_without_effect_are_not_offered(cli: Cli) -> None:
    for verb in ("sanity", "serve-decoder", "rows"):
        page = cli("prefer", verb, "--help").out
        assert "--queue" not in page
        assert "--proposal" not in page
    assert "--steps" in cli("prefer", "sanity", "--help").out


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_a_hub_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.prefer.decoders.loading import refuse_unreachable

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="cannot be reached"):
        refuse_unreachable("some/model")
    assert time.monotonic() - began < 10
