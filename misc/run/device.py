"""Where the networks run, and with how much of the machine."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import nn

from misc.config import available_cores
from misc.errors import InputError

# parameters of mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, LARGEST_KEPT = 2**30, 2**28  # bytes of freed memory, and of a freed block


def pick_device(name: str) -> torch.device:
    """The torch device called `name`; `auto` is CUDA when there is one, else the CPU.

    Where torchrun started several processes on this machine, each takes a CUDA device of its own.
    Raises    InputError if there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    elif name.startswith("cuda:") and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise InputError(f"device: {name!r} is one device for several processes: say cuda, and each takes its own")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: {name!r} is none (auto, cpu, cuda, cuda:0, …)") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device: {name!r} is not supported (cpu or cuda)")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: {name!r} asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def loading_threads(workers: int, device: torch.device) -> int:
    """Loading threads that keep a network fed; on a CPU the network leaves little for them to do."""
    return workers if device.type == "cuda" else min(workers, 2)


def workers_beside_network(workers: int, device: torch.device) -> int:
    """How many workers run while the network does: on a CPU they get half of the cores."""
    return workers if device.type == "cuda" else min(workers, max(1, available_cores() // 2))


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


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """bfloat16 in the convolutions of what runs inside, if enabled; parameters and sums stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def check_amp(device: torch.device) -> None:
    """InputError if the device cannot compute in bfloat16."""
    able = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if not able:
        raise InputError(f"amp: this {device.type} device has no bfloat16 arithmetic: leave it off")


def to_device(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to its device, channels last: convolutions are faster so on CPUs and on tensor cores."""
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
