"""Studies: a quantity measured over a grid of conditions, as many independent cells, in a folder that can be resumed.

:func:`run_study` runs one by its name; :data:`STUDIES` is the registry of the names. A package adds a study by an entry
point of the group ``diptych.studies`` that names a :class:`Study`.
"""

from diptych.ptycho.studies.base import STUDIES, Cancel, Cell, CellResult, Estimate, Executor, Study, StudyOptions
from diptych.ptycho.studies.report import StudyRun, Table
from diptych.ptycho.studies.runner import run_study, serial

__all__ = [
    "STUDIES",
    "Cancel",
    "Cell",
    "CellResult",
    "Estimate",
    "Executor",
    "Study",
    "StudyOptions",
    "StudyRun",
    "Table",
    "run_study",
    "serial",
]
