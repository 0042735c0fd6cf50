"""Row folders of the older program: in, out unchanged, and nothing trusted."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.errors import InputError
from diptych.prefer.exchange.predecessor import prompt_hash, read_arrays
from diptych.prefer.exchange.row_folders import export_rows, import_rows
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.spaces.sphere import prompt_anchor

D, PROMPT = 64, "neon punk city"
HASH = hashlib.sha1(PROMPT.encode()).hexdigest()[:10]
FRAME = Frame(PROMPT)


def write_row(root: Path, number: int, x: np.ndarray, y: float, image: bool = True) -> Path:
    row = root / HASH / f"{number:06d}"
    row.mkdir(parents=True)
    np.savez_compressed(row / "sample.npz", X=np.atleast_2d(x), y=np.array([y]))
    if image:
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(row / "image.png", optimize=True)
    return row


def latent(seed: int, dimension: int = D) -> np.ndarray:
    """A float64 vector of the length of a latent."""
    values = np.random.default_rng(seed).standard_normal(dimension)
    return values * np.sqrt(dimension) / np.linalg.norm(values)


def offset(seed: int) -> np.ndarray:
    return latent(seed) * 0.1


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_row(root, 1, latent(1), 1.0)
    write_row(root, 2, latent(2), -0.5)
    write_row(root, 4, offset(3), 1.0, image=False)
    write_row(root, 7, latent(4, 32), -1.0)
    return root


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "session")


def test_rows_come_in_as_judgements_that_fits_use_on_request_only(data: Path, ledger: Ledger) -> None:
    moved = import_rows(ledger, data, PROMPT)
    assert (moved.rows, moved.already, moved.offsets, dict(moved.skipped)) == (4, 0, 1, {})
    assert ledger.rows == 4
    assert ledger.observations(FRAME, D).report.unused == {"legacy": 3, "other dimension": 1}
    # Nothing is known of the frame but the prompt.
    found = ledger.observations(Frame(PROMPT, model="tiny", width=64, height=64, steps=6), D, use_legacy=True)
    assert [(term.kind, term.value, term.weight) for term in found.terms] == [("rate", 1, 1.0), ("rate", 0, 0.5)]
    assert np.allclose(found.latents, np.stack([latent(1), latent(2)]), atol=1e-6)
    assert found.report.unused == {"offset from an unknown anchor": 1, "other dimension": 1}
    assert ledger.observations(Frame("other"), D, use_legacy=True).report.unused["other prompt"] == 2
    assert all(event.source == "legacy" for event in ledger.events())
    assert ledger.candidate(found.ids[0]).provenance["source"] == "legacy"


def test_offsets_become_latents_only_with_an_anchor(data: Path, ledger: Ledger) -> None:
    assert import_rows(ledger, data, PROMPT, anchor="prompt").offsets == 0
    found = ledger.observations(FRAME, D, use_legacy=True)
    assert found.report.used == 3
    assert np.allclose(found.latents[2], prompt_anchor(PROMPT, D) + offset(3), atol=1e-6)
    assert ledger.candidate(found.ids[2]).provenance["anchor"] == "prompt"
    with pytest.raises(InputError, match="anchor: is 'random'; expected 'prompt'"):
        import_rows(ledger, data, PROMPT, anchor="random")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.94, 0.96, 1.04, 1.06])
def test_a_norm_within_five_per_cent_is_that_of_a_latent(tmp_path: Path, ledger: Ledger, scale: float) -> None:
    write_row(tmp_path / "in", 1, latent(1) * scale, 1.0)
    assert import_rows(ledger, tmp_path / "in", PROMPT).offsets == (abs(scale - 1) > 0.05)


@pytest.mark.parametrize("anchor", [None, "prompt"])
def test_imported_rows_go_out_byte_for_byte(data: Path, ledger: Ledger, tmp_path: Path, anchor: None) -> None:
    import_rows(ledger, data, PROMPT, anchor=anchor)
    assert export_rows(ledger, tmp_path / "out", PROMPT).rows == 4
    assert tree(tmp_path / "out") == tree(data)


def test_importing_or_exporting_twice_changes_nothing(data: Path, ledger: Ledger, tmp_path: Path) -> None:
    import_rows(ledger, data, PROMPT)
    position = ledger.position
    again = import_rows(ledger, data / HASH, PROMPT)
    assert (again.rows, again.already) == (0, 4)
    write_row(data, 8, latent(9), 1.0)
    assert import_rows(ledger, data, PROMPT).rows == 1
    assert ledger.position == position + 2
    before = tree(data)
    assert export_rows(ledger, data, PROMPT).already == 5
    assert tree(data) == before
    assert export_rows(ledger, tmp_path / "out", PROMPT).rows == 5
    assert export_rows(ledger, tmp_path / "out", PROMPT).rows == 0


def test_own_judgements_go_out_as_rows_and_come_back(ledger: Ledger, tmp_path: Path) -> None:
    image = np.full((4, 4, 3), 7, dtype=np.uint8)
    shown = ledger.show([Candidate(latent(seed), FRAME, image if seed == 0 else None) for seed in range(5)])
    other = ledger.show([Candidate(latent(8), Frame("another"))])[0]
    a, b, c, d, e = shown
    said = [Judgement.rate(a, False, 2.0), Judgement.choose(c, [b]), Judgement.pair(d, e)]
    for judgement in (
        *said,
        Judgement.stars(a, 3),
        Judgement.tie(a, b),
        Judgement.skip(c),
        Judgement.rate(other, True),
        Judgement.rate(b, True),
    ):
        ledger.judge(judgement)
    ledger.undo()
    out = tmp_path / "out"
    moved = export_rows(ledger, out, PROMPT)
    assert moved.rows == 5
    assert sum(moved.skipped.values()) == 4
    assert moved.skipped["other prompt"] == 1
    rows = sorted((out / HASH).iterdir())
    assert [row.name for row in rows] == [f"{number:06d}" for number in range(1, 6)]
    labels = []
    for row, source in zip(rows, (a, c, b, d, e), strict=True):
        with np.load(row / "sample.npz") as sample:
            assert sample["X"].shape == (1, D)
            assert np.array_equal(sample["X"][0], source.latent)
            labels.append(sample["y"].tolist())
    assert labels == [[-2.0], [1.0], [-1.0], [1.0], [-1.0]]
    assert np.array_equal(np.asarray(Image.open(rows[0] / "image.png")), image)
    assert not (rows[1] / "image.png").exists()
    with Ledger.open(tmp_path / "second") as second:
        import_rows(second, out, PROMPT)
        assert second.observations(FRAME, D, use_legacy=True).report.used == 5


def test_an_undone_row_does_not_go_out(data: Path, ledger: Ledger, tmp_path: Path) -> None:
    import_rows(ledger, data, PROMPT)
    with pytest.raises(InputError, match="nothing to undo"):
        ledger.undo()  # imports are not what the person said last
    ledger.undo(ledger.judgements()[1].position)
    export_rows(ledger, tmp_path / "out", PROMPT)
    assert sorted(path.name for path in (tmp_path / "out" / HASH).iterdir()) == ["000001", "000004", "000007"]


def test_numbers_that_are_taken_are_passed_over(data: Path, ledger: Ledger, tmp_path: Path) -> None:
    import_rows(ledger, data, PROMPT)
    out = tmp_path / "out"
    write_row(out, 1, latent(50), 1.0)
    (out / HASH / "000009").mkdir()  # claimed by a writer that is under way
    export_rows(ledger, out, PROMPT)
    names = sorted(path.name for path in (out / HASH).iterdir())
    assert names == ["000001", "000002", "000004", "000007", "000009", "000010"]


def test_the_folder_must_be_that_of_the_prompt(data: Path, ledger: Ledger) -> None:
    assert prompt_hash(PROMPT) == HASH
    with pytest.raises(InputError, match=f"has no folder {prompt_hash('other')}, the hash of 'other'"):
        import_rows(ledger, data, "other")
    with pytest.raises(InputError, match="belongs to another prompt"):
        import_rows(ledger, data / HASH, "other")
    assert ledger.position == 0


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_bad_rows_are_left_out_and_counted(ledger: Ledger, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_row(data, 1, latent(1), 1.0)
    bad = {number: data / HASH / f"{number:06d}" for number in range(2, 11)}
    for row in bad.values():
        row.mkdir()
    good = (data / HASH / "000001" / "sample.npz").read_bytes()
    (bad[3] / "sample.npz").write_bytes(good[: len(good) // 2])
    np.savez(bad[4] / "sample.npz", X=latent(1)[None], y=np.array([np.nan]))
    np.savez(bad[5] / "sample.npz", X=latent(1), y=np.array([1.0]))
    np.savez(bad[6] / "sample.npz", X=latent(1)[None])
    np.savez(
        bad[7] / "sample.npz",
        X=np.array([[Bomb(tmp_path / "boom")]], dtype=object),
        y=np.array([1.0]),
        allow_pickle=True,
    )
    (bad[8] / "sample.npz").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    (tmp_path / "outside.npz").write_bytes(good)
    (bad[9] / "sample.npz").symlink_to(tmp_path / "outside.npz")
    (bad[10] / "sample.npz").write_bytes(good)
    (bad[10] / "image.png").write_bytes(b"GIF89a")
    (data / HASH / "000011").symlink_to(data / HASH / "000001")
    (data / HASH / "latent_state.npz").write_bytes(good)
    moved = import_rows(ledger, data, PROMPT)
    assert moved.rows == 2
    assert dict(moved.skipped) == {
        "without sample.npz": 1,
        "unreadable sample.npz": 4,
        "X is not (1, d) or y not (1,) finite and nonzero": 2,
        "symbolic link": 2,
        "image.png unreadable, row imported without it": 1,
    }
    assert not (tmp_path / "boom").exists()
    assert "1 left out (without sample.npz: 000002)" in str(moved)


def test_an_image_of_another_kind_of_png_is_kept_as_it_is(ledger: Ledger, tmp_path: Path) -> None:
    row = write_row(tmp_path / "data", 1, latent(1), 1.0, image=False)
    buffer = io.BytesIO()
    Image.new("RGBA", (3, 2), (10, 20, 30, 255)).save(buffer, "PNG")
    (row / "image.png").write_bytes(buffer.getvalue())
    import_rows(ledger, tmp_path / "data", PROMPT)
    name = ledger.judgements()[0].judgement.ids[0]
    image = ledger.candidate(name).image
    assert image is not None
    assert image[0, 0].tolist() == [10, 20, 30]
    file = ledger.image_file(name)
    assert file is not None
    assert file.read_bytes() == buffer.getvalue()


def claim(path: Path, shape: tuple[int, ...], data: bytes = bytes(64)) -> None:
    """A sample whose X claims a shape, with other data behind the header."""
    header, y = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    np.save(y, np.array([1.0]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", header.getvalue() + data)
        archive.writestr("y.npy", y.getvalue())


def test_rows_with_wrong_headers_or_extreme_numbers_are_named_and_the_rest_is_imported(
    ledger: Ledger, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for number in (1, 20):
        write_row(data, number, latent(number), 1.0)
    claim(write_row(data, 2, latent(2), 1.0) / "sample.npz", (1, 10**12))
    claim(write_row(data, 3, latent(3), 1.0) / "sample.npz", (1, 2**62))
    claim(write_row(data, 4, latent(4), 1.0) / "sample.npz", (1, 2**24), bytes(2**27))
    claim(write_row(data, 5, latent(5), 1.0) / "sample.npz", (1, 4))
    write_row(data, 6, np.zeros(D), 1.0)
    write_row(data, 7, np.full(D, 1e300), 1.0)
    write_row(data, 8, np.full(D, 1e30), 1.0)
    write_row(data, 9, latent(9), 1e15)
    write_row(data, 10, latent(10), 1e-300)
    write_row(data, 11, latent(11, 32), 1.0)
    moved = import_rows(ledger, data, PROMPT, dimension=D)
    assert (moved.rows, moved.dimension) == (2, D)
    assert moved.names == {
        "unreadable sample.npz": ["000002", "000003", "000004", "000005"],
        "all values are zero": ["000006"],
        "longer than 8 sqrt(d)": ["000007", "000008"],
        "label of absolute value outside 1e-06 to 100": ["000009", "000010"],
        f"32 values instead of {D}": ["000011"],
    }
    assert "2 left out (longer than 8 sqrt(d): 000007, 000008)" in str(moved)
    with pytest.raises(InputError, match=r"X.npy claims float64 of shape \(1, 1000000000000\), 8000000000\d+ bytes"):
        read_arrays(data / HASH / "000002" / "sample.npz", ("X", "y"))
