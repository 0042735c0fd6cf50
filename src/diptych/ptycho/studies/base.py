"""What a study is: options, cells, one function that computes a cell, and the tables and figure made of all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field

from diptych.errors import InputError
from diptych.runtime.options import Options
from diptych.runtime.registry import Extension, Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diptych.ptycho.studies.report import Table

_KEY = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,119}"


class StudyOptions(Options):
    """Options that every study has; a study's own options extend them."""

    size: Literal["quick", "standard", "full"] = Field(
        "standard",
        description="Size of the grid: quick (minutes, to see that it works; no evidence), standard (for a first "
        "answer) or full (for a publication). Options of the grid that are set explicitly win over it.",
    )
    seed: int = Field(0, ge=0, description="First seed; repeats use the next ones.")


@dataclass(frozen=True)
class Cell:
    """One independent job of a study.

    Parameters
    ----------
    key : str
        Unique and stable name: the same parameters give the same key in every run. It is the name of the cell's file:
        letters, digits and any of ``_ . + -``.
    parameters : mapping of str to JSON value
        Everything, beside the options, that decides the cell's result. They are columns of the result table.
    """

    key: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not re.fullmatch(_KEY, self.key):
            raise InputError(
                f"cell key {self.key!r}",
                "cannot be the name of a file",
                "up to 120 letters, digits or any of _ . + -, the first one a letter or digit",
            )


@dataclass(frozen=True)
class CellResult:
    """The result of one cell.

    Parameters
    ----------
    key : str
        Key of the cell.
    values : mapping of str to JSON value
        What was measured; None where a value is undefined. Empty when the cell failed.
    seconds : float
        Wall-clock time of the cell.
    error : str, optional
        Why the cell failed; None when it succeeded.
    traceback : str, optional
        Where it failed, for errors that diptych does not raise on purpose.
    """

    key: str
    values: Mapping[str, Any]
    seconds: float
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True)
class Check:
    """One statement about a finished study, and whether it held.

    Parameters
    ----------
    name : str
        What must hold, as a sentence.
    held : bool
        Whether it did.
    found : str
        The numbers or names it was judged by.
    """

    name: str
    held: bool
    found: str = ""


@dataclass(frozen=True)
class Estimate:
    """What one cell is predicted to need.

    Parameters
    ----------
    seconds : float
        Wall-clock time on one CPU core.
    memory_bytes : int
        Peak memory.
    """

    seconds: float
    memory_bytes: int


class Cancel(Protocol):
    """A token that another thread may use to stop a study."""

    @property
    def requested(self) -> bool:
        """True once the study should stop."""


Images = Mapping[str, Callable[[], "Figure"]]
"""Figures by file name, each drawn when it is called."""

Executor = Callable[[Callable[[Cell], CellResult], Sequence[Cell]], Iterable[CellResult]]
"""Maps cells to their results, in any order, yielding each as soon as it is there.

The function it is given never raises an error of the cell. When the study is cancelled, no further result is asked for
and the iterator is closed.
"""


@dataclass(frozen=True)
class Study(Extension):
    """A study, as the registry holds it. The functions are called with the study's own options.

    Parameters
    ----------
    name, help, options
        See :class:`~diptych.runtime.registry.Extension`; ``options`` extends :class:`StudyOptions`.
    cells : callable
        ``cells(options)`` lists the cells, in the order of the result table.
    run : callable
        ``run(cell, options, execution)`` computes one cell and returns its values (JSON values; NaN is stored as null).
        It depends on its arguments alone, so that cells may run in any order, anywhere.
    estimate : callable
        ``estimate(cell, options)`` predicts time and memory of a cell.
    tables : callable
        ``tables(rows, options)`` summarises the rows of the cells that succeeded (parameters and values in one mapping
        each), for instance as means over seeds. The first table is shown in the summary.
    plot : callable, optional
        ``plot(tables, options)`` draws them.
    keeps : bool
        ``run`` gets the cell's own folder as a fourth argument, and may keep files there (images, models).
    figures : callable, optional
        ``figures(rows, options, folder_of)`` returns more figures; ``folder_of(row)`` is the folder of that row's cell.
        One that cannot be drawn is reported, and fails nothing.
    checks : callable, optional
        ``checks(rows, options)`` states what must hold for the results to be trusted, beside what holds of any study.
    version : str
        Raised by the author when the same options no longer give the same results; older folders are then not resumed.
    """

    cells: Callable[[Any], Sequence[Cell]]
    run: Callable[..., Mapping[str, Any]]
    estimate: Callable[[Cell, Any], Estimate]
    tables: Callable[[Sequence[Mapping[str, Any]], Any], Sequence[Table]]
    plot: Callable[[Sequence[Table], Any], Figure] | None = None
    keeps: bool = False
    figures: Callable[[Sequence[Mapping[str, Any]], Any, Callable[[Mapping[str, Any]], Path]], Images] | None = None
    checks: Callable[[Sequence[Mapping[str, Any]], Any], Sequence[Check]] | None = None
    version: str = "1"


STUDIES: Registry[Study] = Registry(
    "study",
    "diptych.studies",
    Study,
    {
        "dose-response": "diptych.ptycho.studies.dose_response:STUDY",
        "grid-lines": "diptych.ptycho.studies.grid_lines:STUDY",
        "overlap": "diptych.ptycho.studies.overlap:STUDY",
        "generalisation": "diptych.ptycho.studies.generalisation:STUDY",
        "shootout": "diptych.ptycho.studies.shootout:STUDY",
        "frontier": "diptych.ptycho.studies.frontier:STUDY",
    },
)
"""The studies by name."""
