"""Fresh processes and their memory. Imports nothing large: a process inherits the peak of the one that starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

POLL = 0.05  # seconds between two looks at the memory
RESERVE = 1500 * 2**20  # bytes left to the rest of the machine


class Run(NamedTuple):
    """What a fresh process took: seconds, and at the most bytes of it and its children together."""

    seconds: float
    peak: int
    stopped: bool  # for want of memory


def worker(job: dict[str, Any], *, watch: bool = False) -> tuple[dict[str, Any], Run]:
    """Run `benchmarks.worker` on a job; returns its result."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "job.json", Path(folder) / "result.json"
        asked.write_text(json.dumps(job))
        command = [sys.executable, "-m", "benchmarks.worker", str(asked), str(answered)]
        done = fresh(command, watch=watch, marker=answered.with_suffix(".begun") if watch else None)
        return (json.loads(answered.read_text()) if answered.exists() else {}), done


def fresh(command: list[str], *, watch: bool, marker: Path | None = None) -> Run:
    """Run a command in a session of its own.

    watch     look at its memory, and stop it before the machine is full
    marker    look only from when this file exists, and not at mapped files
    """
    limit = available() - RESERVE
    started = time.monotonic()
    peak, stopped = 0, False
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            while watch and process.poll() is None:
                if marker is None or marker.exists():
                    peak = max(peak, tree_bytes(process.pid, files=marker is None))
                if peak > limit:
                    stopped = True
                    break
                time.sleep(POLL)
            if not stopped:
                process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode and not stopped:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{log.read().decode()[-4000:]}")
    return Run(time.monotonic() - started, peak, stopped)


def available() -> int:
    """Bytes the machine can still give."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found is not None
    return int(found[1]) * 1024


def tree_bytes(pid: int, *, files: bool) -> int:
    """Resident bytes of a process and its descendants; a page that several share counts once (proportional sizes).

    files     mapped files too; how many of their pages are resident, and shared with whom, changes by itself
    """
    kinds = "Pss" if files else "Pss_Anon|Pss_Shmem"
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = read(entry / "stat")
            if stat:  # the name in parentheses may hold anything
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    total, waiting = 0, [pid]
    while waiting:
        member = waiting.pop()
        waiting += children.get(member, [])
        found = re.findall(rf"^(?:{kinds}):\s+(\d+) kB", read(Path(f"/proc/{member}/smaps_rollup")), re.MULTILINE)
        total += sum(map(int, found)) * 1024
    return total


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process is gone
        return ""


def memory_above_input(row: str, side: str, common: dict[str, Any]) -> float:
    """Peak bytes of one side of a row above what its imports and inputs take, in a fresh process.

    The larger of two figures: by how much the process's own peak (ru_maxrss) grew, and by how much what it and its
    workers held together did.
    """
    result, done = worker({**common, "do": "memory", "row": row, "side": side}, watch=True)
    if done.stopped:
        return float("inf")
    return max(result["peak"] - result["baseline"], done.peak - result["private"], 0)


def machine() -> str:
    """The machine in words."""
    cpu = re.search(r"model name\s*:\s*(.+)", read(Path("/proc/cpuinfo")))
    memory = re.search(r"MemTotal:\s+(\d+)", read(Path("/proc/meminfo")))
    gib = f", {int(memory[1]) / 2**20:.0f} GiB" if memory else ""
    return f"{cpu[1] if cpu else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores{gib}"
