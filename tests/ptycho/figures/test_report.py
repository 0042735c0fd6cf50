"""The report: complete, self-contained, and with every text of a file escaped."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.evaluate import Metrics, fourier_ring_correlation
from diptych.ptycho.figures.report import content, page
from diptych.ptycho.jobs import run_reconstruction
from diptych.ptycho.repeat import command_line, python
from diptych.ptycho.scan import Reconstruction, Scan

HOSTILE = '"><script src="https://evil.example/x.js">alert(1)</script><img src=x onerror=alert(2)>$\\foo$\u202e\x00'
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "ul", "li", "pre", "code"),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"),
}


class Reader(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, dose=1e5, seed=0)


@pytest.fixture(scope="module")
def result(scan: Scan) -> Reconstruction:
    return diptych.reconstruct(scan, engine="rpie", epochs=6, seed=3)


def written(result: Reconstruction, folder: Path, **rest: object) -> Reader:
    return Reader(result.report(folder / "report.html", **rest).read_text(encoding="utf-8"))


def test_it_states_choices_and_quality_in_one_file_without_scripts(
    result: Reconstruction, scan: Scan, tmp_path: Path
) -> None:
    marked = replace(result, flags=("poor fit: found something. Try this.",), error=np.full(result.object.shape, 0.25))
    metrics = diptych.evaluate(result, truth=scan.truth)
    noise = np.random.default_rng(0).normal(size=(2, 64, 64))
    curve = fourier_ring_correlation(noise[0], noise[0] + 0.5 * noise[1])
    with_curve = Metrics(metrics, metrics.details, curves={"frc": curve})
    found = written(marked, tmp_path, scan=scan, metrics=with_curve)
    for wanted in ("rpie", "all 6 epochs done", "Probe modes", "poor fit: found something. Try this.", "complex_error"):
        assert wanted in found.text
    assert "0.25 median standard error" in " ".join(found.text.split())
    assert "--engine rpie --epochs 6 --seed 3" in found.text
    assert "allow more (--epochs)" in found.text
    linking = [attributes for _, attributes in found.elements if attributes.keys() & {"href", "action", "srcset"}]
    assert not linking
    policy = next(a["content"] for tag, a in found.elements if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    pictures = [attributes for tag, attributes in found.elements if tag == "img"]
    assert len(pictures) == 3
    assert all(attributes["alt"] and attributes["src"].startswith("data:image/png;base64,") for attributes in pictures)


def test_hostile_texts_stay_texts(result: Reconstruction, tmp_path: Path) -> None:
    """In names, flags, provenance of any key and type, and file names."""
    load = [{"part": HOSTILE, "read as": HOSTILE, "from": HOSTILE}, HOSTILE, None]
    run = {"inputs": [{"path": HOSTILE, "sha256": HOSTILE}], "versions": {HOSTILE: HOSTILE}, "commit": HOSTILE}
    about = {
        **dict.fromkeys(("scan", "engine", "stop_reason", "device", "probe_start", HOSTILE), HOSTILE),
        **{"load": load, "run": run, "left_out": {HOSTILE: HOSTILE}, "start": {"why": HOSTILE, "object": HOSTILE}},
    }
    found = written(replace(result, name=HOSTILE, flags=(HOSTILE,), provenance=about), tmp_path)
    assert {tag for tag, _ in found.elements} <= ALLOWED
    attributes = {name for _, each in found.elements for name in each}
    assert attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "scope", "alt", "src"}
    assert found.text.count("<script src=") >= 12, "hostile texts are shown, not dropped"
    assert "\u202e" not in found.text
    assert "\x00" not in found.text


@pytest.mark.parametrize("key", ["load", "run", "options", "start", "left_out", "counts_per_photon", "held_out_fit"])
@pytest.mark.parametrize("value", [None, "text", 3, [1], {"a": 1}], ids=str)
def test_a_record_of_another_shape_is_no_error(result: Reconstruction, key: str, value: object) -> None:
    odd = replace(result, provenance={**result.provenance, key: value})
    for make in (content.chosen, content.readings, content.left_out, content.quality, content.origin):
        make(odd)
    content.next_steps(odd, resolution=False)
    assert command_line(content.arguments(odd)).startswith("diptych reconstruct ")


def test_what_it_repeats_parses_as_it_was_run(result: Reconstruction) -> None:
    name = "it's a $(touch x) scan.npz"
    run = {"inputs": [{"path": name}], "load_options": {"focus_distance_m": 0.004, "flip_y": True}}
    arguments = content.arguments(replace(result, provenance={**result.provenance, "run": run}))
    words = shlex.split(command_line(arguments))
    assert words[2] == name
    assert words[words.index("--focus-distance-m") + 1] == "0.004"
    assert "--flip-y" in words
    compile(python(arguments), "repeat", "exec")
    assert re.search(r"engine='rpie', epochs=6, seed=3", python(arguments))


def test_what_a_result_does_not_record_is_not_known(result: Reconstruction) -> None:
    bare = Reconstruction(result.object, result.probe, result.positions)
    rows = {name: value for name, value, _ in content.chosen(bare)}
    assert rows["Engine"] == rows["Device"] == "not known"
    assert content.arguments(bare)["file"] == "SCAN"
    assert content.readings(bare) == content.origin(bare) == []


def test_wrong_arguments_are_named(result: Reconstruction, scan: Scan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected \.html"):
        result.report(tmp_path / "report.pdf")
    with pytest.raises(InputError, match="got a Scan"):
        diptych.report(scan, tmp_path / "report.html")


def test_direction_and_control_characters_are_replaced() -> None:
    assert page.text("a\u202eb\x07<c>") == "a\ufffdb\ufffd&lt;c&gt;"


@pytest.mark.integration
def test_a_run_writes_it_with_the_options_that_the_file_was_read_with(scan: Scan, tmp_path: Path) -> None:
    file = diptych.save(scan, tmp_path / "scan.npz")
    how = {"engine": "rpie", "epochs": 2}
    done = run_reconstruction(file, run=tmp_path / "run", load={"swap_xy": True}, options=how, report=True)
    found = Reader(Path(done.data["report"]).read_text(encoding="utf-8")).text
    assert "diptych reconstruct scan.npz --swap-xy --engine rpie --epochs 2" in found
    assert "SHA-256" in found
    assert "complex_error" in found
