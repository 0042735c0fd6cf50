"""Engines by name: options of each, flat mappings, records of earlier versions, and an engine from outside."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import Field

from diptych.errors import InputError
from diptych.ptycho.engines.base import ENGINES, EngineExtension, EngineInput
from diptych.ptycho.engines.builtin import build_rpie
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.reconstruct import reconstruct
from diptych.runtime.options import Options
from small_runs import CPU, same, simulated


def test_the_options_of_an_engine_stand_beside_the_others() -> None:
    options = ReconstructionOptions.build({"engine": "rpie", "alpha": 0.1, "seed": 4})
    assert options.own("engine").alpha == 0.1
    assert options.with_changes(momentum=0.0).own("engine").momentum == 0.0
    assert options.resolved()["alpha"] == 0.1
    assert options.resolved()["batch"] is None


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"engine": "dm", "alpha": 0.1}, "alpha is not an option of engine dm; it belongs to engine auto"),
        ({"engine": "epie", "momentum": 0.0}, "momentum is not an option of engine epie"),
        ({"engine": "sart"}, "expected one of auto, ml, rpie, epie, dm, raar, network"),
        ({"engine": "rpie", "alpha": 3}, "alpha = 3"),
        ({"speed": 1}, "unknown option 'speed'"),
    ],
)
def test_wrong_options_are_named(values: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as caught:
        ReconstructionOptions.build(values)
    assert part in str(caught.value)


def test_records_that_list_the_options_of_all_engines_are_read() -> None:
    """Results written before list every option, at its default where the engine has none of that name."""
    record = {"engine": "dm", "batch": 8, "alpha": None, "step": None, "momentum": None, "likelihood": "auto"}
    options = ReconstructionOptions.build(record)
    assert options.own("engine").batch == 8
    assert ReconstructionOptions.build(options.resolved()) == options.build(options.resolved())
    for name in ENGINES.names():
        assert ReconstructionOptions.build(ReconstructionOptions(engine=name).resolved()).engine == name


def test_options_need_no_torch() -> None:
    code = """
import sys
from diptych.ptycho.engines.base import ENGINES
from diptych.ptycho.engines.options import ReconstructionOptions
ENGINES.option_models(), ReconstructionOptions(engine="rpie", alpha=0.2).resolved()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class FixedOptions(Options):
    """Of the engine below."""

    gentle: bool = Field(False, description="Half steps.")


def build(given: EngineInput, options: FixedOptions) -> Any:
    from diptych.ptycho.engines.builtin import PieOptions

    return build_rpie(given, PieOptions(step=0.5 if options.gentle else None))


def test_an_engine_from_outside_runs_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINES, "_registered", {})
    ENGINES.register(EngineExtension("mine", "rPIE by another name.", FixedOptions, build))
    scan = simulated()
    mine = reconstruct(scan, engine="mine", gentle=True, epochs=2, execution=CPU)
    assert mine.provenance["engine"] == "mine"
    assert mine.provenance["options"]["gentle"] is True
    assert same(mine, reconstruct(scan, engine="rpie", step=0.5, epochs=2, execution=CPU))


@pytest.mark.parametrize("how", ["fourier", "round"])
def test_records_that_call_subpixel_positions_are_read(how: str) -> None:
    assert ReconstructionOptions.build({"engine": "rpie", "positions": how}).subpixel == how
    with pytest.raises(InputError, match="unknown option 'positions'"):
        ReconstructionOptions.build({"positions": "scan.csv"})
