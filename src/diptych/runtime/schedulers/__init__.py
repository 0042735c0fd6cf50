"""Many tasks on many processes or machines: one option chooses where they run.

A :class:`~diptych.runtime.schedulers.tasks.Task` names a function of diptych and its arguments as JSON values, and its
answer is JSON too, so that the same task runs here, in another process, or on a Dask worker.
"""

from diptych.runtime.schedulers.options import SchedulerOptions
from diptych.runtime.schedulers.run import run_tasks
from diptych.runtime.schedulers.tasks import Answer, Task

__all__ = ["Answer", "SchedulerOptions", "Task", "run_tasks"]
