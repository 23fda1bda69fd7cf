"""Where the networks run, in which precision, and with how much of the machine."""

import ctypes
import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from misc.cores import available_cores
from misc.errors import InputError, reason

# parameters of mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, LARGEST_KEPT = 2**30, 2**28  # bytes of freed memory, and of a freed block

CARD_FILES = ("/dev/nvidia[0-9]*", "/dev/dxg", "/dev/kfd")  # of NVIDIA's driver, of WSL's, of AMD's
DRIVER = Path("/proc/driver/nvidia/version")
MOST_LOADERS = 16
HAS_BFLOAT16 = HAS_TF32 = 8  # compute capability from which a card computes in them; older ones only emulate bfloat16

log = logging.getLogger(__name__)


def pick_device(name: str) -> torch.device:
    """The torch device called `name`; `auto` is CUDA when there is one, else the CPU. A CUDA device has its number.

    Where torchrun started several processes on this machine, each takes a CUDA device of its own.
    Raises    InputError if there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    elif name.startswith("cuda:") and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise InputError(f"device: {name!r} is one device for several processes: say cuda, and each takes its own")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: {name!r} is none (auto, cpu, cuda, cuda:0, …)") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device: {name!r} is not supported (cpu or cuda)")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        why = "" if torch.cuda.device_count() else f": {why_no_cuda() or 'no card is there'}"
        raise InputError(f"device: {name!r} asked for, but torch sees {torch.cuda.device_count()} CUDA devices{why}")
    return device


def use_device(device: torch.device, *, tf32: bool = True, deterministic: bool = False) -> None:
    """From now on, threads of this process that name no CUDA device take `device`, and CUDA computes as asked.

    tf32           whether float32 convolutions take TF32 where a card has it, as PyTorch has them do. Matrix products
                   stay in float32.
    deterministic  whether the same run gives the same bytes again: slower. Where PyTorch has no such way of computing
                   something, it warns.
    """
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    with warnings.catch_warnings():
        # some versions of torch warn of this name; the newer one (cudnn.conv.fp32_precision) leaves it unreadable
        warnings.simplefilter("ignore", UserWarning)
        torch.backends.cudnn.allow_tf32 = tf32
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


def log_device(name: str, device: torch.device, *, tf32: bool = True) -> None:
    """Say where a run computes, and warn where `auto` came to be a CPU although a card could be expected.

    name      as the user gave it
    """
    log.info("%s", describe(device))
    if device.type == "cuda" and tf32 and _capability(device)[0] >= HAS_TF32:
        log.info("float32 convolutions are computed in TF32, PyTorch's default (--no_tf32: in float32)")
    if name == "auto" and device.type == "cpu" and (why := why_no_cuda()):
        log.warning("device auto is the CPU, which takes days for VOC: %s (--device cpu: the CPU is meant)", why)


def describe(device: torch.device) -> str:
    """Device, card, memory, driver, PyTorch and its CUDA, in one line."""
    build = f"PyTorch {torch.__version__}"
    if device.type != "cuda":
        return f"cpu: {available_cores()} cores, {build}"
    card = torch.cuda.get_device_properties(device)
    driver = f"driver {_driver()}, " if _driver() else ""
    return (
        f"{device}: {card.name}, compute capability {card.major}.{card.minor}, {card.total_memory / 2**30:.1f} GiB, "
        f"{driver}{build} for {_cuda_of_build() or 'no CUDA'}"
    )


def why_no_cuda() -> str | None:
    """Why PyTorch sees no CUDA device where one could be expected; None where none is."""
    build, hidden = _cuda_of_build(), os.environ.get("CUDA_VISIBLE_DEVICES")
    card = next((path for pattern in CARD_FILES for path in sorted(glob(pattern))), None)
    if build and hidden is not None:
        return f"CUDA_VISIBLE_DEVICES is {hidden!r}, which leaves no card"
    if build and card:
        driver = f"driver {_driver()}" if _driver() else "its driver"
        return (
            f"there is a card ({card}), but PyTorch {torch.__version__} for {build} cannot use it with {driver}: "
            "install a newer driver, or a PyTorch for an older CUDA"
        )
    if card:
        return f"there is a card ({card}), but PyTorch {torch.__version__} is built for CPUs: install one for CUDA"
    return f"PyTorch is built for {build}, but there is no card" if build else None


def fault_of(device: torch.device, *, amp: bool) -> str | None:
    """What a device cannot do that a run needs, and the remedy; None if it can do all. A small convolution tells.

    amp       whether bfloat16 is needed as well
    """
    if device.type == "cpu":
        able = not amp or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return None if able else "amp: this CPU has no bfloat16 arithmetic: leave it off"
    if amp and _capability(device)[0] < HAS_BFLOAT16 and torch.version.hip is None:
        return f"amp: {describe(device)} has no bfloat16 arithmetic, which 8.0 and later have: leave it off"
    for dtype in (torch.float32, *([torch.bfloat16] if amp else [])):
        try:
            ones = torch.ones(1, 8, 8, 8, dtype=dtype, device=device)
            torch.nn.functional.conv2d(ones, ones[:, :, :3, :3]).sum().item()  # waits for the card
        except RuntimeError as error:
            return (
                f"device: a small convolution in {str(dtype).removeprefix('torch.')} fails on {describe(device)} "
                f"({reason(error)}): {_remedy(error)}, or --device cpu"
            )
    return None


def check_device(device: torch.device, *, amp: bool) -> None:
    """InputError if a device cannot do what a run needs."""
    fault = fault_of(device, amp=amp)
    if fault is not None:
        raise InputError(fault)


class Place(NamedTuple):
    """Where one of several processes computes.

    machine, card   equal where two processes share a card; card is None on a CPU
    text            for people
    fault           what the device cannot do (fault_of)
    """

    machine: str
    card: str | None
    text: str
    fault: str | None

    @classmethod
    def of(cls, device: torch.device, *, amp: bool) -> "Place":
        card, machine = None, socket.gethostname()
        if device.type == "cuda":
            # the number is of the cards that a process sees; the card's own name is not, where PyTorch knows it
            card = str(getattr(torch.cuda.get_device_properties(device), "uuid", device))
        return cls(machine, card, f"{machine}, {describe(device)}", fault_of(device, amp=amp))


def check_places(places: Sequence[Place]) -> None:
    """Log where the processes of a run compute, by rank; InputError where they cannot do so together."""
    problems = []
    for rank, place in enumerate(places):
        log.info("process %d: %s", rank, place.text)
        if place.fault is not None:
            problems.append(f"process {rank} ({place.machine}): {place.fault}")
        for other in range(rank):
            if place.card is not None and places[other][:2] == place[:2]:
                problems.append(f"processes {other} and {rank} share a card, {place.text}: start one process a card")
    if len({place.card is None for place in places}) > 1:
        on_cpu = [f"{rank} ({place.machine})" for rank, place in enumerate(places) if place.card is None]
        problems.append(
            f"processes {', '.join(on_cpu)} compute on a CPU, the others on cards: say --device cuda, and "
            "their messages tell why, or --device cpu"
        )
    if problems:
        raise InputError("; ".join(problems))


def _remedy(error: RuntimeError) -> str:
    if "out of memory" in str(error):
        return "another process has its memory (nvidia-smi says which): take another card"
    made_for = ", ".join(torch.cuda.get_arch_list())
    return f"install a PyTorch made for this card (this one: {made_for}) and for its driver"


def _capability(device: torch.device) -> tuple[int, int]:
    card = torch.cuda.get_device_properties(device)
    return card.major, card.minor


def _cuda_of_build() -> str | None:
    """What PyTorch was built for beside CPUs."""
    if torch.version.cuda is not None:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip is not None else None


def _driver() -> str | None:
    """The version of NVIDIA's driver, if it tells."""
    try:
        found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", DRIVER.read_text(encoding="utf-8"))
    except OSError:  # another system
        return None
    return found and found[0]


