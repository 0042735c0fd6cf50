"""Job functions of the ptychography panel: a verb in a run directory, for the command line, programs and browser apps.

Each takes values that JSON can hold (or option objects) and a :class:`~diptych.runtime.jobs.context.JobContext`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.ptycho.jobs.batch import run_batch
    from diptych.ptycho.jobs.comparison import run_comparison
    from diptych.ptycho.jobs.reconstruction import run_reconstruction
    from diptych.ptycho.jobs.speed import network_speed
    from diptych.ptycho.jobs.study import run_study_job
    from diptych.ptycho.jobs.training import run_training

_MODULES = {
    "network_speed": "diptych.ptycho.jobs.speed",
    "run_batch": "diptych.ptycho.jobs.batch",
    "run_comparison": "diptych.ptycho.jobs.comparison",
    "run_reconstruction": "diptych.ptycho.jobs.reconstruction",
    "run_study_job": "diptych.ptycho.jobs.study",
    "run_training": "diptych.ptycho.jobs.training",
}

__all__ = ["network_speed", "run_batch", "run_comparison", "run_reconstruction", "run_study_job", "run_training"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES, globals())
