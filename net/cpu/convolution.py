"""Frozen convolutions on the CPU, with bias, shortcut and ReLU in the same pass: the Python side of convolution.c."""

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from misc.native import library
from net.cpu.winograd import KERNEL, STEP, TILE, WEIGHTS, float32_on_cpu

SOURCE = Path(__file__).with_suffix(".c")
# Tiles at a time, by channels: their values stay in the second cache where there are few channels, and where there are
# many, the weights, which are larger than the third, are not read too often.
TILES_BY_CHANNELS = 3 / 16
# Values of a window, and channels of the result, from which on a product less makes up for Strassen's additions, and
# for its larger errors. From 128 on make_cam was 3 % faster (interleaved runs), which is not worth them.
WORTH_HALVING = 256


def available() -> bool:
    """Whether there is a compiled convolution.c."""
    return library(SOURCE) is not None


class FrozenConvolution:
    """relu(x ∗ weight + bias + shortcut) of float32 images on the CPU, unseen by autograd.

    Its weights are those of the moment it is made.

    convolution   float32, on the CPU; without groups and dilation, zeros around the image; kernel, stride and padding
                  as high as wide
    Raises        ValueError if it is another.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        weight, padding = convolution.weight.detach(), convolution.padding
        self.out_channels, self.channels, self.side, _ = weight.shape
        self.stride = convolution.stride[0]
        if (
            isinstance(padding, str)
            or any(len(set(sides)) > 1 for sides in (convolution.kernel_size, convolution.stride, padding))
            or (convolution.groups, convolution.dilation, convolution.padding_mode) != (1, (1, 1), "zeros")
            or not float32_on_cpu(weight)
        ):
            raise ValueError(f"not for {convolution} in {weight.dtype} on {weight.device.type}")
        self.padding = padding[0]
        self._sizes = _sizes()
        self.winograd = (
            (self.side, self.stride, self.padding) == (KERNEL, 1, 1)
            and self.channels % self._sizes.lanes == 0
            and self.out_channels % self._sizes.panel_columns == 0
        )
        columns, depth = self._sizes.panel_columns, self._sizes.panel_depth
        flat = weight.permute(2, 3, 1, 0).reshape(-1, self.out_channels)  # by a window's lines, pixels, channels
        values = len(flat)
        self.strassen = (
            not self.winograd
            and min(values, self.out_channels) >= WORTH_HALVING
            and values % 2 == self.out_channels % (2 * columns) == 0
        )
        self._piece = 2 * ceil(values / ceil(values / (2 * depth)) / 2) if self.strassen else depth
        if self.winograd:
            matrices = [(WEIGHTS @ flat.reshape(KERNEL**2, -1)).view(TILE**2, self.channels, self.out_channels)]
        elif self.strassen:
            matrices = [halved(piece) for piece in flat.split(self._piece)]
        else:
            matrices = [flat[None]]
        self._weights = laid_out(matrices, columns, depth)
        bias = weight.new_zeros(self.out_channels) if convolution.bias is None else convolution.bias.detach()
        self._bias = F.pad(bias, (0, -self.out_channels % self._sizes.panel_columns))

    def __call__(self, x: torch.Tensor, *, relu: bool, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, h, w), channels last.

        shortcut  (N, out_channels, h, w); if its channels come last, overwritten by the result
        """
        n, channels, *size = x.shape
        h, w = ((side + 2 * self.padding - self.side) // self.stride + 1 for side in size)
        shape = n, self.out_channels, h, w
        if channels != self.channels or (shortcut is not None and shortcut.shape != shape):
            given = tuple(x.shape), None if shortcut is None else tuple(shortcut.shape)
            raise ValueError(f"input and shortcut of shapes {given}, expected {self.channels} channels and {shape}")
        if not all(float32_on_cpu(tensor) for tensor in (x, shortcut) if tensor is not None):
            raise ValueError("only for float32 on the CPU")
        x = x.detach().contiguous(memory_format=torch.channels_last)
        if shortcut is None:
            y = torch.empty(shape, memory_format=torch.channels_last)
        else:
            y = shortcut.detach().contiguous(memory_format=torch.channels_last)
        multiple = self._sizes.panel_rows * (2 if self.strassen else 1)
        if self.winograd:
            function, units = _compiled().convolve_winograd, n * ceil(h / STEP) * ceil(w / STEP)
            most = int(self.channels * TILES_BY_CHANNELS)
        else:
            function, units = _compiled().convolve, n * h * w
            most = self._sizes.row_block * (2 if self.strassen else 1)
        at_once = _shared_out(units, most, multiple)
        job = _Convolution(
            n, *size, channels, h, w, self.out_channels, self.side, self.stride, self.padding,
            at_once, self._piece, self.strassen, shortcut is not None, relu,
            *(tensor.data_ptr() for tensor in (x, self._weights, self._bias, y)),
        )  # fmt: skip
        _together(function, job, blocks=ceil(units / at_once), kept=(x, self._weights, self._bias, y))
        return y


def _shared_out(units: int, most: int, multiple: int) -> int:
    """The size of a block, so that there are as many of the same size for each thread."""
    threads = torch.get_num_threads()
    blocks = threads * ceil(units / (threads * max(most, multiple)))
    return multiple * max(1, ceil(units / (max(1, blocks) * multiple)))


def halved(matrix: torch.Tensor) -> torch.Tensor:
    """What Strassen's algorithm multiplies by instead of a matrix (K, O), in the order of convolution.c.

    Returns   (7, K/2, O/2).
    """
    upper, lower = matrix.chunk(2)
    (b11, b12), (b21, b22) = upper.chunk(2, dim=1), lower.chunk(2, dim=1)
    t1 = b12 - b11
    t2 = b22 - t1
    return torch.stack([b11, b21, t2, t1, b22, b22 - b12, b21 - t2])


def laid_out(matrices: Sequence[torch.Tensor], columns: int, depth: int) -> torch.Tensor:
    """Matrices, in groups (M, K, O), as convolution.c reads them, one after the other: cut into pieces of `depth`
    rows, each of which into panels of `columns` columns; missing columns are zeros.

    Returns   (Σ M·K·O), O up to a multiple of `columns`.
    """
    whole = [F.pad(group, (0, -group.shape[2] % columns)) if group.shape[2] % columns else group for group in matrices]
    result = whole[0].new_empty(sum(group.numel() for group in whole))
    for group, place in zip(whole, result.split([group.numel() for group in whole]), strict=True):
        rows = place.view(len(group), -1)
        for piece, panels in zip(group.split(depth, 1), rows.split(depth * group.shape[2], 1), strict=True):
            cut = piece.unflatten(2, (-1, columns)).transpose(1, 2)
            panels.view(cut.shape).copy_(cut)
    return result


def _together(function: Any, job: "_Convolution", *, blocks: int, kept: tuple[torch.Tensor, ...]) -> None:
    """Run a function of convolution.c in as many threads as torch uses, this one among them.

    kept      what the job points to: it must outlast a helper, also where this thread is interrupted
    Raises    MemoryError.
    """
    taken = ctypes.c_int64(0)

    def work(_: object = kept) -> bool:
        return bool(function(ctypes.byref(job), ctypes.byref(taken)))

    threads = min(torch.get_num_threads(), blocks)
    helpers = [_pool(os.getpid()).submit(work) for _ in range(threads - 1)]
    done = [work(), *(helper.result() for helper in helpers if not helper.cancel())]  # one may have come too late
    if not all(done):
        raise MemoryError("not enough memory for a convolution")


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """A process's own: a forked one has none of its parent's threads."""
    return ThreadPoolExecutor(os.cpu_count(), "convolution")


def _compiled() -> ctypes.CDLL:
    compiled = library(SOURCE)
    assert compiled is not None, "ask available() first"
    return compiled


class _Sizes(NamedTuple):
    """How convolution.c was compiled; the names are its constants'."""

    lanes: int
    panel_rows: int
    panel_columns: int
    panel_depth: int
    row_block: int


@cache
def _sizes() -> _Sizes:
    return _Sizes(*(ctypes.c_int64.in_dll(_compiled(), name).value for name in _Sizes._fields))


class _Convolution(ctypes.Structure):
    """As in convolution.c."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                *("n", "height", "width", "channels", "out_height", "out_width", "out_channels"),
                *("side", "stride", "padding", "at_once", "piece", "strassen", "add", "relu"),
            )
        ),
        *((name, ctypes.c_void_p) for name in ("x", "weights", "bias", "y")),
    ]
