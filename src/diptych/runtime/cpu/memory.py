"""Available memory, checked before an array is allocated whose size a file determines."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available_memory() -> int | None:
    """Bytes that this process may allocate: what the system reports as available, at most its container's limit.

    Returns
    -------
    int or None
        The installed memory where the system does not report what is available; None where it reports neither.
    """
    found = [value for value in (_available(), _limit()) if value is not None]
    if found:
        return min(found)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _available() -> int | None:
    """MemAvailable of Linux: free memory and reclaimable page cache."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    line = next((line for line in lines if line.startswith("MemAvailable:")), "")
    words = line.split()
    return int(words[1]) * 1024 if len(words) > 1 and words[1].isdigit() else None


def _limit() -> int | None:
    """The memory limit of the control group (a container, a batch job), where there is one."""
    try:
        text = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None
