"""Workers of a Dask cluster: on this machine, of a running scheduler, or submitted to the site's batch system.

Dask sends the name of :func:`~diptych.runtime.schedulers.tasks.answer` and a text; no code of diptych, and no object of
it, crosses the wire. A task whose worker dies is run again by Dask on another one.
"""

from __future__ import annotations

import importlib
import logging
import queue
import uuid
from contextlib import ExitStack
from functools import partial
from typing import Any

from diptych.errors import InputError, UnavailableError
from diptych.runtime.schedulers.options import SITE_CLUSTERS, SchedulerOptions
from diptych.runtime.schedulers.pools import cores
from diptych.runtime.schedulers.tasks import Answer, Task, answer

log = logging.getLogger("diptych")

_CONNECT_SECONDS = 20
_SITE_JOBS = 4
_INSTALL = "Install the extra: pip install 'diptych[cluster]'."


class DaskPool:
    """See the module.

    Parameters
    ----------
    options : SchedulerOptions
        With ``scheduler`` dask, dask://HOST:PORT or dask-SITE.
    tasks : int
        Number of tasks.
    """

    def __init__(self, options: SchedulerOptions, tasks: int) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise UnavailableError(f"scheduler {options.scheduler}: needs the package distributed. {_INSTALL}") from (
                error
            )
        self._open = ExitStack()
        self._done: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._futures: dict[str, Any] = {}
        try:
            self._client = self._connect(options, tasks, Client)
        except BaseException:
            self._open.close()
            raise

    def submit(self, task: Task) -> None:
        """Send a task to the scheduler."""
        future = self._client.submit(
            answer, task.to_json(), key=f"{task.key}-{uuid.uuid4().hex[:8]}", pure=False, retries=0
        )
        self._futures[task.key] = future
        future.add_done_callback(partial(self._note, task.key))

    def next(self, seconds: float) -> Answer | None:
        """The next answer; None when there is none within ``seconds``."""
        try:
            key, future = self._done.get(timeout=seconds)
        except queue.Empty:
            if self._client.status not in ("running", "connecting"):
                raise UnavailableError("the connection to the Dask scheduler is lost; run the same call again.") from (
                    None
                )
            return None
        self._futures.pop(key, None)
        if future.cancelled():
            return Answer(key, error="the Dask scheduler cancelled the task")
        error = future.exception()
        if error is not None:
            return Answer(key, error=f"{type(error).__name__}: {' '.join(str(error).split())}")
        return Answer.from_json(future.result())

    def close(self) -> None:
        """Cancel what is under way and stop a cluster that was started for it."""
        futures = list(self._futures.values())
        self._futures.clear()
        if futures:
            self._client.cancel(futures, force=True)
        self._open.close()

    def _note(self, key: str, future: Any) -> None:
        self._done.put((key, future))

    def _connect(self, options: SchedulerOptions, tasks: int, client: Any) -> Any:
        if options.address is not None:
            return self._open.enter_context(self._running(options, client))
        cluster = self._open.enter_context(self._cluster(options, tasks))
        return self._open.enter_context(client(cluster))

    def _running(self, options: SchedulerOptions, client: Any) -> Any:
        """A client of a running scheduler; without TLS only of one on this machine."""
        from distributed import Security

        assert options.address is not None
        secure = options.tls_ca is not None
        security = None
        if secure:
            security = Security(
                tls_ca_file=options.tls_ca,
                tls_client_cert=options.tls_cert,
                tls_client_key=options.tls_key,
                require_encryption=True,
            )
        host, port = options.address
        where = f"{'tls' if secure else 'tcp'}://{host}:{port}"
        try:
            return client(where, security=security, timeout=_CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise InputError(
                f"scheduler {options.scheduler}",
                f"cannot be reached ({error or type(error).__name__})",
                "a running Dask scheduler",
                "Start one with `dask scheduler`, and workers with `dask worker`.",
            ) from None

    def _cluster(self, options: SchedulerOptions, tasks: int) -> Any:
        if options.site is None:
            from distributed import LocalCluster

            return LocalCluster(
                n_workers=min(options.workers or cores(), tasks),
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,  # it would show what runs to everyone who reaches its port
                memory_limit=0,
                silence_logs=logging.ERROR,
            )
        try:
            module = importlib.import_module("dask_jobqueue")
        except ImportError as error:
            raise UnavailableError(
                f"scheduler {options.scheduler}: needs the package dask-jobqueue. {_INSTALL}"
            ) from error
        kind = getattr(module, SITE_CLUSTERS[options.site])
        try:
            # Workers on other nodes: temporary certificates, so that nobody else on the network can send them work.
            cluster = kind(security=True, protocol="tls://", scheduler_options={"dashboard": False})
        except (TypeError, ValueError, ImportError) as error:
            raise InputError(
                f"scheduler {options.scheduler}",
                f"cannot be started with the site's configuration ({error})",
                f"the section jobqueue.{options.site} in ~/.config/dask/jobqueue.yaml, with cores and memory",
            ) from None
        cluster.scale(jobs=min(options.workers or _SITE_JOBS, tasks))
        return cluster
