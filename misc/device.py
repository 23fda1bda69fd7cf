"""Where the networks run."""

import torch
from torch import nn

from misc.errors import InputError


def pick_device(name: str) -> torch.device:
    """The torch device called `name`; `auto` is CUDA when there is one, else the CPU.

    Raises    InputError if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: {name!r} is none (auto, cpu, cuda, cuda:0, …)") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device: {name!r} is not supported (cpu or cuda)")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: {name!r} asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to its device, channels last: convolutions are faster so on CPUs and on tensor cores."""
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
