"""How many cores this process may really use: its affinity, and the quota of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cores() -> int:
    """The number of cores that this process may use at once, at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """The CPU limit of the control groups in cores, infinite where there is none.

    A group is also bound by the groups above it, so the smallest limit counts. ``root`` is for
    tests. Reads cgroup v1 (``cpu.cfs_quota_us``) and v2 (``cpu.max``).
    """
    return min((quota for folder in _groups(root) for quota in _limits(folder)), default=math.inf)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's CPU control group, and of those above it.

    In a container the path may be the host's and not exist; then the walk up ends at the mount
    point, which is the container's own group.
    """
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = mounts / controllers if controllers else mounts
        yield from (mount / parent.lstrip("/") for parent in _parents(path))


def _parents(path: str) -> Iterator[str]:
    yield path
    while path.strip("/"):
        path = path.rpartition("/")[0]
        yield path


def _limits(folder: Path) -> Iterator[float]:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        if quota != "max":
            yield int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (folder / "cpu.cfs_quota_us").read_text()
        if int(quota) > 0:
            yield int(quota) / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        pass
