"""Frozen convolutions on the CPU, with bias, shortcut and ReLU in the same pass: the Python side of convolution.c."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from misc.native import library
from net.cpu.winograd import KERNEL, STEP, TILE, WEIGHTS, is_float32_on_cpu

SOURCE = Path(__file__).with_suffix(".c")
# Winograd's tiles that a thread takes at a time, by channels: few channels need few tiles, whose values then stay in
# the second cache; many channels have weights larger than the third cache, which must not be read too often.
TILES_BY_CHANNELS = 3 / 16


def is_compiled() -> bool:
    """Whether convolution.c could be compiled here."""
    return library(SOURCE) is not None


def can_convolve(convolution: nn.Conv2d) -> bool:
    """Whether it is for FrozenConvolution: float32 on the CPU, square, padded with zeros, no groups, no dilation."""
    return (
        is_float32_on_cpu(convolution.weight)
        and not isinstance(convolution.padding, str)
        and (convolution.groups, convolution.dilation, convolution.padding_mode) == (1, (1, 1), "zeros")
        and all(height == width for height, width in (convolution.kernel_size, convolution.stride, convolution.padding))
    )


class FrozenConvolution:
    """relu(x ∗ weight + bias + shortcut) of float32 images on the CPU, unseen by autograd.

    It copies the weights when it is made.

    convolution   one that `can_convolve`
    Raises        ValueError if it cannot.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        weight = convolution.weight.detach()
        if not can_convolve(convolution):
            raise ValueError(f"not for {convolution} in {weight.dtype} on {weight.device.type}")
        self.out_channels, self.channels, self.side, _ = weight.shape
        self.stride, self.padding = convolution.stride[0], int(convolution.padding[0])
        self._sizes = _sizes()
        self.winograd = (
            (self.side, self.stride, self.padding) == (KERNEL, 1, 1)
            and self.channels % self._sizes.lanes == 0
            and self.out_channels % self._sizes.panel_columns == 0
        )
        matrices = weight.permute(2, 3, 1, 0).reshape(1, -1, self.out_channels)  # by a window's lines, pixels, channels
        if self.winograd:
            transformed = WEIGHTS @ matrices.reshape(KERNEL**2, -1)
            matrices = transformed.view(TILE**2, self.channels, self.out_channels)
        self._weights = pack_panels(matrices, self._sizes.panel_columns, self._sizes.panel_depth)
        bias = weight.new_zeros(self.out_channels) if convolution.bias is None else convolution.bias.detach()
        self._bias = F.pad(bias, (0, -self.out_channels % self._sizes.panel_columns))

    def __call__(self, x: torch.Tensor, *, relu: bool, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, h, w), channels last.

        shortcut  (N, out_channels, h, w); if its channels come last, the result overwrites it
        """
        n, _, *size = x.shape
        h, w = ((side + 2 * self.padding - self.side) // self.stride + 1 for side in size)
        self._check(x, shortcut, (n, self.out_channels, h, w))
        x = x.detach().contiguous(memory_format=torch.channels_last)
        if shortcut is None:
            y = torch.empty((n, self.out_channels, h, w), memory_format=torch.channels_last)
        else:
            y = shortcut.detach().contiguous(memory_format=torch.channels_last)
        if self.winograd:
            function, units = _convolution_c().convolve_winograd, n * ceil(h / STEP) * ceil(w / STEP)
            at_once = self._block_size(units, int(self.channels * TILES_BY_CHANNELS))
        else:
            function, units = _convolution_c().convolve, n * h * w
            at_once = self._block_size(units, self._sizes.row_block)
        job = _Convolution(
            n, *size, self.channels, h, w, self.out_channels, self.side, self.stride, self.padding,
            at_once, shortcut is not None, relu,
            *(tensor.data_ptr() for tensor in (x, self._weights, self._bias, y)),
        )  # fmt: skip
        _run_in_threads(function, job, blocks=ceil(units / at_once), keep_alive=(x, self._weights, self._bias, y))
        return y

    def _check(self, x: torch.Tensor, shortcut: torch.Tensor | None, shape: tuple[int, ...]) -> None:
        if x.shape[1] != self.channels or (shortcut is not None and shortcut.shape != shape):
            given = tuple(x.shape), None if shortcut is None else tuple(shortcut.shape)
            raise ValueError(f"input and shortcut of shapes {given}, expected {self.channels} channels and {shape}")
        if not all(is_float32_on_cpu(tensor) for tensor in (x, shortcut) if tensor is not None):
            raise ValueError("only for float32 on the CPU")

    def _block_size(self, units: int, most: int) -> int:
        """How many rows or tiles a thread takes at a time: about `most`, and all threads take equally many blocks."""
        threads, multiple = torch.get_num_threads(), self._sizes.panel_rows
        blocks = threads * ceil(units / (threads * max(most, multiple)))
        return multiple * max(1, ceil(units / (max(1, blocks) * multiple)))


def pack_panels(matrices: torch.Tensor, columns: int, depth: int) -> torch.Tensor:
    """Matrices (M, K, O) in the order in which convolution.c reads them: matrix by matrix, each cut into pieces of
    `depth` rows, each piece cut into panels of `columns` columns. The missing columns of the last panel are zeros.

    Returns   (M·K·O), O rounded up to a multiple of `columns`.
    """
    padded = F.pad(matrices, (0, -matrices.shape[2] % columns))
    result = padded.new_empty(padded.numel())
    pieces = result.view(len(padded), -1).split(depth * padded.shape[2], 1)
    for piece, panels in zip(padded.split(depth, 1), pieces, strict=True):
        cut = piece.unflatten(2, (-1, columns)).transpose(1, 2)
        panels.view(cut.shape).copy_(cut)
    return result


def _run_in_threads(function: Any, job: "_Convolution", *, blocks: int, keep_alive: tuple[torch.Tensor, ...]) -> None:
    """Run a function of convolution.c in as many threads as torch uses, this thread among them.

    keep_alive    the tensors that `job` points to: the helpers hold them, even if this thread is interrupted
    Raises        MemoryError.
    """
    taken = ctypes.c_int64(0)

    def work(_: object = keep_alive) -> bool:
        return bool(function(ctypes.byref(job), ctypes.byref(taken)))

    threads = min(torch.get_num_threads(), blocks)
    helpers = [_pool(os.getpid()).submit(work) for _ in range(threads - 1)]
    # a helper that has not begun when this thread has finished is no longer needed
    done = [work(), *(helper.result() for helper in helpers if not helper.cancel())]
    if not all(done):
        raise MemoryError("not enough memory for a convolution")


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process; the key is its number, since a forked process has none of its parent's threads."""
    return ThreadPoolExecutor(os.cpu_count(), "convolution")


def _convolution_c() -> ctypes.CDLL:
    functions = library(SOURCE)
    assert functions is not None, "ask is_compiled() first"
    return functions


class _Sizes(NamedTuple):
    """Constants of convolution.c, by their names there; they depend on the processor."""

    lanes: int
    panel_rows: int
    panel_columns: int
    panel_depth: int
    row_block: int


@cache
def _sizes() -> _Sizes:
    return _Sizes(*(ctypes.c_int64.in_dll(_convolution_c(), name).value for name in _Sizes._fields))


class _Convolution(ctypes.Structure):
    """`convolution` in convolution.c has the same fields."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                *("n", "height", "width", "channels", "out_height", "out_width", "out_channels"),
                *("side", "stride", "padding", "at_once", "add", "relu"),
            )
        ),
        *((name, ctypes.c_void_p) for name in ("x", "weights", "bias", "y")),
    ]
