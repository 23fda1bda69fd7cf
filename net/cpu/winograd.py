"""3×3 convolutions with a quarter of the multiplications, and gradients: Winograd's F(4×4, 3×3).

A tile of 6×6 values and the 3×3 kernel are transformed (36 values each), multiplied value by value and transformed
back into 4×4 results: 36 multiplications instead of 144. Over the channels, the products of all tiles are 36 matrix
products. A third of the arithmetic of our ResNet-50 is in such convolutions of layer3 and layer4, and oneDNN computes
them directly. Here they learn, on the CPU; where nothing is learnt, convolution.c does the same.

In float32 its errors are a few times those of a direct convolution, but only with a good choice of the interpolation's
points: with the usual 0, ±1, ±2, ∞ they are more than twice as large again (see the tests). In layer3 and
layer4 that does no harm: the gradients of a step of train_cam on two crops lay within 5e-5 of those in double
precision, those of the published way within 8e-5 (relative, of each parameter).

Sources: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016); Barabasz et al., "Error
Analysis and Improving the Accuracy of Winograd Convolution" (TOMS 2020) on the choice of points.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

STEP, TILE, KERNEL = 4, 6, 3  # results, values and weights of a tile, a side
POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)  # and infinity; as in convolution.c
# Results of a channel, N·H·W, from which on fewer multiplications make up for the transforms, those of the weights,
# which have changed since the last step, among them.
WORTHWHILE = 512


class Transforms(NamedTuple):
    """Of a tile (36, 36), of a kernel (36, 9) and of the products (16, 36); of lines and columns at once."""

    values: torch.Tensor
    weights: torch.Tensor
    results: torch.Tensor


def transforms(points: Sequence[float]) -> Transforms:
    """The transforms with given points, float64.

    In one dimension: polynomials are evaluated at the points and at infinity, multiplied there, and interpolated
    (Toom-Cook, transposed, so that it gives a correlation). The interpolation's denominators are in the kernel's
    transform, which leaves the others numbers that float32 holds exactly.
    """

    def powers(n: int) -> np.ndarray:
        at_infinity = np.eye(n)[-1:]
        return np.concatenate([np.vander(points, n, increasing=True), at_infinity])

    denominators = np.array([*(np.prod([p - q for q in points if q != p]) for p in points), 1.0])[:, None]
    one_dimension = denominators * np.linalg.inv(powers(TILE)).T, powers(KERNEL) / denominators, powers(STEP).T
    return Transforms(*(torch.from_numpy(np.kron(matrix, matrix)) for matrix in one_dimension))


TRANSFORMS = transforms(POINTS)
VALUES, WEIGHTS, RESULTS = (matrix.float() for matrix in TRANSFORMS)


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution of stride 1 and padding 1 that on the CPU, in float32, learns the short way.

    Its weights, its state dict and its results are those of `nn.Conv2d`, up to rounding errors.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> Self:
        """The same convolution with the same parameters.

        Raises    ValueError if it is of another kind.
        """
        channels = convolution.in_channels, convolution.out_channels
        with torch.device("meta"):
            made = cls(*channels, KERNEL, padding=1, bias=convolution.bias is not None)
        if repr(made).partition("(")[2] != repr(convolution).partition("(")[2]:
            raise ValueError(f"{convolution} is no 3×3 convolution of stride 1")
        made.weight, made.bias = convolution.weight, convolution.bias
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, H, W)."""
        if not (in_float32_on_cpu(x) and recorded(self, x) and x[:, 0].numel() >= WORTHWHILE):
            return super().forward(x)
        y = _Differentiable.apply(x.permute(0, 2, 3, 1), self.weight)
        return (y if self.bias is None else y + self.bias).permute(0, 3, 1, 2)


def is_float32_on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def in_float32_on_cpu(x: torch.Tensor) -> bool:
    """Whether a convolution of x is computed in float32 on the CPU."""
    return is_float32_on_cpu(x) and not torch.is_autocast_enabled("cpu")


