"""``diptych prefer``: a group of verbs over sessions on the disk."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import diptych
from diptych.cli.prefer import VERBS
from diptych.prefer import Judgement, Ledger, Session
from diptych.prefer.exchange.pictures import load_picture
from diptych.prefer.options import SessionOptions
from diptych.prefer.session.folder import default_folder
from diptych.runtime.option_fields import Choices

Cli = Callable[..., Any]

D = 256

PROMPT = "a town in the rain"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("SANITY_", "IPO_", "FLUX_", "DIPTYCH_TOKEN")):
            monkeypatch.delenv(name)


@pytest.fixture
def session(cli: Cli) -> Path:
    """A session that a simulated person judged 16 times."""
    assert cli("prefer", "simulate", "s", "--dimension", D, "--labels", 16, "--prompt", PROMPT).code == 0
    return Path("s")


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))


def live(folder: Path) -> list[Judgement]:
    with Ledger.open(folder) as ledger:
        return [said.judgement for said in ledger.judgements()]


def test_every_verb_has_a_page_and_none_loads_anything_heavy() -> None:
    program = (
        "import sys\nfrom diptych.cli import run\n"
        f"for verb in {sorted(VERBS)!r}:\n    print('\\f' + verb)\n    assert run(['prefer', verb, '--help']) == 0\n"
        "heavy = {'torch', 'PIL', 'diffusers', 'sqlite3', 'matplotlib'} & set(sys.modules)\nassert not "
        "heavy, heavy\n"
    )
    environment = {**os.environ, "COLUMNS": "400"}
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    pages = {page.split("\n", 1)[0]: page for page in out.split("\f")[1:]}
    assert set(pages) == set(VERBS)
    for page in pages.values():
        assert "--json" in page
    for name, field in SessionOptions.model_fields.items():
        assert "--" + name.replace("_", "-") in pages["label"]
        assert "".join(field.description.split()) in "".join(pages["label"].split()).replace("│", "")


# simulate, score, best, rows, sessions


def test_a_simulated_person_is_understood(cli: Cli) -> None:
    done = cli("prefer", "simulate", "s", "--dimension", 1024, "--labels", 40, "--json")
    assert done.code == 0
    assert done.json["rows"] == 40
    assert done.json["recommended_sigma"] > 2.5
    again = cli("prefer", "simulate", "t", "--dimension", 1024, "--labels", 40, "--json")
    assert again.json["recommended_sigma"] == done.json["recommended_sigma"]


@pytest.mark.integration
def test_a_simulated_person_judges_reconstructions(cli: Cli) -> None:
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, dose=1e3, seed=0), "scan.npz")
    done = cli("prefer", "simulate", "s", "--decoder", "reconstruction", "--scan", "scan.npz", "--labels", 8, "--json")
    assert done.code == 0
    assert (done.json["rows"], done.json["dimension"], done.json["status"]) == (8, 6, "ok")
    assert abs(done.json["recommended_sigma"]) < 4
    refused = cli("prefer", "simulate", "t", "--decoder", "reconstruction", "--scan", "scan.npz", "--utility", "ridge")
    assert refused.code == 2
    assert "Choose 'surface'" in refused.err


def test_scores_are_honest_and_images_can_be_scored(cli: Cli, session: Path) -> None:
    assert cli("prefer", "best", session, "--out", "best.png").code == 0
    done = cli("prefer", "score", session, "--images", "best.png", "--cross-validate", "--json").json
    assert done["scorer"] == "contrastive (ok, rows=16)"
    assert done["left_out"]["total"] == done["train"]["total"] == 16
    assert done["cross_validation"]["agreement"]["total"] > 0
    assert done["images"][0]["value"] == pytest.approx(done["reach"], rel=0.05)
    assert "expected gain of 20 more labels" in cli("prefer", "score", session).out


def test_the_best_image_is_saved_with_what_makes_it_again(cli: Cli, session: Path) -> None:
    done = cli("prefer", "best", session, "--out", "best.png", "--json").json
    picture = load_picture("best.png")
    assert picture.frame.prompt == done["frame"]["prompt"] == PROMPT
    with Session.open(session) as opened:
        assert np.array_equal(opened.decode(picture.latent).image, picture.image)
    compile(done["snippet"], "snippet", "exec")
    assert cli("prefer", "best", session, "--out", "best.png").code == 2
    seen = cli("prefer", "best", session, "--out", "best.png", "--seen", "--overwrite", "--json").json
    assert seen["seen"]
    assert Ledger.open(session).candidate(seen["id"]).latent.tobytes() == load_picture("best.png").latent.tobytes()


@pytest.mark.integration
@pytest.mark.skipif(
    find_spec("diffusers") is None or find_spec("transformers") is None, reason="diffusers is not installed"
)
def test_diffusers_alone_makes_the_best_image_again(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("prefer", "make-tiny-pipeline", "tiny-turbo").code == 0
    assert cli("prefer", "sanity", "--model", "tiny-turbo", "--steps", 1, "--prompt", PROMPT).code == 0
    answer(monkeypatch, "g1 b2", "q")
    assert (
        cli(
            "prefer",
            "label",
            "s",
            "--decoder",
            "diffusion",
            "--model",
            "tiny-turbo",
            "--steps",
            2,
            "--batch",
            2,
            "--prompt",
            PROMPT,
        ).code
        == 0
    )
    done = cli("prefer", "best", "s", "--json").json
    names: dict[str, Any] = {}
    exec(done["snippet"], names)
    assert np.array_equal(np.asarray(names["image"]), load_picture("best.png").image)


def test_rows_are_those_on_the_disk(cli: Cli, session: Path) -> None:
    assert cli("prefer", "rows", session, "--seconds", 0).out == "[rows] live=16 disk=16 disp=16\n"
    with Ledger.open(session) as ledger:
        ledger.undo()
    done = cli("prefer", "rows", session, "--seconds", 0, "--json")
    assert done.json == {"session": "s", "rows": 15, "skips": 0}


@pytest.mark.integration
def test_rows_are_counted_once_a_second_until_told_to_stop(session: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from diptych.cli import main; main()", "prefer", "rows", str(session)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as monitor:
        assert monitor.stdout is not None
        assert "live=16" in monitor.stdout.readline()
        with Ledger.open(session) as ledger:
            ledger.undo()
        began = time.monotonic()
        assert "live=15" in monitor.stdout.readline()
        assert time.monotonic() - began < 5
        monitor.send_signal(signal.SIGINT)
        assert monitor.wait(10) == 130


def test_sessions_are_found_below_the_data_root(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IPO_DATA_ROOT", str(tmp_path / "data"))
    assert "holds no sessions" in cli("prefer", "sessions").out
    assert cli("prefer", "simulate", "--prompt", "a lake", "--dimension", D, "--labels", 2).code == 0
    found = cli("prefer", "sessions", "--json").json["sessions"]
    assert [(one["folder"], one["prompt"], one["rows"]) for one in found] == [
        (str(default_folder("a lake")), "a lake", 2)
    ]


# label


def test_answers_are_stored_as_they_are_given(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1 b2 s3", "", "x", "2", "b", "u", "s", "q")
    done = cli("prefer", "label", "s", "--dimension", D, "--batch", 3, "--prompt", "a lake")
    assert done.code == 0
    said = live(Path("s"))
    assert [(one.kind, one.ids[0], one.value) for one in said] == [
        ("rate", "000001-0", 1),
        ("rate", "000001-1", 0),
        ("skip", "000001-2", 0),
        ("best", "000002-1", 0),
        ("skip", "000003-0", 0),
        ("skip", "000003-1", 0),
        ("skip", "000003-2", 0),
    ]
    assert said[3].ids == ("000002-1", "000002-0", "000002-2")
    assert "'x': is not an answer" in done.out
    screens, _, after = done.out.partition("To continue:")
    assert "--out s.png" in after
    paths = [Path(word) for word in screens.split() if word.endswith(".png")]
    assert len(paths) == 24
    assert all(path.is_file() for path in paths)


def test_single_images_come_from_the_queue_and_take_stars(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "4", "g", "7", "b")
    done = cli("prefer", "label", "s", "--dimension", D, "--batch", 1, "--queue", 2, "--json")
    assert done.json["rows"] == 3
    assert [(one.kind, one.value) for one in live(Path("s"))] == [("stars", 4), ("rate", 1), ("rate", 0)]
    assert "expected 1 to 5" in done.err


def test_nothing_of_a_wrong_line_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1 g9", "u")
    done = cli("prefer", "label", "s", "--dimension", D, "--batch", 2)
    assert live(Path("s")) == []
    assert "the screen has 2 images" in done.out
    assert "nothing to undo" in done.out


# train


def test_training_needs_judgements(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g", "q")
    assert cli("prefer", "label", "s", "--dimension", D, "--prompt", "a lake").code == 0
    other = cli("prefer", "train", "s", "--value-model", "ridge", "--prompt", "a hill")
    assert (other.code, "no judgements of 'a hill'" in other.err) == (2, True)
    absent = cli("prefer", "train", "nowhere", "--value-model", "ridge")
    assert (absent.code, "nowhere" in absent.err) == (2, True)


def test_a_linear_model_is_saved_as_its_direction(cli: Cli, session: Path) -> None:
    done = cli("prefer", "train", session, "--value-model", "ridge", "--model-dir", "m", "--json").json
    assert (done["rows"], done["dimension"], done["train"][1]) == (16, D, 16)
    (file,) = done["files"]
    assert np.linalg.norm(load_file(file)["direction"]) == pytest.approx(1, abs=1e-5)
    assert cli("prefer", "train", session, "--value-model", "ridge", "--no-save", "--json").json["files"] == []


@pytest.mark.skipif(find_spec("xgboost") is None, reason="xgboost is not installed")
def test_trees_are_trained_and_saved(cli: Cli, session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import xgboost

    done = cli("prefer", "train", session, "--n-estimators", 7, "--max-depth", 2, "--json").json
    booster = xgboost.Booster(model_file=done["files"][0])
    assert booster.num_boosted_rounds() == 7
    projection = load_file(done["files"][1])["projection"]
    with Ledger.open(session) as ledger:
        candidate = ledger.candidate(ledger.judgements()[0].judgement.ids[0])
    places = (projection @ candidate.latent)[None]
    margin = booster.predict(xgboost.DMatrix(places), output_margin=True)[0]
    from diptych.prefer.utility import make_utility

    with Ledger.open(session) as ledger:
        model = make_utility("xgboost", trees=7, depth=2)
        model.fit(ledger.observations(candidate.frame, D))
    assert margin == pytest.approx(float(model.fitted.score(candidate.latent[None])[0][0]), abs=1e-4)
    answer(monkeypatch, "g", "q")
    cli("prefer", "label", "one", "--dimension", D)
    one = cli("prefer", "train", "one")
    assert (one.code, "need good and bad" in one.err) == (2, True)


@pytest.mark.skipif(find_spec("xgboost") is not None, reason="xgboost is installed")
def test_trees_that_are_not_installed_are_named(cli: Cli, session: Path) -> None:
    done = cli("prefer", "train", session)
    assert (done.code, "pip install 'diptych[prefer]'" in done.err) == (1, True)


def test_row_folders_are_trained_on_without_a_session(cli: Cli, session: Path) -> None:
    prompt = PROMPT
    assert cli("prefer", "export", session, "--out", "data").code == 0
    done = cli("prefer", "train", "data", "--value-model", "ridge", "--no-save", "--json", "--prompt", prompt)
    assert done.json["rows"] == 16
    assert not list(Path("data").rglob("*.sqlite"))


# export, import


def test_rows_go_out_and_come_in(cli: Cli, session: Path) -> None:
    out = cli("prefer", "export", session, "--out", "data", "--json").json
    assert out["rows"] == 16
    need = cli("prefer", "import", "t", "--from", "data")
    assert (need.code, "--prompt" in need.err) == (2, True)
    wrong = cli("prefer", "import", "t", "--from", "data", "--prompt", "a lake")
    assert (wrong.code, "the hash of 'a lake'" in wrong.err) == (2, True)
    moved = cli("prefer", "import", "t", "--from", "data", "--prompt", PROMPT, "--json").json
    assert moved["rows"] == 16
    assert (
        cli("prefer", "score", "t", "--dimension", D, "--json").json["judgements"]
        == "0 judgements used; 16 not used (legacy)"
    )
    assert (
        "16 judgements used"
        in cli("prefer", "score", "t", "--dimension", D, "--use-legacy", "--json").json["judgements"]
    )


def test_a_round_trip_ends_with_the_rows_in_use(cli: Cli, session: Path) -> None:
    assert cli("prefer", "export", session, "--out", "data").code == 0
    done = cli("prefer", "import", "t", "--from", "data", "--prompt", PROMPT)
    assert "prefer settings t --use-legacy" in done.err
    assert cli("prefer", "score", "t", "--use-legacy", "--json").json["judgements"] == "16 judgements used"
    assert cli("prefer", "settings", "t", "--use-legacy", "--json").json["settings"]["dimension"] == D
    assert cli("prefer", "score", "t", "--json").json["judgements"] == "16 judgements used"
    # A later import changes nothing that is stored.
    before = Path("t/session.json").read_bytes()
    other = cli("prefer", "export", session, "--out", "data2")
    assert (other.code, cli("prefer", "import", "t", "--from", "data2", "--prompt", PROMPT, "--batch", 2).code) == (
        0,
        0,
    )
    assert Path("t/session.json").read_bytes() == before


# settings


def test_only_settings_changes_what_a_session_stores(cli: Cli, session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (session / "session.json").read_bytes()
    assert cli("prefer", "best", session, "--prompt", "typo").code == 2
    assert cli("prefer", "score", session, "--utility", "ridge").code == 0
    for flags in (("--dimension", 512), ("--prompt", "typo"), ("--batch", 2), ("--utility", "cosine")):
        answer(monkeypatch, "q")
        done = cli("prefer", "label", session, *flags)
        assert done.code == 0
        assert "for this run only" in done.err
    assert cli("prefer", "rows", session, "--seconds", 0, "--prompt", "typo").code == 0
    assert cli("prefer", "export", session, "--out", "data", "--prompt", "typo").code == 0
    assert (session / "session.json").read_bytes() == before
    stored = json.loads(before)
    assert cli("prefer", "settings", session, "--json").json["settings"] == stored
    changed = cli("prefer", "settings", session, "--utility", "ridge", "--warm-start", "a hill", "--json").json
    assert changed["settings"] == {**stored, "utility": "ridge", "warm_start": "a hill"}
    assert "ridge" in cli("prefer", "score", session, "--json").json["scorer"]
    forgotten = cli("prefer", "settings", session, "--unset", "utility", "warm-start", "--json").json
    assert forgotten["settings"] == stored
    wrong = cli("prefer", "settings", session, "--unset", "colour")
    assert (wrong.code, "colour is not stored" in wrong.err) == (2, True)
    assert (session / "session.json").read_bytes() == before
    assert cli("prefer", "settings", "nowhere").code == 2


@pytest.mark.parametrize(("layout", "file"), [("state", "latent_state_*.npz"), ("csv", "judgements.csv")])
def test_other_layouts_are_written(cli: Cli, session: Path, layout: str, file: str) -> None:
    assert cli("prefer", "export", session, "--out", "out", "--layout", layout).code == 0
    (written,) = Path("out").glob(file)
    if layout == "state":
        moved = cli("prefer", "import", "t", "--from", written, "--prompt", PROMPT, "--json").json
        assert moved["rows"] == 16


# sanity and servers


def test_sanity_tells_a_flat_image_by_its_exit_code(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = cli("prefer", "sanity", "--decoder", "synthetic", "--dimension", D, "--out", "one.png", "--json")
    assert (fine.code, fine.json["ok"], fine.json["min_std"]) == (0, True, 30)
    assert fine.json["std"] == pytest.approx(float(load_picture("one.png").image.std()))
    monkeypatch.setenv("SANITY_MIN_STD", str(fine.json["std"] + 0.01))
    flat = cli("prefer", "sanity", "--decoder", "synthetic", "--dimension", D)
    assert flat.code == 1
    assert "the image is flat" in flat.err
    monkeypatch.setenv("SANITY_MIN_STD", "much")
    assert cli("prefer", "sanity", "--decoder", "synthetic").code == 2


def test_sanity_goes_by_its_variables_below_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.cli.prefer.decoder import from_environment

    def options(**flags: Any) -> SessionOptions:
        return from_environment(Choices((SessionOptions,), (("command line", flags),)))

    for name, value in {"MODEL": "m", "PROMPT": "p", "W": "256", "H": "128", "STEPS": "2"}.items():
        monkeypatch.setenv(f"SANITY_{name}", value)
    found, own = options(steps=3), options(steps=3).own("decoder")
    assert (found.decoder, found.prompt, own.model) == ("diffusion", "p", "m")
    assert (own.width, own.height, own.steps) == (256, 128, 3)
    assert options(decoder="synthetic").model_fields_set == {"decoder", "prompt"}
    monkeypatch.delenv("SANITY_MODEL")
    monkeypatch.setenv("FLUX_LOCAL_MODEL", "/local")
    assert options().model == "/local"


@pytest.mark.integration
def test_a_decoder_is_served_until_interrupted(tmp_path: Path) -> None:
    command = ["prefer", "serve-decoder", "--decoder", "synthetic", "--dimension", str(D), "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-c", "from diptych.cli import main; main()", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[3].rstrip(";")
        with urllib.request.urlopen(f"{url}/health", timeout=10) as reply:
            assert json.load(reply)["dimension"] == D
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 130


def test_others_are_served_only_with_a_token(cli: Cli) -> None:
    done = cli("prefer", "serve-decoder", "--decoder", "synthetic", "--host", "0.0.0.0", "--port", 0)
    assert (done.code, "token" in done.err) == (2, True)


# the log


def test_tagged_lines_are_shown_when_asked_for(cli: Cli, session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "[train-summary]" not in cli("prefer", "score", session).err
    monkeypatch.setenv("IPO_LOG_LEVEL", "INFO")
    assert "[train-summary] contrastive rows=16" in cli("prefer", "score", session).err
    monkeypatch.setenv("IPO_LOG_LEVEL", "debug")
    cli("prefer", "best", session, "--out", "a.png")
    shown = cli("prefer", "score", session, "--images", "a.png").err
    assert "[scorer] tile=" in shown
    assert "[rows]" in cli("prefer", "rows", session, "--seconds", 0).err
    monkeypatch.setenv("IPO_LOG_LEVEL", "loud")
    assert cli("prefer", "rows", session, "--seconds", 0).code == 2


@pytest.mark.parametrize(
    ("argv", "phrase"),
    [
        (["rows", "nowhere"], "has no ledger"),
        (["best", "nowhere"], "has no ledger"),
        (["score", "nowhere"], "has no ledger"),
        (["export", "nowhere", "--out", "x"], "has no ledger"),
        (["import", "t", "--from", "nowhere", "--prompt", "p"], "does not exist"),
        (["simulate", "t", "--labels", "0"], "--labels 0"),
        (["label", "t", "--utility", "magic"], "magic"),
        (["train", "t", "--max-depth", "0"], "--max-depth 0"),
        (["best", "nowhere", "--out", "a.jpg"], "expected .png"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(cli: Cli, argv: list[str], phrase: str) -> None:
    done = cli("prefer", *argv)
    assert done.code == 2
    assert phrase in done.err
    assert "Traceback" not in done.err
    assert not Path("nowhere").exists()


def test_hints_repeat_flags_that_the_session_does_not_store(
    cli: Cli, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "g1 b2", "q")
    stored = cli("prefer", "label", session).out
    assert f"diptych prefer label {session.absolute()}\n" in stored
    answer(monkeypatch, "g1 b2", "q")
    flags = ("--prompt", "my pond", "--dimension", 300)
    shown = cli("prefer", "label", session, *flags).out
    again = f"{session.absolute()} --prompt 'my pond' --dimension 300"
    assert f"diptych prefer label {again}\n" in shown
    assert f"diptych prefer best {again} --out s.png" in shown
    assert cli("prefer", "best", session, *flags, "--out", "pond.png").code == 0


def test_best_names_a_missing_session_before_a_file_that_is_there(cli: Cli) -> None:
    Path("best.png").write_bytes(b"")
    done = cli("prefer", "best", "nowhere", "--out", "best.png")
    assert done.code == 2
    assert "nowhere" in done.err