def loading_threads(workers: int, device: torch.device) -> int:
    """Loading threads that keep a network fed; on a CPU the network leaves little for them to do.

    A card asks for more. But what of their work is done within Python's lock is not done faster by more of them.
    """
    return min(workers_beside_network(workers, device), MOST_LOADERS) if device.type == "cuda" else min(workers, 2)


def workers_beside_network(workers: int, device: torch.device) -> int:
    """How many workers run while the network does: on a CPU they get half of the cores, beside a card all but one.

    That one is the launching thread's: a card that waits for its next kernel computes nothing.
    """
    cores = available_cores()
    return min(workers, max(1, cores - 1 if device.type == "cuda" else cores // 2))


def keep_within_quota() -> None:
    """From now on, torch computes with no more threads than this process has cores, which it takes for the machine's.

    More of them would use up a container's share of time at once, and then all wait for the next.
    """
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))


def keep_freed_memory() -> None:
    """From now on, use freed memory again (glibc only; elsewhere nothing happens).

    By default the large blocks of freed tensors go back to the system, which hands out pages of zeros for the next
    ones: for activations of tens of MB that takes as long as a convolution.
    """
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)


@contextmanager
def threads_beside(workers: int) -> Iterator[None]:
    """Within, each thread that calls torch has as many of torch's own as `workers` threads leave cores, one at least.

    More threads than free cores would wait for each other at the end of every operation.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, available_cores() - workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def convolutions_tried_out(device: torch.device) -> Iterator[None]:
    """Within, cuDNN times its ways of computing a convolution when it first meets one of a size, and takes the fastest
    from then on: for sizes that come again and again. Not in a deterministic run: the times decide what is taken.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda" and not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """bfloat16 in the convolutions of what runs inside, if enabled, and in what lies between them: batch norms,
    additions, ReLU. Parameters stay float32.

    CPUs and CUDA differ in what else they compute in it, so the networks make float32 of what enters anything else.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def to_device(module: nn.Module, device: torch.device, layout: torch.memory_format = torch.channels_last) -> nn.Module:
    """Move a network to its device, channels last: most convolutions are faster so on CPUs and on tensor cores."""
    return module.to(device, memory_format=layout)  # type: ignore[call-overload]
