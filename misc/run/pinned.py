"""Copies between a machine and a card that neither waits for.

A card reads and writes pinned memory by itself, in its turn between kernels; of other memory the machine makes a copy
first, and the thread that launches kernels waits for it. A copy also takes a while to start, so that what goes together
goes in one piece. On a CPU nothing is copied.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

CPU = torch.device("cpu")


def pinned(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Arrays of one type and shape, stacked in pinned memory."""
    first = np.asarray(arrays[0])
    stacked = _room(len(arrays) * first.size, _torch_type(first)).view(len(arrays), *first.shape)
    np.stack(arrays, out=stacked.numpy())  # torch would start threads of its own in each of the threads that load
    return stacked


class Packed(NamedTuple):
    """Arrays of one type, one after the other in pinned memory."""

    whole: torch.Tensor
    shapes: list[tuple[int, ...]]

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> "Packed":
        whole = _room(sum(each.size for each in arrays), _torch_type(arrays[0]))
        np.concatenate([each.reshape(-1) for each in arrays], out=whole.numpy())
        return cls(whole, [each.shape for each in arrays])

    def on(self, device: torch.device) -> list[torch.Tensor]:
        return parted(self.whole.to(device, non_blocking=True), self.shapes)


def packed_for(device: torch.device, arrays: Sequence[np.ndarray]) -> "Packed | list[torch.Tensor]":
    """Arrays of one type on their way to a device, for `all_on`."""
    if device.type == "cpu" or not arrays:
        return [torch.from_numpy(each) for each in arrays]
    return Packed.of(arrays)


def all_on(device: torch.device, arrays: "Packed | Sequence[torch.Tensor]") -> list[torch.Tensor]:
    """The arrays on the device, from pinned memory in one copy."""
    if isinstance(arrays, Packed):
        return arrays.on(device)
    return [each.to(device) for each in arrays]


class Download:
    """Tensors on their way into the machine's memory: one copy for those of a type, begun at once."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self._parts, self._arrived = [each.contiguous() for each in tensors], None
        if not tensors or tensors[0].device.type == "cpu":
            return
        for dtype in {each.dtype for each in tensors}:
            places = [place for place, each in enumerate(tensors) if each.dtype == dtype]
            whole = torch.cat([tensors[place].flatten() for place in places])
            landed = _room(whole.numel(), dtype).copy_(whole, non_blocking=True)
            for place, part in zip(places, parted(landed, [tensors[p].shape for p in places]), strict=True):
                self._parts[place] = part
        self._arrived = torch.cuda.current_stream(tensors[0].device).record_event()

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self._parts)

    def arrays(self) -> list[np.ndarray]:
        """The arrays, in order; waits until they are there, in any thread."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [each.numpy() for each in self._parts]


def parted(whole: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Views of a tensor's values, one after the other."""
    sizes = [math.prod(shape) for shape in shapes]
    return [part.view(shape) for part, shape in zip(whole.split(sizes), shapes, strict=True)]


def _room(size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, pin_memory=True)


def _torch_type(array: np.ndarray) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype
