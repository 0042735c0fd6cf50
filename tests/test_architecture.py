"""The order of the rooms: what may import what, lazy imports included, read from the sources."""

from __future__ import annotations

import ast
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "src"

# A module imports only what stands above it in this list (or beside it, in the same room). The longest match counts.
ORDER = (
    ("diptych.errors",),
    ("diptych.runtime",),
    ("diptych",),
    ("diptych.ptycho.validation",),
    ("diptych.ptycho.geometry",),
    ("diptych.ptycho.scan", "diptych.ptycho"),
    ("diptych.ptycho.physics",),
    ("diptych.ptycho.io",),
    ("diptych.ptycho.prepare",),
    ("diptych.ptycho.simulate", "diptych.ptycho.datasets"),
    ("diptych.ptycho.networks",),
    ("diptych.ptycho.neural",),
    ("diptych.ptycho.engines",),
    ("diptych.ptycho.error_bars",),
    ("diptych.ptycho.reconstruct", "diptych.ptycho.check", "diptych.ptycho.describe"),
    ("diptych.ptycho.evaluate",),
    ("diptych.ptycho.figures",),
    ("diptych.ptycho.train", "diptych.ptycho.plugins"),
    ("diptych.ptycho.studies",),
    ("diptych.ptycho.jobs",),
    ("diptych.prefer.judgement", "diptych.prefer"),
    ("diptych.prefer.spaces",),
    ("diptych.prefer.ledger",),
    ("diptych.prefer.utility",),
    ("diptych.prefer.propose",),
    ("diptych.prefer.decoders",),
    ("diptych.prefer.match",),
    ("diptych.prefer.exchange", "diptych.prefer.options", "diptych.prefer.person"),
    ("diptych.prefer.session",),
    ("diptych.studio",),
    ("diptych.cli",),
    ("diptych.__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports anywhere, but for those imported for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            found.update(name if name in known else node.module for name in whole)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found & known.keys()


def room(module: str) -> str:
    """The longest entry of the order that the module lies in."""
    return max((name for name in RANK if module == name or module.startswith(name + ".")), key=len)


KNOWN = modules()


@lru_cache(maxsize=1)
def graph() -> dict[str, set[str]]:
    """Each module, and those that it imports."""
    return {name: imports(path, KNOWN) - {name} for name, path in KNOWN.items()}


def test_no_circle_of_files() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail("circle: " + " -> ".join(error.args[1]))


def test_arrows_follow_the_order_of_rooms() -> None:
    against = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if room(name) != room(other) and RANK[room(name)] <= RANK[room(other)]
    ]
    assert not against, "\n".join(against)


def test_prefer_knows_ptycho_only_in_the_reconstruction_decoder() -> None:
    knowing = {
        name
        for name, others in graph().items()
        if name.startswith("diptych.prefer") and any(other.startswith("diptych.ptycho") for other in others)
    }
    assert knowing <= {"diptych.prefer.decoders.reconstruction"}


@pytest.mark.parametrize("folder", sorted({path.parent for path in KNOWN.values()}), ids=lambda p: p.name)
def test_folders_are_not_flat(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= 14


@pytest.mark.parametrize("path", sorted(KNOWN.values()), ids=lambda p: str(p.relative_to(SOURCES)))
def test_files_fit_the_head(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
