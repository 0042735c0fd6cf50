"""One extension of each kind, as an installed package would bring them; nothing here imports torch at the top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from diptych.prefer.decoders import DecoderKind
from diptych.prefer.propose.registry import PROPOSALS, ProposalMethod
from diptych.prefer.utility.registry import UTILITIES, UtilityModel
from diptych.ptycho.engines.base import ENGINES, EngineExtension
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.layouts.layout import Layout
from diptych.ptycho.networks.registry import Network
from diptych.ptycho.scan import Scan
from diptych.ptycho.studies.base import Cell, Estimate, Study, StudyOptions
from diptych.ptycho.studies.report import Table
from diptych.runtime.options import Options
from diptych.runtime.registry import NoOptions

SIDE = 16


def read(file: Any, load: Any) -> Scan:
    with np.load(file.path, allow_pickle=False) as arrays:
        return Scan(arrays["dummy_counts"], arrays["dummy_positions"], arrays["dummy_probe"], name="dummy scan")


FORMAT = Format(
    "dummy",
    "Scans of the dummy beamline.",
    NoOptions,
    holds="scan",
    matches=lambda file: file.source is not None and "dummy_counts" in file.source.names(),
    read=read,
)


class NetworkOptions(Options):
    dummy_start: float = Field(0.5, gt=0, description="Initial transmission of the dummy network.")


def build_network(size: int, scale: float, options: NetworkOptions) -> Any:
    import torch

    class Constant(torch.nn.Module):
        """The same trainable transmission everywhere."""

        def __init__(self) -> None:
            super().__init__()
            self.transmission = torch.nn.Parameter(torch.tensor([options.dummy_start, 0.1]))

        def forward(self, exposure: Any) -> Any:
            value = torch.view_as_complex(self.transmission)
            return value.expand(exposure.counts.shape)

    return Constant()


NETWORK = Network("dummy", "A constant.", NetworkOptions, build=build_network)


class EngineOptions(Options):
    dummy_alpha: float = Field(0.2, gt=0, le=1, description="Regularisation of the dummy engine.")


def build_engine(given: Any, options: EngineOptions) -> Any:
    rpie = ENGINES["rpie"]
    assert rpie.build is not None
    return rpie.build(given, rpie.options.build({"alpha": options.dummy_alpha}))


ENGINE = EngineExtension("dummy", "rPIE under another name.", EngineOptions, build=build_engine)


class DummyStudyOptions(StudyOptions):
    dummy_cells: int = Field(2, ge=1, description="Cells of the dummy study.")


STUDY = Study(
    "dummy",
    "Squares of numbers.",
    DummyStudyOptions,
    cells=lambda options: [Cell(f"n{i}", {"n": i}) for i in range(options.dummy_cells)],
    run=lambda cell, options, execution: {"square": cell.parameters["n"] ** 2},
    estimate=lambda cell, options: Estimate(0.01, 1_000_000),
    tables=lambda rows, options: [Table("sum", "Sum of the squares.", [{"sum": sum(row["square"] for row in rows)}])],
)


class DecoderOptions(Options):
    dummy_dimension: int = Field(256, ge=16, description="Length of the latent of the dummy decoder.")


def build_decoder(options: DecoderOptions, prompt: str | None, negative_prompt: str | None) -> Any:
    from diptych.prefer.decoders.base import BaseDecoder, as_bytes
    from diptych.prefer.judgement import Frame

    class Grey(BaseDecoder):
        """A grey image as bright as the first numbers of the latent."""

        def _decode(self, latent: Any) -> Any:
            return as_bytes(np.full((8, 8, 3), 0.5 + 0.1 * float(latent[:16].mean()), np.float32))

    return Grey("dummy", "sphere", options.dummy_dimension, Frame(prompt or "", width=8, height=8))


DECODER = DecoderKind("dummy", "Greys.", DecoderOptions, "sphere", "optional", build_decoder)


class UtilityOptions(Options):
    dummy_note: str = Field("", description="Written to a file by the dummy utility model.")


def build_utility(options: UtilityOptions, cube: Any) -> Any:
    if options.dummy_note:
        Path(options.dummy_note).touch()
    ridge = UTILITIES["ridge"]
    return ridge.build(ridge.options(), cube)


UTILITY = UtilityModel("dummy", "Ridge regression under another name.", UtilityOptions, "sphere", build_utility)


def build_proposal(options: NoOptions) -> Any:
    around = PROPOSALS["tempered"]
    return around.build(around.options())


PROPOSAL = ProposalMethod("dummy", "Tempered draws under another name.", NoOptions, "sphere", build_proposal)

LAYOUT = Layout(
    name="dummy-beamline", patterns="raw/frames", domain="counts", positions="raw/stage", position_unit="px"
)
