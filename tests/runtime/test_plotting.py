"""An unknown MPLBACKEND costs a warning, and no figure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys
from diptych.ptycho.figures.overview import save_figure
from matplotlib.figure import Figure
from pathlib import Path
save_figure(Figure(), Path("figure.png"))
print(os.environ["MPLBACKEND"])
"""


@pytest.mark.parametrize(("name", "warned"), [("nonsense", True), ("Qt4Agg", True), ("agg", False), ("TkAgg", False)])
def test_figures_are_drawn_whatever_the_backend(tmp_path: Path, name: str, warned: bool) -> None:
    environment = {**os.environ, "MPLBACKEND": name}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, name), done.stderr
    assert (tmp_path / "figure.png").stat().st_size > 100
    assert (f"MPLBACKEND={name}" in done.stderr) == warned
