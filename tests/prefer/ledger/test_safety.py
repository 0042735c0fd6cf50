"""The ledger when things go wrong: killed processes, damage, a full disk, file systems without a write-ahead log."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from diptych.errors import InputError, UnavailableError
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger import files as ledger_files
from diptych.prefer.ledger import ledger as ledger_module
from diptych.prefer.ledger import store as ledger_store
from diptych.prefer.ledger.ledger import Ledger

D = 32
FRAME = Frame("a lake", model="tiny", width=8, height=8, steps=4)

# One process of a session: it prints what the ledger has acknowledged, and nothing else.
WRITER = """
import sys
import numpy as np
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger
folder, seed, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(seed)
with Ledger.open(folder) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for row in range(rows):
        latent = rng.standard_normal(32).astype(np.float32)
        image = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        shown = ledger.show([Candidate(latent, Frame("a lake"), image, provenance={"process": seed, "row": row})])[0]
        position = ledger.judge(Judgement.rate(shown, good=bool(row % 2)))
        print(shown.id, position, seed, row, float(latent.sum()), flush=True)
"""


def latents(count: int, seed: int = 0, dimension: int = D) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def show(ledger: Ledger, values: np.ndarray, frame: Frame = FRAME) -> tuple[Candidate, ...]:
    return ledger.show([Candidate(value, frame) for value in values])


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "session")


@pytest.mark.parametrize("damage", ["torn", "short", "gone"])
def test_a_damaged_latent_is_found_reported_and_not_used(ledger: Ledger, damage: str) -> None:
    candidates = show(ledger, latents(4))
    for candidate in candidates:
        ledger.judge(Judgement.rate(candidate, True))
    ledger.judge(Judgement.pair(candidates[0], candidates[3]))
    ledger.close()
    block = ledger.folder / f"latents-{D}.f32"
    data = bytearray(block.read_bytes())
    data[-D * 2 :] = bytes(D * 2)
    if damage == "gone":
        block.unlink()
    else:
        block.write_bytes(data if damage == "torn" else data[: -D * 2])
    with Ledger.open(ledger.folder) as again:
        found = again.observations(FRAME, D)
        lost = candidates if damage == "gone" else candidates[3:]
        assert found.report.damaged == tuple(candidate.id for candidate in lost)
        assert found.report.unused == {"damaged latent": len(lost) + 1}
        assert len(found.latents) == 4 - len(lost)
        with pytest.raises(InputError, match=r"row 3 is damaged .* Restore"):
            again.candidate(candidates[3].id)
        # What comes after the damage is stored and read as ever.
        new = show(again, latents(1, 5))[0]
        again.judge(Judgement.rate(new, True))
        assert new.id in again.observations(FRAME, D).ids


def test_a_damaged_image_and_a_name_that_leads_out_are_refused(ledger: Ledger) -> None:
    shown = ledger.show([Candidate(latents(1)[0], FRAME, picture(0))])[0]
    file = ledger.image_file(shown.id)
    assert file is not None
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InputError, match="is damaged"):
        ledger.candidate(shown.id)
    assert ledger.candidate(shown.id, image=False).image is None
    for name in ("../../secret.png", "/etc/passwd", "a.png"):
        with pytest.raises(InputError, match="expected the SHA-256 of a file"):
            ledger.files.get(name)


@pytest.mark.parametrize("where", ["latents", "images", "database"])
def test_a_full_disk_is_told_and_leaves_the_ledger_usable(
    ledger: Ledger, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show(ledger, latents(1))[0]
    ledger.judge(Judgement.rate(shown, True))

    def refuse(file: object, data: bytes) -> None:
        file.write(data[: len(data) // 2])  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    another = Candidate(latents(1, 1)[0], FRAME, picture(1) if where == "images" else None)
    with monkeypatch.context() as patch:
        if where == "database":
            pages = ledger._store.read("PRAGMA page_count")[0][0]
            ledger._store._writer.execute(f"PRAGMA max_page_count={pages}")
            another = Candidate(another.latent, FRAME, provenance={"long": "x" * 100_000})
        else:
            patch.setattr(ledger_files, "write_all", refuse)
        with pytest.raises(UnavailableError, match="the disk is full; nothing was stored"):
            ledger.show([another])
    if where == "database":
        ledger._store._writer.execute("PRAGMA max_page_count=1000000")
    assert ledger.position == 2
    assert not list((ledger.folder / "files").glob(".*"))
    stored = ledger.show([another])[0]
    ledger.judge(Judgement.rate(stored, False))
    found = ledger.observations(FRAME, D)
    assert found.report.damaged == ()
    assert np.array_equal(found.latents, np.stack([shown.latent, another.latent]))


def test_everything_stored_in_one_call_is_stored_or_nothing(ledger: Ledger) -> None:
    good = (Candidate(latents(1)[0], FRAME),)
    with pytest.raises(InputError, match="never shown"):
        ledger.record([(good, None), (good, Judgement.rate("nobody", True))])
    with pytest.raises(InputError, match=r"provenance cannot be written as JSON"):
        ledger.show([good[0], Candidate(latents(1)[0], FRAME, provenance={"key": object()})])
    assert ledger.position == 0


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    def work(seed: int) -> None:
        for row in range(5):
            ledger.judge(Judgement.rate(show(ledger, latents(1, seed * 100 + row))[0], True))
            ledger.observations(FRAME, D)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ledger.observations(FRAME, D)
    assert ledger.rows == len(found.terms) == 20
    wanted = {latents(1, seed * 100 + row).tobytes() for seed in range(4) for row in range(5)}
    assert {row.tobytes() for row in np.asarray(found.latents)} == wanted


def crowd(folder: Path, processes: int, rows: int, seed: int) -> None:
    """Processes write into one ledger and some are killed at random moments; all that was acknowledged must be there,
    once."""
    chance = random.Random(seed)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(number), str(rows)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    said: list[list[str]] = [[] for _ in running]

    def listen(number: int) -> None:
        stream = running[number].stdout
        assert stream is not None
        for line in stream:
            if line.endswith("\n"):
                said[number].append(line)

    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    listeners = [threading.Thread(target=listen, args=(number,)) for number in range(processes)]
    for listener in listeners:
        listener.start()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.close()
    victims = chance.sample(range(processes), processes // 2)
    for victim in victims:
        goal = chance.randrange(1, rows)
        while len(said[victim]) < goal and running[victim].poll() is None:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.01)
        running[victim].send_signal(signal.SIGKILL)
    for process, listener in zip(running, listeners, strict=True):
        process.wait(timeout=300)
        listener.join()
    assert all(process.returncode == 0 for number, process in enumerate(running) if number not in victims)
    assert any(process.returncode == -signal.SIGKILL for process in running)
    check_crowd(folder, [line.split() for lines in said for line in lines], rows)


def check_crowd(folder: Path, acknowledged: list[list[str]], rows: int) -> None:
    with Ledger.open(folder, create=False) as ledger:
        by_position = {said.position: said.judgement for said in ledger.judgements()}
        found = ledger.observations(Frame("a lake"), 32)
        assert found.report.damaged == ()
        assert len(found.ids) == len(set(found.ids)) == len(by_position) == ledger.rows
        # A killed process may have stored one row more than it could say.
        origin = Counter((c.provenance["process"], c.provenance["row"]) for c in map(ledger.candidate, found.ids))
        assert max(origin.values()) == 1
        sums = dict(zip(found.ids, np.asarray(found.latents), strict=True))
        for name, position, process, row, total in acknowledged:
            assert by_position[int(position)].ids == (name,)
            assert by_position[int(position)].value == int(row) % 2
            assert float(sums[name].sum()) == pytest.approx(float(total), abs=1e-4)
            assert origin[int(process), int(row)] == 1
        assert len(acknowledged) <= ledger.rows <= len(acknowledged) + 16
        assert [event.position for event in ledger.events()] == list(range(1, ledger.position + 1))


@pytest.mark.skipif(os.name == "nt", reason="there is no kill -9")
def test_no_acknowledged_row_is_lost_or_doubled_when_processes_are_killed(tmp_path: Path) -> None:
    crowd(tmp_path / "session", processes=4, rows=40, seed=0)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no kill -9")
@pytest.mark.parametrize("seed", range(3))
def test_sixteen_processes_of_200_rows_each(tmp_path: Path, seed: int) -> None:
    crowd(tmp_path / "session", processes=16, rows=200, seed=seed)


def test_a_long_reading_keeps_no_judgement_waiting(ledger: Ledger) -> None:
    shown = show(ledger, latents(1))[0]
    with ledger._store._reading:  # as a reader does that takes its time
        assert ledger.judge(Judgement.rate(shown, True)) == 2


def test_without_a_write_ahead_log_another_journal_is_used_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger_store, "file_system", lambda folder: "nfs4")
    one, two = Ledger.open(tmp_path), Ledger.open(tmp_path)
    assert one.journal == two.journal == "delete"
    assert "no write-ahead log (nfs4 is a network file system)" in caplog.text
    shown = show(one, latents(1))[0]
    two.judge(Judgement.rate(shown, True))
    assert one.rows == two.rows == 1
    assert not list(tmp_path.glob("*-wal"))
    # A writer waits for the holder of the lock file, and says so when that takes too long.
    monkeypatch.setattr(ledger_store, "PATIENCE", 0.05)
    with one._store._locked(), pytest.raises(UnavailableError, match="kept the ledger locked"):
        two.judge(Judgement.rate(shown, True))
    assert two.judge(Judgement.rate(shown, False)) == 3


@pytest.mark.skipif(os.name == "nt", reason="there is no flock")
def test_writers_come_in_turn_and_one_that_waits_too_long_gives_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show(ledger, latents(1))[0]
    other = Ledger.open(ledger.folder)
    waiter = threading.Thread(target=lambda: other.judge(Judgement.rate(shown, True)))
    with ledger._store._locked():
        waiter.start()
        waiter.join(0.1)
        assert waiter.is_alive()
        with monkeypatch.context() as patch:
            patch.setattr(ledger_store, "PATIENCE", 0.05)
            with pytest.raises(UnavailableError, match="kept the ledger locked"):
                Ledger.open(ledger.folder)
    waiter.join(10)
    assert ledger.rows == 1
    # Whoever gave up holds nothing: its place in the queue is free again.
    ledger.judge(Judgement.rate(shown, False))
    assert ledger.rows == 2


@pytest.mark.skipif(os.name == "nt", reason="there is no flock")
def test_processes_are_kept_apart_without_a_write_ahead_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_store, "file_system", lambda folder: "nfs")
    script = "import diptych.prefer.ledger.store as s; s.file_system = lambda folder: 'nfs'\n" + WRITER
    done = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(n), "8"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    lines = [
        line.split() for process in done for line in process.communicate(timeout=60)[0].splitlines() if line != "ready"
    ]
    assert len(lines) == 16
    check_crowd(tmp_path, lines, 8)


def test_the_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nserver:/b {tmp_path} nfs4 rw 0 0\nsys {tmp_path}/in\\040side tmpfs rw 0 0\n"
    )
    (tmp_path / "in side").mkdir()
    assert ledger_store.file_system(Path("/"), mounts) == "ext4"
    assert ledger_store.file_system(tmp_path / "deep" / "er", mounts) == "nfs4"
    assert ledger_store.file_system(tmp_path / "in side", mounts) == "tmpfs"
    assert ledger_store.file_system(tmp_path, tmp_path / "absent") == ""


def test_other_things_in_the_place_of_a_ledger_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no ledger"):
        Ledger.open(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file; expected the folder of a ledger"):
        Ledger.open(tmp_path / "file")
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match="is not a ledger, or is damaged"):
        Ledger.open(tmp_path)
    for name, statement, message in (
        ("other", "CREATE TABLE t (a)", "database of another program"),
        ("later", f"PRAGMA application_id={ledger_store.APPLICATION}; PRAGMA user_version=9", "ledger of version 9"),
    ):
        (tmp_path / name).mkdir()
        with sqlite3.connect(tmp_path / name / "ledger.sqlite") as database:
            database.executescript(statement)
        with pytest.raises(InputError, match=message):
            Ledger.open(tmp_path / name)


def test_a_closed_ledger_and_one_of_a_parent_process_say_so(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show(ledger, latents(1))[0]
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(InputError, match="before this process was forked"):
            ledger.judge(Judgement.rate(shown, True))
    ledger.close()
    with pytest.raises(InputError, match="the ledger is closed"):
        ledger.judge(Judgement.rate(shown, True))


def test_commits_wait_for_the_disk(ledger: Ledger) -> None:
    assert ledger.journal == "wal"
    assert ledger._store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_latents_are_on_the_disk_before_the_row_that_names_them(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("latents"))
    ledger._store._writer.set_trace_callback(lambda statement: order.append(statement.split()[0]))
    show(ledger, latents(2))
    assert order[0] == "BEGIN"
    assert order[-1] == "COMMIT"
    assert order.index("latents") < order.index("INSERT")


# What other programs do to the files of an open ledger


def judged(folder: Path, count: int = 4) -> list[Candidate]:
    with Ledger.open(folder) as ledger:
        shown = show(ledger, latents(count))
        for candidate in shown:
            ledger.judge(Judgement.rate(candidate, True))
    return list(shown)


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("how", ["database removed", "database restored", "folder replaced", "folder removed"])
def test_nothing_is_acknowledged_after_the_files_were_replaced(
    tmp_path: Path, how: str, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if journal == "delete":
        monkeypatch.setattr(ledger_store, "file_system", lambda folder: "nfs")
    home, backup = tmp_path / "s", tmp_path / "backup"
    judged(home)
    shutil.copytree(home, backup)
    ledger = Ledger.open(home)
    shown = show(ledger, latents(1, 7))[0]
    ledger.judge(Judgement.rate(shown, True))
    if how.startswith("folder"):
        home.rename(tmp_path / "old")
    else:
        for file in home.glob("ledger.sqlite*"):
            file.unlink()
    if how == "folder replaced":
        shutil.copytree(backup, home)
    elif how == "database restored":
        shutil.copy(backup / "ledger.sqlite", home)
    for store in (lambda: ledger.judge(Judgement.rate(shown, False)), lambda: show(ledger, latents(1, 8)), ledger.undo):
        with pytest.raises(UnavailableError, match=r"while it was open|cannot be written"):
            store()
    if how == "folder removed":
        return
    (copy,) = home.glob("ledger.recovered-*.sqlite")
    ledger.close()
    if how == "database removed":
        with pytest.raises(InputError, match=rf"missing, but latents-{D}.f32 .* Restore it from {copy.name}"):
            Ledger.open(home)
    copy.replace(home / "ledger.sqlite")
    with Ledger.open(home) as again:
        assert again.rows == 5
        assert len(again.observations(FRAME, D).report.damaged) == (how == "folder replaced")


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("other", ["another ledger", "an earlier copy", "an earlier copy with its log", "a text"])
@pytest.mark.parametrize("checkpoint", [0, 2**22])
def test_nothing_is_acknowledged_after_the_database_was_written_over(
    tmp_path: Path, other: str, journal: str, checkpoint: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``cp backup ledger.sqlite`` does: the same file with other contents."""
    monkeypatch.setattr(ledger_store, "CHECKPOINT", checkpoint)
    if journal == "delete":
        monkeypatch.setattr(ledger_store, "file_system", lambda folder: "nfs")
    home, backup = tmp_path / "s", tmp_path / "backup"
    judged(home)
    ledger = Ledger.open(home)
    ledger.judge(Judgement.rate(show(ledger, latents(1, 7))[0], True))
    shutil.copytree(home, backup)
    second = Ledger.open(home)
    shown = show(second, latents(1, 9))[0]
    second.judge(Judgement.rate(shown, True))
    ledger.judge(Judgement.rate(shown, False))
    if other == "another ledger":
        judged(tmp_path / "third", 6)
    overwriting = {"another ledger": tmp_path / "third", "a text": tmp_path}.get(other, backup)
    (tmp_path / "ledger.sqlite").write_text("no ledger")
    names = sorted(path.name for path in overwriting.glob("ledger.sqlite*"))
    for name in names if other.endswith("log") else names[:1]:
        before = (home / name).stat().st_ino if (home / name).exists() else None
        shutil.copyfile(overwriting / name, home / name)
        assert before in (None, (home / name).stat().st_ino)
    now = (home / "ledger.sqlite").read_bytes()
    for each in (ledger, second):
        refused = "was written over by another program while it was open"
        with pytest.raises(UnavailableError, match=refused):
            each.judge(Judgement.rate(shown, False))
        with pytest.raises(UnavailableError, match=refused):
            show(each, latents(1, 8))
        with pytest.raises(UnavailableError, match=refused):
            each.undo()
    ledger.close()
    second.close()
    if not other.endswith("log"):
        assert (home / "ledger.sqlite").read_bytes() == now
    found = []
    for copy in sorted(home.glob("ledger.recovered-*.sqlite")):
        for file in home.glob("ledger.sqlite*"):
            file.unlink()
        copy.replace(home / "ledger.sqlite")
        with Ledger.open(home) as again:
            found.append(again.rows)
            assert not again.observations(FRAME, D).report.damaged
    # All that the process had read: the second one wrote before the first.
    assert found[0] == 7
    assert found[1] in (6, 7)


