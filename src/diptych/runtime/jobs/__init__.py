"""Jobs: long work in a thread or a process of its own, with progress, previews, cancellation and a queue."""

from diptych.runtime.jobs.context import Finished, JobContext, stopping
from diptych.runtime.jobs.job import Job, State
from diptych.runtime.jobs.queue import JobQueue
from diptych.runtime.jobs.records import JobRecord, list_records

__all__ = ["Finished", "Job", "JobContext", "JobQueue", "JobRecord", "State", "list_records", "stopping"]