def recorded(convolution: nn.Conv2d, *given: torch.Tensor) -> bool:
    """Whether autograd is to go back through a convolution of what is given."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in (*given, *convolution.parameters()))


class _Differentiable(torch.autograd.Function):
    """The convolution with both its gradients, which are products of the same size."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        n, h, w, _ = x.shape
        padded, ctx.tiles = whole_tiles(x)
        values, weights = tiles(padded), kernel(weight)
        ctx.save_for_backward(values, weights)
        return untiled(multiplied(values, weights), n, ctx.tiles[1])[:, :h, :w]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        values, weights = ctx.saved_tensors
        n, h, w, out_channels = gradient.shape
        (rows, columns), channels = ctx.tiles, values.shape[2]
        padded = F.pad(gradient, (0, 0, 0, STEP * columns - w, 0, STEP * rows - h))
        patches = padded.reshape(n, rows, STEP, columns, STEP, -1).permute(2, 4, 0, 1, 3, 5).reshape(STEP**2, -1)
        products = (RESULTS.T @ patches).view(TILE**2, -1, out_channels)
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            spread = VALUES.T @ torch.bmm(products, weights).view(TILE**2, -1)
            to_x = overlaid(spread.view(TILE, TILE, n, rows, columns, channels))[:, 1 : h + 1, 1 : w + 1]
        if ctx.needs_input_grad[1]:
            of_weights = torch.bmm(products.mT, values.transpose(0, 1)).view(TILE**2, -1)
            to_weight = (WEIGHTS.T @ of_weights).view(KERNEL, KERNEL, out_channels, channels).permute(2, 3, 0, 1)
        return to_x, to_weight


def kernel(weight: torch.Tensor) -> torch.Tensor:
    """Weights (O, C, 3, 3) → transformed (36, O, C)."""
    out_channels, channels = weight.shape[:2]
    flat = weight.detach().permute(2, 3, 0, 1).reshape(KERNEL**2, -1)
    return (WEIGHTS @ flat).view(TILE**2, out_channels, channels)


def multiplied(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Transformed tiles (T, 36, C) times transformed weights (36, O, C) → products (T, 36, O)."""
    return torch.bmm(values.transpose(0, 1), weights.mT).transpose(0, 1)


def whole_tiles(x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """(N, H, W, C) with the zeros around it that tiles need, and how many rows and columns of tiles there are."""
    h, w = x.shape[1:3]
    rows, columns = -(-h // STEP), -(-w // STEP)
    return F.pad(x, (0, 0, 1, STEP * columns + 1 - w, 1, STEP * rows + 1 - h)), (rows, columns)


def tiles(padded: torch.Tensor) -> torch.Tensor:
    """The transformed tiles (N·rows·columns, 36, C) of (N, 4·rows + 2, 4·columns + 2, C)."""
    windows = padded.unfold(1, TILE, STEP).unfold(2, TILE, STEP)
    # tile by tile in memory, which is read in runs and transformed in the cache
    flat = windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, TILE**2, padded.shape[3])
    return VALUES @ flat


def untiled(products: torch.Tensor, n: int, columns: int) -> torch.Tensor:
    """Products (N·rows·columns, 36, O) → results (N, 4·rows, 4·columns, O)."""
    out_channels = products.shape[2]
    patches = (RESULTS @ products).view(n, -1, columns, STEP, STEP, out_channels)
    return patches.transpose(2, 3).reshape(n, -1, STEP * columns, out_channels)


def overlaid(spread: torch.Tensor) -> torch.Tensor:
    """Tiles (6, 6, N, rows, columns, C) added up where they overlap → (N, 4·rows + 4, 4·columns + 4, C)."""
    _, _, n, rows, columns, channels = spread.shape
    total = spread.new_zeros(n, rows + 1, STEP, columns + 1, STEP, channels)
    for down in (0, 1):
        for right in (0, 1):
            part = spread[STEP * down :, STEP * right :][:STEP, :STEP].permute(2, 3, 0, 4, 1, 5)
            place = total[:, down : rows + down, : part.shape[2], right : columns + right, : part.shape[4]]
            place += part
    return total.reshape(n, STEP * (rows + 1), STEP * (columns + 1), channels)
