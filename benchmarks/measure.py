"""Fresh processes and their memory. Imports nothing large: a process inherits the peak of the one that starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

POLL = 0.05  # seconds between two looks at the memory
VECTORS = {"avx512f": " with AVX-512", "avx2": " with AVX2"}  # by their flag in /proc/cpuinfo
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


class Side:
    """One side of a row, in a process that waits to be asked."""

    def __init__(self, process: subprocess.Popen[str], result: Path, log: IO[bytes]) -> None:
        self._process, self.result, self._log = process, result, log
        self.about = json.loads(self._answer())

    def run(self) -> float:
        """Seconds a unit of one call."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return float(self._answer())

    def finish(self) -> None:
        """Let it write what its last call returned to `result`."""
        self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(self._said())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(self._said())
        return line

    def _said(self) -> str:
        self._log.seek(0)
        return f"benchmarks.worker failed:\n{self._log.read().decode()[-4000:]}"


@contextmanager
def started(job: dict[str, Any], name: str) -> Iterator[Side]:
    """A side of a row in a process of its own, so that neither's settings and memory are the other's."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        asked, result = Path(folder) / "job.json", Path(folder) / "result.pt"
        asked.write_text(json.dumps({**job, "do": "side", "side": name}))
        command = [sys.executable, "-m", "benchmarks.worker", str(asked), str(result)]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=log, text=True, start_new_session=True
        ) as process:
            try:
                yield Side(process, result, log)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def times(job: dict[str, Any], sides: Sequence[str], *, repeat: int, repeat_slow: int) -> dict[str, Any]:
    """Seconds a unit of the sides of a row, in turn: published, ours, published, ours …, after one call that is not
    counted (none of a published side that takes minutes); with both sides, the differences of their results too."""
    with ExitStack() as stack:
        running = {name: stack.enter_context(started(job, name)) for name in sides}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(-1, repeat):
            for name, side in running.items():
                if side.about["slow"] and name == "published" and not 0 <= turn < repeat_slow:
                    continue
                taken = side.run()
                if turn >= 0:
                    seconds[name].append(taken)
        for side in running.values():
            side.finish()
        about = next(iter(running.values())).about
        results = {name: str(side.result) for name, side in running.items()}
        compared = len(sides) > 1
        return {
            **about,
            "units": {name: side.about["units"] for name, side in running.items()},
            "seconds": seconds,
            "differences": worker({**job, "do": "differences", **results})[0] if compared else {},
        }


def fresh(command: list[str], *, watch: bool, marker: Path | None = None) -> Run:
    """Run a command in a session of its own.

    watch     look at its memory, and stop it before the machine is full
    marker    look only from when this file exists, and not at mapped files
    """
    limit = available() - RESERVE
    begun = time.monotonic()
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
    return Run(time.monotonic() - begun, peak, stopped)


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
    about = read(Path("/proc/cpuinfo"))
    cpu = re.search(r"model name\s*:\s*(.+)", about)
    vectors = next((name for flag, name in VECTORS.items() if re.search(rf"\b{flag}\b", about)), "")
    memory = re.search(r"MemTotal:\s+(\d+)", read(Path("/proc/meminfo")))
    gib = f", {int(memory[1]) / 2**20:.0f} GiB" if memory else ""
    return f"{cpu[1] if cpu else 'unknown CPU'}{vectors}, {len(os.sched_getaffinity(0))} cores{gib}"
