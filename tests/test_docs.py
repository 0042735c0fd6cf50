"""The documentation is true: code on the pages runs, commands parse, names, figures, files and links exist."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

import diptych
from diptych.cli import VERBS, make_app
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.runtime.option_fields import option_names

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
}
GROUPS = {
    f"diptych.{kind}"
    for kind in ("formats", "layouts", "networks", "engines", "studies", "decoders", "utilities", "proposals")
}
"""Entry-point groups, which look like names of modules."""
LIMIT = 300_000
"""Bytes of a committed picture, at most."""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def links(text: str) -> Iterator[str]:
    """Targets of links and pictures inside the project, without their anchors."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            yield target.split("#")[0]


def commands() -> list[tuple[str, str]]:
    """Commands in blocks, and those with arguments that stand in a sentence; ``VERB`` stands for any."""
    found = []
    for page, text in PAGES.items():
        lines = [line for block in blocks(text, "sh") for line in block.splitlines() if line.startswith("diptych ")]
        sentences = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        lines += [" ".join(line.split()) for line in re.findall(r"`(diptych [^`]*\s[^`]*)`", sentences)]
        found += [(page, line) for line in lines if "VERB" not in line]
    return found


@lru_cache(maxsize=1)
def reader() -> dict[str, Any]:
    """The arrays that the pages assume a reader has."""
    scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, dose=1e5, seed=0)
    assert scan.probe is not None
    return {
        "counts": scan.counts,
        "positions": scan.positions,
        "positions_m": scan.positions * 1e-7,
        "probe": scan.probe[0],
        "bad_pixels": np.zeros((16, 16), bool),
        "scan": scan,
        "result": diptych.reconstruct(scan, epochs=3),
    }


@pytest.mark.parametrize(
    "page",
    [
        # Several limits and error bars take many seconds.
        pytest.param(page, marks=pytest.mark.integration if page == "docs/limit.md" else ())
        for page, text in PAGES.items()
        if blocks(text, "python")
    ],
)
def test_code_on_the_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = dict(reader())
    names["result"].save("result.h5")
    complete = {"README.md", "docs/index.md", "docs/own-scan.md", "docs/api.md"}
    if page not in complete:
        # Later pages omit the import.
        names["diptych"] = diptych
    for number, block in enumerate(blocks(PAGES[page], "python"), 1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    if page in ("README.md", "docs/index.md"):
        assert isinstance(names["result"], diptych.Reconstruction)
        assert len(names["result"].positions) == len(names["counts"])
        assert Path("result.png").stat().st_size > 10_000


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_on_the_page_parses(page: str, line: str) -> None:
    arguments = shlex.split(line, comments=True)[1:]
    assert arguments[0] in VERBS
    make_app().parse_args(arguments, exit_on_error=False, print_error=False)


def test_every_verb_has_a_section_with_an_example() -> None:
    sections = dict(
        re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGES["docs/command-line.md"], flags=re.MULTILINE | re.DOTALL)
    )
    assert list(sections) == list(VERBS)
    for verb, text in sections.items():
        assert any(line.startswith(f"diptych {verb}") for block in blocks(text, "sh") for line in block.splitlines()), (
            verb
        )


def test_every_name_of_the_front_door_is_in_the_reference() -> None:
    missing = [name for name in diptych.__all__ if not re.search(rf"\b{name}\b", PAGES["docs/api.md"])]
    assert missing == []


def tree(text: str) -> Iterator[str]:
    """Paths of the map in the README, relative to the project; folders end with a slash."""
    parents: list[tuple[int, str]] = []
    for line in blocks(text.partition("## Map of the source")[2], "text")[0].splitlines():
        name = line.split()[0]
        indent = len(line) - len(line.lstrip())
        parents = [(depth, parent) for depth, parent in parents if depth < indent]
        path = "".join(parent for _, parent in parents) + name
        if name.endswith("/"):
            parents.append((indent, name))
        yield path


def test_map_in_the_readme_is_true() -> None:
    paths = list(tree(PAGES["README.md"]))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    package = ROOT / "src" / "diptych"
    rooms = {each.parent for pattern in ("*/__init__.py", "*/*/__init__.py") for each in package.glob(pattern)}
    rooms = {each for each in rooms if package / "cli" not in each.parents and package / "runtime" not in each.parents}
    assert sorted(
        f"{each.relative_to(ROOT).as_posix()}/" for each in rooms if "__pycache__" not in each.parts
    ) == sorted(
        path for path in paths if path.startswith("src/diptych/") and path.endswith("/") and path != "src/diptych/"
    )


@pytest.mark.parametrize("page", PAGES)
def test_dotted_names_on_the_page_exist(page: str) -> None:
    names = {
        *re.findall(r"`(diptych(?:\.\w+)+)`", PAGES[page]),
        *re.findall(r"^::: ([\w.]+)", PAGES[page], re.MULTILINE),
    }
    missing = []
    for name in sorted(names):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert set(missing) <= GROUPS


def test_navigation_and_pages_are_the_same() -> None:
    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for each in entry.values() if isinstance(entry, dict) else entry:
                yield from files(each)

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(files(site["nav"])) == sorted(path.name for path in DOCS.glob("*.md"))
    for hook in site["hooks"]:
        assert (ROOT / hook).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    assert [target for target in links(PAGES[page]) if not (folder / target).exists()] == []


def test_pictures_are_small_and_all_used() -> None:
    used = {Path(target).name for text in PAGES.values() for target in links(text) if target.endswith(".png")}
    pictures = {path.name: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    assert pictures.keys() == used
    assert {name: size for name, size in pictures.items() if size > LIMIT} == {}
    benchmarks = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py"))
    scripts = [*DOCS.glob("[!m]*_pictures.py"), *(ROOT / "tests" / "integration" / "studio").glob("*.py")]
    made = benchmarks + "".join(path.read_text(encoding="utf-8") for path in scripts)
    measured = {name for name in pictures if f'"{name}"' in made}
    assert pictures.keys() - measured == {f"{name}.png" for name in script("make_pictures").PICTURES}


def test_option_tables_hold_every_option() -> None:
    tables = script("option_tables")
    marks = [mark for text in PAGES.values() for mark in re.findall(r"<!-- options: .*?-->", text)]
    assert len(marks) >= 9
    for mark in marks:
        assert tables.on_page_markdown(mark).startswith("| option | value | default | meaning |")
    mine = tables.table(ReconstructionOptions)
    assert re.findall(r"^\| `(\w+)`", mine, flags=re.MULTILINE) == list(option_names(ReconstructionOptions))
    assert "`auto`, `ml`, `rpie`, `epie`, `dm`, `raar`, `network` | `auto` |" in mine


def script(name: str) -> ModuleType:
    """Import a script of the docs folder, which is not a package."""
    specification = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_kind_of_flag_is_in_the_table() -> None:
    from diptych.ptycho.engines.flags.base import KINDS

    table = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8").split("\n## Flags\n")[1]
    assert [kind for kind in KINDS if f"\n| `{kind}` |" not in table] == []
