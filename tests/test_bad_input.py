"""One table of what users get wrong. Each cause ends in one clear message, exit code 2, no traceback and no result.

Every row runs the command line in process, in a folder of its own; files of a row are made by its ``make`` function.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from diptych.cli import run
from diptych.ptycho.io import save
from diptych.ptycho.scan import Canvas, Reconstruction

M, N = 6, 16
Arrays = dict[str, Any]


def scan_arrays() -> Arrays:
    """A good scan that declares counts."""
    rng = np.random.default_rng(0)
    y, x = np.indices((N, N)) - N // 2
    probe = np.exp(-(y**2 + x**2) / 18) + 0j
    return {
        "diff3d": rng.poisson(30.0, (M, N, N)).astype(np.uint16),
        "xcoords": np.array([20.0, 24, 28, 20, 24, 28]),
        "ycoords": np.array([20.0, 20, 20, 25, 25, 25]),
        "probeGuess": probe.astype(np.complex64),
        "_metadata": np.asarray(json.dumps({"domain": "counts"})),
    }


def scan_file(**changes: Any) -> None:
    """``scan.npz`` in the working folder; a change of None removes the key, a function changes its array."""
    arrays = scan_arrays()
    for key, value in changes.items():
        if value is None:
            del arrays[key]
        else:
            arrays[key] = value(arrays[key]) if callable(value) else value
    np.savez("scan.npz", **arrays)


def with_(value: float, where: tuple[Any, ...], dtype: Any = np.float32) -> Callable[[Any], Any]:
    """A function that puts ``value`` at ``where`` of an array turned into ``dtype``."""

    def change(array: Any) -> Any:
        array = array.astype(dtype)
        array[where] = value
        return array

    return change


def content(data: bytes, name: str = "scan.npz") -> Callable[[], None]:
    return lambda: Path(name).write_bytes(data) and None


def cut(fraction: float) -> None:
    scan_file()
    whole = Path("scan.npz").read_bytes()
    Path("scan.npz").write_bytes(whole[: int(fraction * len(whole))])


def single_array() -> None:
    np.save("scan.npy", np.ones((M, N, N)))
    Path("scan.npy").rename("scan.npz")


def result() -> Reconstruction:
    return Reconstruction(
        Canvas(np.ones((40, 41), np.complex64)), np.ones((1, N, N), np.complex64), np.array([[20.0, 20], [25, 28]])
    )


def product(change: Callable[[Any], None] | None = None, keep: float = 1.0) -> None:
    """``product.h5``, a result as an HDF5 product, changed or cut short."""
    save(result(), "product.h5")
    if change is not None:
        with h5py.File("product.h5", "r+") as file:
            change(file)
    whole = Path("product.h5").read_bytes()
    Path("product.h5").write_bytes(whole[: int(keep * len(whole))])


def good_scan_and(make: Callable[[], Any]) -> Callable[[], None]:
    def both() -> None:
        scan_file()
        make()

    return both


@dataclass(frozen=True)
class Row:
    """A cause: the command line, the words its message must have, and what makes the files."""

    argv: str
    words: tuple[str, ...]
    make: Callable[[], Any] = scan_file


RECONSTRUCT = "reconstruct scan.npz --run run"
EVALUATE = "evaluate product.h5 --truth product.h5"


def bad_scan(*words: str, flags: str = "", **changes: Any) -> Row:
    return Row(f"{RECONSTRUCT} {flags}", ("scan.npz", *words), lambda: scan_file(**changes))


def bad_file(make: Callable[[], Any], *words: str) -> Row:
    return Row(RECONSTRUCT, ("scan.npz", *words), make)


def cube(**changes: Any) -> Row:
    n = 8
    line = np.linspace(10, 40, n)
    return bad_scan(
        "as many patterns as pixels",
        "--axes MHW",
        "--axes HWM",
        diff3d=np.ones((n, n, n), np.uint16),
        xcoords=line,
        ycoords=line,
        probeGuess=np.ones((n, n)),
        **changes,
    )


def delete(*names: str) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        for name in names:
            del file[name]

    return change


ROWS: dict[str, Row] = {
    # the file as such
    "missing file": bad_file(lambda: None, "no such file"),
    "folder": bad_file(lambda: Path("scan.npz").mkdir(), "is a folder"),
    "empty file": bad_file(content(b""), "empty"),
    "garbage": bad_file(content(b"\x00garbage that is no archive"), "unknown kind"),
    "text": bad_file(content(b"y x counts\n1 2 3\n"), "unknown kind", "expected a scan"),
    "bzip2": bad_file(content(b"BZh91AY&SY"), "bunzip2"),
    "gzip": bad_file(content(b"\x1f\x8b\x08\x00"), "gunzip"),
    "pickle": bad_file(content(b"\x80\x04\x95\x10"), "pickle"),
    "single array": bad_file(single_array, "no scan positions"),
    "truncated NPZ": bad_file(lambda: cut(0.6), "truncated or damaged"),
    "NPZ of a few bytes": bad_file(lambda: cut(0.01), "truncated or damaged"),
    "truncated HDF5": Row("info product.h5", ("product.h5", "truncated"), lambda: product(keep=0.5)),
    "HDF5 of another layout": bad_file(
        lambda: h5py.File("scan.npz", "w").create_dataset("frames", data=[1]).file.close(), "frames", "expected"
    ),
    # its keys
    "no patterns": bad_scan("expected a scan", "diff3d", diff3d=None),
    "no x": bad_scan("xcoords missing", "one per pattern", xcoords=None),
    "no y": bad_scan("ycoords missing", ycoords=None),
    "no probe": Row(RECONSTRUCT, ("no probe", "--probe FILE", "--probe estimate"), lambda: scan_file(probeGuess=None)),
    "unknown probe key": bad_scan("no probe 'lens'", flags="--probe-key lens"),
    "pickled patterns": bad_scan("'diff3d'", "Python objects", diff3d=np.array([None], dtype=object)),
    "pickled positions": bad_scan("'xcoords'", "Python objects", xcoords=np.array([1.0] * M, dtype=object)),
    "pickled metadata": bad_scan("pickled object", "--domain counts", _metadata=np.array("{}", dtype=object)),
    "metadata no JSON": bad_scan("not JSON", _metadata=np.asarray("{broken")),
    "two pattern keys that differ": bad_scan("differ", diffraction=np.ones((M, N, N))),
    # shapes
    "more positions than patterns": bad_scan("7 positions", xcoords=np.arange(7.0), ycoords=np.arange(7.0)),
    "fewer positions than patterns": bad_scan("5 positions", xcoords=np.arange(5.0), ycoords=np.arange(5.0)),
    "x and y disagree": bad_scan("5 xcoords but 6 ycoords", xcoords=np.arange(5.0)),
    "positions of two axes": bad_scan("'xcoords' has shape", xcoords=np.ones((M, 2))),
    "patterns not square": bad_scan("square", diff3d=np.ones((M, N, N + 2), np.uint16)),
    "one pattern alone": bad_scan("three axes", diff3d=np.ones((N, N), np.uint16)),
    "grouped patterns": bad_scan("grouped", diff3d=np.ones((M, N, N, 4), np.uint16)),
    "M equals N": cube(),
    "empty scan": bad_scan(
        "scan is empty", diff3d=np.ones((0, N, N), np.uint16), xcoords=np.ones(0), ycoords=np.ones(0)
    ),
    "complex patterns": bad_scan("expected real numbers", diff3d=lambda a: a + 1j),
    "text patterns": bad_scan("expected real numbers", diff3d=np.full((M, N, N), "1")),
    # counts
    "domain not declared": bad_scan(
        "--domain counts", "--domain amplitude", "whole numbers, as counts are", _metadata=np.asarray("{}")
    ),
    "normalised amplitudes": bad_scan(
        "--scale", _metadata=np.asarray('{"measurement_domain": "normalized_amplitude"}')
    ),
    "NaN counts": bad_scan(
        "2 valid counts", "pattern 1, pixel (y 2, x 3)", "--mask-invalid", diff3d=with_(np.nan, (1, 2, slice(3, 5)))
    ),
    "infinite counts": bad_scan("1 valid counts", "value inf", diff3d=with_(np.inf, (0, 0, 0))),
    "negative counts": bad_scan("16 valid counts", "value -2", "--clip-negative", diff3d=with_(-2, (4, 7))),
    "negative integer counts": bad_scan("1 valid counts", "--clip-negative", diff3d=with_(-1, (4, 7, 1), np.int32)),
    "uint16 sentinel": bad_scan(
        "6 valid counts equal the largest number of uint16", diff3d=with_(65535, (slice(None), 1, 1), np.uint16)
    ),
    "uint32 sentinel": bad_scan(
        "largest number of uint32", "--mask-invalid", diff3d=with_(2**32 - 1, (0, 1, 1), np.uint32)
    ),
    "int32 sentinel": bad_scan(
        "largest number of int32", "--mask-invalid", diff3d=with_(2**31 - 1, (0, 1, 1), np.int32)
    ),
    "negative amplitudes": bad_scan("amplitudes are negative", flags="--domain amplitude", diff3d=with_(-1, (0, 0, 0))),
    "no photons": bad_scan("single photon", diff3d=np.zeros((M, N, N), np.uint16)),
    "nothing valid left": bad_scan(
        "every detector pixel is masked", flags="--mask-invalid", diff3d=np.full((M, N, N), np.nan)
    ),
    # mask, background, geometry
    "all masked": bad_scan("every detector pixel is masked", "inverted", mask=np.zeros((N, N), bool)),
    "mask of another shape": bad_scan("mask has shape", mask=np.ones((N, N + 1), bool)),
    "mask of bits": bad_scan("other than 0 and 1", mask=np.full((N, N), 0x200)),
    "background of another shape": bad_scan("background: has shape", background=np.ones((3, 3))),
    "negative background": bad_scan("background", "counts >= 0", background=-np.ones((N, N))),
    "impossible energy": bad_scan("energy_eV", "positive", energy_eV=-8000.0),
    "impossible orientation": bad_scan("orientation: found 9", orientation=9),
    # positions
    "positions not finite": bad_scan("1 positions are not finite", "pattern 2", xcoords=with_(np.nan, (2,), float)),
    "metres": bad_scan("look like metres", "--position-unit m", xcoords=lambda a: a * 1e-8, ycoords=lambda a: a * 1e-8),
    "metres without a geometry": bad_scan("--energy-eV", "--detector-pixel-m", flags="--position-unit m"),
    "all in one place": bad_scan("span of at least 1", xcoords=np.full(M, 20.0), ycoords=np.full(M, 20.0)),
    "huge canvas": bad_scan("limit 4e+08", "object pixels", xcoords=lambda a: a * 1e5, ycoords=lambda a: a * 1e5),
    # probe
    "zero probe": bad_scan(
        "probe: is zero everywhere", "--probe estimate", "--no-use-probe", probeGuess=np.zeros((N, N), complex)
    ),
    "probe of another size": bad_scan(
        "probe: has shape", "to match the patterns", probeGuess=np.ones((N + 2, N + 2), complex)
    ),
    "probe not square": bad_scan("probe 'probeGuess' has shape", probeGuess=np.ones((N, N + 2), complex)),
    "probe not finite": bad_scan("1 values are not finite", probeGuess=with_(np.nan, (3, 3), complex)),
    "probe file missing": Row(f"{RECONSTRUCT} --probe lens.npz", ("lens.npz", "no such file")),
    "probe file without a probe": Row(
        f"{RECONSTRUCT} --probe lens.npz",
        ("lens.npz", "holds no probe"),
        good_scan_and(lambda: np.savez("lens.npz", a=1)),
    ),
    "probe file of another size": Row(
        f"{RECONSTRUCT} --probe lens.npy",
        ("lens.npy", "expected 16 x 16"),
        good_scan_and(lambda: np.save("lens.npy", np.ones((8, 8)))),
    ),
    # truth and start
    "truth too small": bad_scan(
        "true object", "windows leave the object", "--no-use-truth", objectGuess=np.ones((25, 60), complex)
    ),
    "truth elsewhere": bad_scan(
        "true object", "windows leave the object", objectGuess=np.ones((60, 60), complex), objectOrigin=[15, 0]
    ),
    "truth not finite": bad_scan("'objectGuess'", "not finite", objectGuess=np.full((60, 60), np.nan)),
    "truth of several layers": bad_scan("3 layers", objectGuess=np.ones((3, 60, 60), complex)),
    "origin between pixels": bad_scan(
        "origin", "two integers", objectGuess=np.ones((60, 60), complex), objectOrigin=[0.5, 0]
    ),
    "start too small": Row(
        f"{RECONSTRUCT} --start start.npz",
        ("start.npz", "the initial object", "windows leave"),
        good_scan_and(lambda: start(20)),
    ),
    "start missing": Row(f"{RECONSTRUCT} --start start.npz", ("start.npz", "no such file")),
    # results
    "result where a scan is due": Row("reconstruct product.h5 --run run", ("product.h5", "expected a scan"), product),
    "scan where a result is due": Row("evaluate scan.npz --truth scan.npz", ("scan.npz", "expected a result")),
    "product without a probe": Row(
        EVALUATE, ("product.h5", "probe missing"), lambda: product(delete("diptych", "probe"))
    ),
    "product with damage in our group": Row(
        EVALUATE, ("product.h5", "damaged"), lambda: product(delete("diptych/positions"))
    ),
    "no truth to compare with": Row("evaluate product.h5", ("--truth FILE", "--scan FILE"), product),
    "a scan without truth as truth": Row(
        "evaluate product.h5 --truth scan.npz", ("scan", "no true object"), good_scan_and(product)
    ),
    "options of a scan for a result": Row(
        f"{EVALUATE} --domain counts", ("product.h5", "domain cannot apply"), product
    ),
    # options and names
    "unknown option": Row(f"{RECONSTRUCT} --epohcs 3", ("--epohcs",)),
    "unknown verb": Row("recontsruct scan.npz", ("recontsruct",)),
    "option out of range": Row(f"{RECONSTRUCT} --epochs 0", ("epochs", "greater than or equal to 1")),
    "option not a number": Row(f"{RECONSTRUCT} --epochs many", ("epochs", "many")),
    "unknown device": Row(f"{RECONSTRUCT} --device gpu", ("device 'gpu'", "expected auto, cpu, cuda")),
    "unknown choice": Row(f"{RECONSTRUCT} --engine magic", ("engine", "magic")),
    "YAML malformed": Row(
        f"{RECONSTRUCT} --config bad.yaml", ("bad.yaml", "YAML"), good_scan_and(content(b"a: [1", "bad.yaml"))
    ),
    "YAML no mapping": Row(
        f"{RECONSTRUCT} --config bad.yaml", ("bad.yaml", "mapping"), good_scan_and(content(b"- 1", "bad.yaml"))
    ),
    "YAML unknown option": Row(
        f"{RECONSTRUCT} --config bad.yaml", ("bad.yaml", "epohcs"), good_scan_and(content(b"epohcs: 3", "bad.yaml"))
    ),
    "YAML out of range": Row(
        f"{RECONSTRUCT} --config bad.yaml", ("bad.yaml", "seed"), good_scan_and(content(b"seed: -3", "bad.yaml"))
    ),
    "YAML missing": Row(f"{RECONSTRUCT} --config bad.yaml", ("bad.yaml", "cannot be read")),
    "output of an unknown suffix": Row(f"{RECONSTRUCT} --out result.csv", ("result.csv", ".h5")),
    "output into no folder": Row(f"{RECONSTRUCT} --out no/result.h5", ("does not exist",)),
    "unknown dataset": Row("fetch mona-lisa", ("mona-lisa", "siemens-star")),
    "simulation of an unknown object": Row("simulate --object teapot --out new.npz", ("teapot",)),
    "simulation too small": Row("simulate --size 2 --out new.npz", ("size",)),
}


def start(size: int) -> None:
    save(Reconstruction(Canvas(np.ones((size, size))), np.ones((1, N, N)), np.ones((1, 2))), "start.npz")


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_one_clear_message_and_no_result(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    row.make()
    before = sorted(tmp_path.rglob("*"))
    code = run(row.argv.split())
    said = capsys.readouterr()
    assert code == 2, said.err
    assert "Traceback" not in said.err + said.out
    # One line, and below it only commands to type, each after what it is for.
    assert all(line.startswith("  diptych ") or line.endswith(":") for line in said.err.splitlines()[1:]), said.err
    for words in row.words:
        assert words in said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_good_scan_behind_the_table_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scan_file()
    assert run(["info", "scan.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problem"] is None


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ("--domain counts", {"_metadata": np.asarray("{}")}),
        ("--mask-invalid", {"diff3d": with_(np.nan, (1, 2, 3))}),
        ("--clip-negative", {"diff3d": with_(-1, (1, 2, 3))}),
        ("--mask-invalid", {"diff3d": with_(65535, (slice(None), 1, 1), np.uint16)}),
        ("--no-use-truth", {"objectGuess": np.ones((25, 60), complex)}),
        ("--mask-means bad", {"mask": np.zeros((N, N), bool)}),
        ("--no-use-probe", {"probeGuess": np.zeros((N, N), complex)}),
        ("--axes HWM", {"diff3d": np.ones((M, M, M), np.uint16), "probeGuess": np.ones((M, M))}),
        (
            "--position-unit nm --energy-eV 8000 --distance-m 1 --detector-pixel-m 1e-4",
            {"xcoords": np.arange(M) * 500.0},
        ),
    ],
)
def test_the_remedy_that_a_message_names_works(
    flags: str, changes: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scan_file(**changes)
    assert run(["info", "scan.npz", "--json", *flags.split()]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "scan"
