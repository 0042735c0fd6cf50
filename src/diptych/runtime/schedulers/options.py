"""Where tasks run: in this process, in processes of this machine, or on the workers of a Dask cluster."""

from __future__ import annotations

import ipaddress
import re
from typing import Self

from pydantic import Field, model_validator

from diptych.runtime.options import LocalPath, Options

SITE_CLUSTERS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "htcondor": "HTCondorCluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
}
"""Batch systems, by the class of dask-jobqueue that submits Dask workers to them."""

_NAMES = ("serial", "processes", "dask", "dask://HOST:PORT", *(f"dask-{name}" for name in SITE_CLUSTERS))


class SchedulerOptions(Options):
    """Where the tasks of a study or of a batch run. It never changes their results."""

    scheduler: str = Field(
        "serial",
        description="serial (one after the other), processes (of this machine), dask (a local Dask cluster), "
        "dask://HOST:PORT (a running Dask scheduler), or dask-slurm, dask-pbs, dask-lsf, dask-sge, dask-htcondor, "
        "dask-oar, dask-moab (Dask workers as jobs of the batch system, by the site's Dask configuration).",
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Processes, Dask workers or batch jobs; by default one per CPU core here, and 4 batch jobs. Not "
        "for dask://.",
    )
    retries: int = Field(1, ge=0, le=10, description="How often a task that failed is run again.")
    tls_ca: LocalPath = Field(None, description="dask://: certificate of the authority (PEM file).")
    tls_cert: LocalPath = Field(None, description="dask://: certificate of this client (PEM file).")
    tls_key: LocalPath = Field(None, description="dask://: private key of this client (PEM file).")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        name = self.scheduler
        if not (name in ("serial", "processes", "dask") or self.site is not None or self.address is not None):
            raise ValueError(f"scheduler = {name!r} is not known; expected one of {', '.join(_NAMES)}")
        given = [value is not None for value in (self.tls_ca, self.tls_cert, self.tls_key)]
        if any(given) and (not all(given) or self.address is None):
            raise ValueError("tls_ca, tls_cert and tls_key are given together, with scheduler = dask://HOST:PORT")
        if self.address is not None and not self.loopback and not all(given):
            raise ValueError(
                f"scheduler = {name!r}: a scheduler on another machine needs an encrypted connection; give tls_ca, "
                "tls_cert and tls_key, the PEM files that it was started with"
            )
        if self.workers is not None and (self.address is not None or name == "serial"):
            raise ValueError(f"workers cannot be set with scheduler = {name}; leave it out")
        return self

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of a running Dask scheduler; None for other schedulers."""
        match = re.fullmatch(r"dask://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", self.scheduler)
        return (match[1], int(match[2])) if match and 0 < int(match[2]) < 65536 else None

    @property
    def loopback(self) -> bool:
        """Whether the address is one of this machine that other machines cannot reach."""
        host = "" if self.address is None else self.address[0].strip("[]")
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def site(self) -> str | None:
        """The batch system that Dask workers are submitted to; None for other schedulers."""
        name = self.scheduler.removeprefix("dask-")
        return name if self.scheduler.startswith("dask-") and name in SITE_CLUSTERS else None
