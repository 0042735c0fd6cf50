"""Help is complete and cheap."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from diptych import __version__
from diptych.cli import VERBS
from diptych.runtime.option_fields import option_fields


def flat(text: str) -> str:
    """Text without the box drawing and the white space of the help page."""
    return re.sub(r"\s+", "", re.sub(r"[│╭╮╰╯─]", "", text))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The help page of each verb, from one process that must not have imported anything heavy."""
    program = (
        "import sys\nfrom diptych.cli import VERBS, run\n"
        "for verb in VERBS:\n    print('\\f' + verb)\n    assert run([verb, '--help']) == 0\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'skimage', 'h5py'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "400"},
    ).stdout
    return {page.split("\n", 1)[0]: page for page in out.split("\f")[1:]}


def test_every_verb_has_a_page(pages: dict[str, str]) -> None:
    assert set(pages) == set(VERBS)


def test_every_option_shows_its_flag_its_description_and_its_default(
    pages: dict[str, str], verb: str, model: type[Any], name: str
) -> None:
    field = next(each for each in option_fields(model) if each.name == name)
    page = flat(pages[verb])
    assert "--" + name.replace("_", "-") in page
    assert flat(field.help) in page
    assert flat(field.group) in page
    if field.default not in (None, ""):
        assert flat(f"[default: {field.default}]") in page[page.index(flat(field.help)) :]


def test_choices_and_limits_are_shown(pages: dict[str, str]) -> None:
    page = flat(pages["reconstruct"])
    assert flat("[choices: auto, ml, rpie, epie, dm, raar, network]") in page
    assert flat("engines auto and ml). [>= 1, <= 32] [choices: auto]") in page


def test_every_verb_takes_json_and_debug(pages: dict[str, str], verb: str) -> None:
    assert "--json" in pages[verb]
    assert "--debug" in pages[verb]


def test_the_front_page_lists_the_verbs_without_loading_them() -> None:
    program = (
        "import sys\nfrom diptych.cli import run\nassert run(['--help']) == 0\nassert run(['--version']) == 0\n"
        "heavy = {'numpy', 'torch', 'diptych.cli.scans'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for verb, (_, summary) in VERBS.items():
        assert verb in out
        assert flat(summary) in flat(out)
    assert out.strip().endswith(__version__)


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "diptych", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == __version__
