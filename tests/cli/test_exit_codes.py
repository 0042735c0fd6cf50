"""0 done, 2 wrong input, 130 interrupted, 1 the rest; one message, no traceback; with --json one object and nothing
else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.cli import main, run
from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io import load
from diptych.ptycho.scan import Reconstruction
from diptych.runtime.interrupts import SIGNALS

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("argv", "phrase"),
    [
        (["reconstruct"], "diptych reconstruct: FILE is missing (A scan). See diptych reconstruct --help."),
        (["simulate", "-o", "x.npz"], "--out is missing (The .npz file to write); not understood: -o x.npz."),
        (["simulate", "--out"], "--out requires an argument"),
        (["reconstrct"], 'Did you mean "reconstruct"?'),
        (["reconstruct", "small.npz", "--engin", "ml"], "Did you mean --engine?"),
        (["reconstruct", "small.npz", "--engine", "magic"], 'Choose from: "auto", "ml"'),
        (["reconstruct", "small.npz", "--epochs", "many"], "--epochs"),
        (["reconstruct", "small.npz", "--epochs", "0"], "epochs = 0"),
        (["reconstruct", "small.npz", "--config", "absent.yaml"], "absent.yaml: cannot be read"),
        (["reconstruct", "small.npz", "--out", "a.tif"], "--out a.tif: the suffix is '.tif'"),
        (["reconstruct", "small.npz", "--resume"], "--resume: there is no run to continue. Pass --run DIR"),
        (["reconstruct", "absent.npz"], "absent.npz: there is no such file"),
        (["simulate"], "--out"),
        (["simulate", "--out", "small.npz"], "--overwrite"),
        (["simulate", "--out", "new.npz", "--dose", "1", "--probe-photons", "1"], "give one of them"),
        (["evaluate", "small.npz"], "either --truth FILE"),
        (["fetch", "nothing"], "expected one of siemens-star"),
        (["info", "absent.npz", "--json"], "absent.npz: there is no such file"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(cli: Cli, scan_file: Path, argv: list[str], phrase: str) -> None:
    done = cli(*argv)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert phrase in done.err
    assert "Traceback" not in done.err
    assert list(Path().iterdir()) == [Path(scan_file.name)]
    if "--json" in argv:
        assert done.json == {"error": done.err.removeprefix("error: ").strip(), "exit_code": 2}
    else:
        assert done.out == ""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("scan: is wrong"), 2, "error: scan: is wrong"),
        (UnavailableError("no network"), 1, "error: no network"),
        (OSError(28, "No space left on device", "result.h5"), 1, "error: result.h5: No space left on device"),
        (MemoryError("9 TB"), 1, "error: not enough memory: 9 TB"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "error: not enough memory: CUDA out of memory"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "error: internal error: ZeroDivisionError: division by zero. "
            "Run the command again with --debug and report the traceback as a bug.",
        ),
    ],
)
def test_each_kind_of_error_has_its_code_and_a_traceback_only_with_debug(
    cli: Cli, scan_file: Path, solver: Any, error: Exception, code: int, message: str
) -> None:
    solver.fails = error
    done = cli("reconstruct", scan_file, "--run", "a")
    assert (done.code, done.err.strip(), done.out) == (code, message, "")
    done = cli("reconstruct", scan_file, "--run", "b", "--debug")
    assert done.code == code
    assert done.err.startswith("Traceback")
    assert done.err.strip().endswith(message)
    done = cli("reconstruct", scan_file, "--run", "c", "--json")
    assert done.json == {"error": message.removeprefix("error: "), "exit_code": code}


SIMULATE = ["simulate", "--out", "new.npz", "--size", "16", "--patterns", "9"]


@pytest.mark.parametrize("argv", [["info", "small.npz"], SIMULATE, ["reconstruct", "small.npz"]])
def test_json_is_one_object_whatever_is_printed_on_the_way(
    cli: Cli, scan_file: Path, solver: Any, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    def noisy(*args: Any, **kwargs: Any) -> Any:
        print("chatter")
        return describe(*args, **kwargs)

    from diptych.ptycho.describe import describe_scan as describe

    monkeypatch.setattr("diptych.ptycho.describe.describe_scan", noisy)
    done = cli(*argv, "--json")
    assert done.code == 0
    assert len(done.out.splitlines()) == 1
    assert isinstance(done.json, dict)
    assert "chatter" not in done.out


def test_a_file_called_json_is_a_file(cli: Cli) -> None:
    done = cli("info", "--", "--json")
    assert (done.code, done.out) == (2, "")
    assert "--json: there is no such file" in done.err


def test_without_a_verb_the_help_is_shown(cli: Cli) -> None:
    done = cli()
    assert done.code == 0
    assert "reconstruct" in done.out


def test_the_script_exits_with_the_code_and_a_closed_pipe_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(sys, "argv", ["diptych", "info", str(tmp_path / "absent.npz")])
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.code == 2
    program = "import sys; from diptych.cli import main; sys.argv = ['diptych', 'reconstruct', '--help']; main()"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_do_not_spin_unless_asked_to(given: str | None, found: str) -> None:
    program = "import atexit, os, sys; atexit.register(lambda: print(os.environ['OMP_WAIT_POLICY']))\n"
    program += "from diptych.cli import main; sys.argv = ['diptych', '--version']; main()"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert out.split()[-1] == found


def start(scan_file: Path, run_directory: Path, prelude: str = "") -> subprocess.Popen[str]:
    """A reconstruction that would take hours, in a process of its own."""
    argv = [
        "diptych",
        "reconstruct",
        str(scan_file),
        "--run",
        str(run_directory),
        "--epochs",
        "1000000",
        "--no-stop",
        "--json",
    ]
    program = f"import sys; sys.argv = {argv!r}\n{prelude}\nfrom diptych.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for(text: str, path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_best_state_and_exits_130_and_the_run_can_be_resumed(
    scan_file: Path, tmp_path: Path, cli: Cli, number: signal.Signals
) -> None:
    process = start(scan_file, tmp_path / "run")
    wait_for(" 3/1000000", tmp_path / "run" / "log.txt", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == (
        f"interrupted; the best state so far is saved in {tmp_path / 'run'} (continue with --run {tmp_path / 'run'} "
        f"--resume)."
    )
    told = json.loads(out)
    assert told["status"] == "interrupted"
    assert isinstance(load(told["result"]), Reconstruction)
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["status"] == "interrupted"
    done = cli("reconstruct", scan_file, "--run", "run", "--resume", "--epochs", told["epochs"] + 2, "--json")
    assert done.code == 0
    assert done.json["epochs"] == told["epochs"] + 2
    record = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert (record["status"], record["earlier"][0]["status"]) == ("done", "interrupted")


@pytest.mark.integration
def test_a_second_ctrl_c_ends_at_once(scan_file: Path, tmp_path: Path) -> None:
    # Saving takes long here, so that the second signal comes in the middle of it.
    slow = "import diptych.ptycho.io as io, time, pathlib\n"
    slow += "io.save = lambda *a: (pathlib.Path(a[1]).with_name('saving').touch(), time.sleep(60))"
    process = start(scan_file, tmp_path / "run", slow)
    wait_for(" 3/1000000", tmp_path / "run" / "log.txt", process)
    process.send_signal(signal.SIGINT)
    wait_for("", tmp_path / "run" / "saving", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert (out, err) == ("", "aborted at once; nothing more was saved.\n")


def test_ctrl_c_before_there_is_a_state_says_so(cli: Cli, scan_file: Path, solver: Any, tmp_path: Path) -> None:
    solver.fails = KeyboardInterrupt()
    done = cli("reconstruct", scan_file, "--run", "run")
    assert (done.code, done.err.strip()) == (130, "interrupted; there was no state to save yet; the log is in run.")
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["status"] == "interrupted"


def test_ctrl_c_elsewhere_exits_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("diptych.ptycho.describe.describe_file", interrupted)
    assert run(["info", "x.npz"]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was saved.\n"
