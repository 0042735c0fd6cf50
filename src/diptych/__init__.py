"""diptych recovers images from indirect evidence.

The front door. Everything is loaded on first use, so that ``import diptych`` costs almost nothing.

Examples
--------
>>> import diptych
>>> scan = diptych.simulate(object="blocks", size=32, step=6.0, dose=1e6, seed=0)
>>> result = diptych.reconstruct(scan)
>>> diptych.evaluate(result, truth=scan.truth)["complex_error"] < 0.1
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.runtime.cpu import forking as _forking  # noqa: F401 - must be known before a process is forked
from diptych.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.errors import DiptychError, InputError, UnavailableError
    from diptych.ptycho.check import check
    from diptych.ptycho.datasets import fetch
    from diptych.ptycho.describe import describe
    from diptych.ptycho.evaluate import evaluate
    from diptych.ptycho.evaluate.compare import compare
    from diptych.ptycho.figures.overview import plot
    from diptych.ptycho.io import load, save
    from diptych.ptycho.io.exchange.conformance import validate
    from diptych.ptycho.io.exchange.transfer import convert
    from diptych.ptycho.neural.model import Model, load_model
    from diptych.ptycho.prepare.preparation import prepare
    from diptych.ptycho.reconstruct import reconstruct
    from diptych.ptycho.scan import Canvas, Geometry, Reconstruction, Scan
    from diptych.ptycho.simulate import simulate
    from diptych.ptycho.train import train

__version__ = "0.1.0"

_MODULES = {
    "DiptychError": "diptych.errors",
    "InputError": "diptych.errors",
    "UnavailableError": "diptych.errors",
    "Canvas": "diptych.ptycho.scan",
    "Geometry": "diptych.ptycho.scan",
    "Model": "diptych.ptycho.neural.model",
    "Reconstruction": "diptych.ptycho.scan",
    "Scan": "diptych.ptycho.scan",
    "check": "diptych.ptycho.check",
    "compare": "diptych.ptycho.evaluate.compare",
    "convert": "diptych.ptycho.io.exchange.transfer",
    "describe": "diptych.ptycho.describe",
    "evaluate": "diptych.ptycho.evaluate",
    "fetch": "diptych.ptycho.datasets",
    "load": "diptych.ptycho.io",
    "load_model": "diptych.ptycho.neural.model",
    "plot": "diptych.ptycho.figures.overview",
    "prepare": "diptych.ptycho.prepare.preparation",
    "reconstruct": "diptych.ptycho.reconstruct",
    "save": "diptych.ptycho.io",
    "simulate": "diptych.ptycho.simulate",
    "train": "diptych.ptycho.train",
    "validate": "diptych.ptycho.io.exchange.conformance",
}

__all__ = [
    "Canvas",
    "DiptychError",
    "Geometry",
    "InputError",
    "Model",
    "Reconstruction",
    "Scan",
    "UnavailableError",
    "check",
    "compare",
    "convert",
    "describe",
    "evaluate",
    "fetch",
    "load",
    "load_model",
    "plot",
    "prepare",
    "reconstruct",
    "save",
    "simulate",
    "train",
    "validate",
]


__getattr__, __dir__ = lazy_names(__name__, _MODULES, globals())
