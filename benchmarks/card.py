"""What a stretch of work takes of a card: kernels, memory, utilisation; and the facts about the machine it is in.

On a CPU there is nothing to count, and everything here says None.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch

from benchmarks.measure import machine
from misc.crf import c_backend
from misc.run.device import describe, why_no_cuda

PACKAGES = ("torchvision", "numpy", "scipy", "pillow", "imageio", "safetensors", "jsonargparse", "triton", "pytest")
OF_CARD = ("driver_version", "power.limit", "clocks.max.sm", "clocks.max.memory", "pci.bus_id")  # of nvidia-smi
LOOK_EVERY = 0.1  # seconds between two looks at the utilisation, which the driver averages over 1/6 s to 1 s


class Kernels(NamedTuple):
    """What the card ran.

    number  of kernels
    busy    seconds in which at least one ran
    span    seconds from the first one's begin to the last one's end
    """

    number: int
    busy: float
    span: float


def kernels_of(events: Sequence[dict[str, Any]]) -> Kernels | None:
    """The kernels among the events of a Chrome trace, whose times are in microseconds; None if there are none."""
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "kernel" and e.get("ph") == "X")
    if not spans:
        return None
    busy, until = 0.0, spans[0][0]
    for begin, end in spans:  # kernels of several streams run at the same time
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return Kernels(len(spans), busy / 1e6, (until - spans[0][0]) / 1e6)


class KernelRecorder:
    """Counts the kernels between `start` and `stop`, or within a `with`; `kernels` says None where it cannot.

    The profiler is asked for the card alone: what the CPU does would be recorded at a cost that slows it down.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.kernels: Kernels | None = None
        self._profiler: torch.profiler.profile | None = None

    def start(self) -> None:
        if self.device.type != "cuda":
            return
        synchronise(self.device)
        try:
            self._profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
            self._profiler.start()
        except Exception as error:  # a driver that lets nobody profile: all other figures are there
            self._give_up(error)

    def stop(self) -> None:
        if self._profiler is None:
            return
        synchronise(self.device)
        try:
            self._profiler.stop()
            self.kernels = kernels_of(events_of(self._profiler))
        except Exception as error:
            self._give_up(error)
        self._profiler = None

    def _give_up(self, error: Exception) -> None:
        print(f"the profiler failed, so kernels are not counted: {error}", file=sys.stderr)
        self._profiler = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def events_of(profiler: torch.profiler.profile) -> list[dict[str, Any]]:
    """What a stopped profiler saw, as a Chrome trace: the one form of it that all versions of PyTorch share."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return json.loads(path.read_text(encoding="utf-8", errors="replace"), strict=False)["traceEvents"]


class Utilisation:
    """Looks at the card's utilisation again and again within a `with`; `mean` in percent, None where nothing tells."""

    def __init__(self, device: torch.device) -> None:
        self.samples: list[float] = []
        self._read = reader_of_utilisation(device)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.samples) if self.samples else None

    def __enter__(self) -> Self:
        if self._read is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._read is not None:
            self._thread.join()

    def _look(self) -> None:
        assert self._read is not None
        while not self._ended.wait(LOOK_EVERY):
            with suppress(Exception):  # a look that failed is one sample less
                self.samples.append(self._read())


def reader_of_utilisation(device: torch.device) -> Callable[[], float] | None:
    """A function that returns the card's utilisation in percent: PyTorch's, which needs pynvml, or nvidia-smi's."""
    if device.type != "cuda":
        return None
    for read in (
        lambda: float(torch.cuda.utilization(device)),
        lambda: float(nvidia_smi("utilization.gpu", device)[0]),
    ):
        with suppress(Exception):
            read()
            return read
    return None


def nvidia_smi(fields: str, device: torch.device) -> list[str]:
    """Fields of nvidia-smi about a card, as text without units; OSError or CalledProcessError where it has none."""
    which = str(getattr(torch.cuda.get_device_properties(device), "uuid", device.index or 0))
    which = which if which.isdigit() or which.startswith("GPU-") else f"GPU-{which}"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", f"--id={which}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    return [value.strip() for value in said.splitlines()[0].split(",")]


def synchronise(device: torch.device) -> None:
    """Wait until the card has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> dict[str, int] | None:
    """The most bytes of the card that tensors of this process took, and that PyTorch held for them."""
    if device.type != "cuda":
        return None
    return {
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
    }


def median_seconds(call: Callable[[], Any], device: torch.device, *, repeats: int) -> float:
    """Seconds of a call, the median of some after two that are not counted; the card has done its part each time."""
    taken = []
    for turn in range(-2, repeats):
        synchronise(device)
        begun = time.perf_counter()
        call()
        synchronise(device)
        if turn >= 0:
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def facts(device: str, command: str) -> dict[str, Any]:
    """What a reader has to know of the machine: `cards`, how many; `why` there is none; `rows`, names and values."""
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    why = "" if cards else why_no_cuda() or "PyTorch sees no card"
    return {"cards": cards, "why": why, "rows": fact_rows(device, cards, command)}


def fact_rows(device: str, cards: int, command: str) -> list[tuple[str, str]]:
    rows = [("machine", f"{machine_in_words()}; {platform.platform()}")]
    if device == "cuda":
        rows += [("card", describe(torch.device("cuda", number))) for number in range(cards)]
        if cards:
            rows.append(("card says", card_in_words(torch.device("cuda", 0))))
    rows.append(("PyTorch", f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"))
    rows.append(("Python", f"{platform.python_version()}, {', '.join(map(package, PACKAGES))}"))
    compiler = "compiles" if c_backend.available() else "does not compile: PyTorch computes the CRFs"
    rows.append(("C compiler", f"{os.environ.get('CC') or shutil.which('cc') or 'none'} {compiler}"))
    rows.append(("command", command))
    return rows


def machine_in_words() -> str:
    try:
        return machine()
    except (OSError, AttributeError):  # not Linux
        return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def card_in_words(device: torch.device) -> str:
    try:
        return ", ".join(
            f"{name} {value}" for name, value in zip(OF_CARD, nvidia_smi(",".join(OF_CARD), device), strict=True)
        )
    except (OSError, subprocess.SubprocessError, IndexError):
        return "nvidia-smi is not there"


def package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"
