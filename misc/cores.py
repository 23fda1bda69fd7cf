"""How many CPU cores there are for this process."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
CPU_FOLDERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # of version 1, below CGROUPS


def available_cores() -> int:
    """CPU cores this process may use: its share, where torchrun started several on this machine.

    The least of what the scheduler lets it run on (taskset, SLURM) and of the time that its container gets
    (docker --cpus, limits of Kubernetes), which a machine's number of cores does not tell.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    if quota is not None:
        cores = min(cores, math.ceil(quota))
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def cpu_quota() -> float | None:
    """Seconds of CPU time a second that Linux' control groups give this process; None if they do not limit it.

    The least of its own group's and of those above it. Within a container, the own group may have a name that only the
    outside knows; its files then lie at the top.
    """
    limits = [limit for folder in _cpu_groups() if (limit := _limit_of(folder)) is not None]
    return min(limits, default=None)


def _cpu_groups() -> Iterator[Path]:
    """The folders of the control groups that this process is in, as far as CPU time is concerned."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system
        return
    for line in lines:
        number, controllers, group = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:  # version 2
            tops = [CGROUPS]
        elif "cpu" in controllers.split(","):
            tops = [CGROUPS / name for name in CPU_FOLDERS]
        else:
            continue
        below = Path(group.lstrip("/"))
        for top in tops:
            yield from (top / part for part in (below, *below.parents))


def _limit_of(group: Path) -> float | None:
    """Cores' worth of time that a control group gets, None if it is not limited or there is no such folder."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()  # version 2
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        allowed = int((group / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        return allowed / int((group / "cpu.cfs_period_us").read_text(encoding="utf-8")) if allowed > 0 else None
    return None