def test_checkpoints_of_other_processes_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_store, "CHECKPOINT", 0)
    with Ledger.open(tmp_path) as ledger, Ledger.open(tmp_path) as other:
        shown = show(ledger, latents(1))[0]
        for _ in range(3):
            other.judge(Judgement.rate(shown, True))
            ledger.judge(Judgement.rate(shown, False))
        with Ledger.open(tmp_path) as third:
            third.judge(Judgement.rate(shown, True))
        ledger.judge(Judgement.rate(shown, False))
        assert other.rows == 8


@pytest.mark.parametrize("left", [None, b""], ids=["missing", "empty"])
def test_a_ledger_is_not_started_over_the_latents_of_another(tmp_path: Path, left: bytes | None) -> None:
    judged(tmp_path)
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    if left is not None:
        (tmp_path / "ledger.sqlite").write_bytes(left)
    before = (tmp_path / f"latents-{D}.f32").read_bytes()
    with pytest.raises(
        InputError, match=r"but latents-32.f32 has the latents.* Restore it from a backup; to start anew"
    ):
        Ledger.open(tmp_path)
    assert (tmp_path / f"latents-{D}.f32").read_bytes() == before
    assert (tmp_path / "ledger.sqlite").exists() == (left is not None)


@pytest.mark.parametrize("keep", [0, 1, 2.5])
def test_latents_truncated_under_an_open_ledger_are_reported(tmp_path: Path, keep: float) -> None:
    """In a process of its own: touching a mapped page of a truncated file ends it with SIGBUS."""
    script = f"""
import os, sys
import numpy as np
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger
d = 4096
with Ledger.open(sys.argv[1]) as ledger:
    shown = ledger.show([Candidate(row, Frame("a")) for row in np.random.default_rng(0).standard_normal((4, d))])
    for one in shown:
        ledger.judge(Judgement.rate(one, True))
    found, one = ledger.observations(Frame("a"), d), ledger.candidate(shown[3].id)
    os.truncate(ledger.folder / f"latents-{{d}}.f32", int({keep} * 4 * d))
    assert np.isfinite(found.latents).all() and np.isfinite(one.latent).all()
    assert Ledger.open(sys.argv[1]).observations(Frame("a"), d).report.used == int({keep})
    try:
        ledger.candidate(shown[3].id)
    except ValueError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "row 3 is damaged" in done.stdout


# Extreme numbers


@pytest.mark.parametrize("length", [12.0, 1e15, 1e36])
def test_excessive_latents_are_refused_and_those_stored_earlier_left_out(
    ledger: Ledger, length: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show(ledger, latents(3))
    extreme = Candidate(latents(1, 5)[0] * np.float32(length), FRAME)
    with pytest.raises(InputError, match=r"has the length .* sqrt\(d\); expected at most 10 sqrt\(d\)"):
        ledger.show([extreme])
    assert ledger.position == 1
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "check_length", lambda latent, where: None)
        stored = ledger.show([extreme])[0]
    for candidate in (*shown, stored):
        ledger.judge(Judgement.rate(candidate, True))
    found = ledger.observations(FRAME, D)
    assert (found.report.used, dict(found.report.unused)) == (3, {"latent longer than 10 sqrt(d)": 1})
    assert ledger.candidate(stored.id).latent[0] == extreme.latent[0]


@pytest.mark.parametrize("weight", [1e-300, 101.0, 1e15, 1e300])
def test_excessive_weights_are_refused_and_those_stored_earlier_left_out(ledger: Ledger, weight: float) -> None:
    shown = show(ledger, latents(3))
    for kind in ("rate", "pair"):
        with pytest.raises(InputError, match=r"weight = .*; expected a number from 1e-06 to 100"):
            Judgement(kind, ("a", "b")[: 1 + (kind == "pair")], int(kind == "rate"), weight)
    positions = [ledger.judge(Judgement.rate(candidate, True)) for candidate in shown]
    with sqlite3.connect(ledger.folder / "ledger.sqlite") as database:
        body = Judgement.rate(shown[1], True).to_json().replace('"weight": 1.0', f'"weight": {weight!r}')
        database.execute("UPDATE events SET body = ? WHERE position = ?", (body, positions[1]))
    found = ledger.observations(FRAME, D)
    assert (found.report.used, dict(found.report.unused)) == (2, {f"weight {weight:g}": 1})
    assert ledger.judgements()[1].judgement.weight == weight
