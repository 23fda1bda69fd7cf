"""3×3 convolutions with a quarter of the multiplications, and their gradients: Winograd's F(4×4, 3×3).

A tile of 6×6 values and the 3×3 kernel are transformed (36 values each), multiplied value by value and transformed
back into 4×4 results: 36 multiplications instead of 144. Over the channels, the products of all tiles are 36 matrix
products. A third of the arithmetic of our ResNet-50 is in such convolutions of layer3 and layer4, which oneDNN
computes directly: with them, a step of train_cam takes a fifth longer. This module is for convolutions that learn;
convolution.c does the same for frozen ones.

In float32 its errors are a few times those of a direct convolution. They would be more than twice as large again with
the usual points of interpolation, 0, ±1, ±2, ∞ (see the tests). In layer3 and layer4 that does no harm: the gradients
of a step of train_cam on two crops lay within 5e-5 of those in double precision, those of the published way within
8e-5 (relative, of each parameter).

Sources: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016); Barabasz et al., "Error
Analysis and Improving the Accuracy of Winograd Convolution" (TOMS 2020) on the choice of points.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

STEP, TILE, KERNEL = 4, 6, 3  # side of a tile's results, of its values, of the kernel
POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)  # and infinity; as in convolution.c
# With fewer results of a channel, N·H·W, the transforms take longer than the multiplications that they save: each step
# transforms the weights anew.
WORTHWHILE = 512
LEAST_CHANNELS = 256  # those of layer3 and layer4, where the accuracy of the gradients was measured


class Transforms(NamedTuple):
    """The transforms of a tile (36, 36), of a kernel (36, 9) and of the products (16, 36), over lines and columns."""

    values: torch.Tensor
    weights: torch.Tensor
    results: torch.Tensor


def transforms(points: Sequence[float]) -> Transforms:
    """The transforms for some points of interpolation, float64.

    In one dimension: polynomials are evaluated at the points and at infinity, multiplied there, and interpolated
    (Toom-Cook, transposed, so that it gives a correlation). The kernel's transform contains the denominators of the
    interpolation; float32 holds the other two transforms exactly.
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
    """A 3×3 convolution of stride 1 and padding 1 that uses Winograd's algorithm where it learns in float32 on the CPU.

    Its weights, its state dict and, up to rounding errors, its results are those of `nn.Conv2d`.
    """

    @staticmethod
    def can_replace(convolution: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether `convolution` is a plain 3×3 one of stride 1 and padding 1, with LEAST_CHANNELS."""
        return (
            type(convolution) is nn.Conv2d
            and (convolution.kernel_size, convolution.stride) == ((KERNEL, KERNEL), (1, 1))
            and (convolution.padding, convolution.padding_mode) == ((1, 1), "zeros")
            and (convolution.dilation, convolution.groups) == ((1, 1), 1)
            and min(convolution.in_channels, convolution.out_channels) >= LEAST_CHANNELS
        )

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> Self:
        """The same convolution with the same parameters, in the same mode.

        convolution   one that it `can_replace`
        """
        with torch.device("meta"):
            made = cls(convolution.in_channels, convolution.out_channels, KERNEL, padding=1)
        made.weight, made.bias = convolution.weight, convolution.bias
        return made.train(convolution.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, H, W)."""
        learns = needs_gradient(x, *self.parameters()) and x[:, 0].numel() >= WORTHWHILE
        if not learns or not computes_in_float32_on_cpu(x):
            return super().forward(x)
        y = _WinogradFunction.apply(x.permute(0, 2, 3, 1), self.weight)
        return (y if self.bias is None else y + self.bias).permute(0, 3, 1, 2)


def is_float32_on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def computes_in_float32_on_cpu(x: torch.Tensor) -> bool:
    """Whether torch computes a convolution of x in float32 on the CPU."""
    return is_float32_on_cpu(x) and not torch.is_autocast_enabled("cpu")


def needs_gradient(*tensors: torch.Tensor) -> bool:
    """Whether autograd records what is computed from these tensors."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class _WinogradFunction(torch.autograd.Function):
    """The convolution and both its gradients, which are matrix products of the same size."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        n, h, w, _ = x.shape
        padded, ctx.tiles = pad_to_tiles(x)
        values, weights = transform_tiles(padded), transform_kernel(weight)
        ctx.save_for_backward(values, weights)
        return transform_back(multiply(values, weights), n, ctx.tiles[1])[:, :h, :w]

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
            to_x = add_overlapping(spread.view(TILE, TILE, n, rows, columns, channels))[:, 1 : h + 1, 1 : w + 1]
        if ctx.needs_input_grad[1]:
            of_weights = torch.bmm(products.mT, values.transpose(0, 1)).view(TILE**2, -1)
            to_weight = (WEIGHTS.T @ of_weights).view(KERNEL, KERNEL, out_channels, channels).permute(2, 3, 0, 1)
        return to_x, to_weight


def transform_kernel(weight: torch.Tensor) -> torch.Tensor:
    """Weights (O, C, 3, 3) → transformed (36, O, C)."""
    out_channels, channels = weight.shape[:2]
    flat = weight.detach().permute(2, 3, 0, 1).reshape(KERNEL**2, -1)
    return (WEIGHTS @ flat).view(TILE**2, out_channels, channels)


def multiply(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Transformed tiles (T, 36, C) times transformed weights (36, O, C) → products (T, 36, O)."""
    return torch.bmm(values.transpose(0, 1), weights.mT).transpose(0, 1)


def pad_to_tiles(x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """(N, H, W, C) padded with zeros to whole tiles, and the number of rows and of columns of tiles."""
    h, w = x.shape[1:3]
    rows, columns = -(-h // STEP), -(-w // STEP)
    return F.pad(x, (0, 0, 1, STEP * columns + 1 - w, 1, STEP * rows + 1 - h)), (rows, columns)


def transform_tiles(padded: torch.Tensor) -> torch.Tensor:
    """The transformed tiles (N·rows·columns, 36, C) of (N, 4·rows + 2, 4·columns + 2, C)."""
    windows = padded.unfold(1, TILE, STEP).unfold(2, TILE, STEP)
    # each tile is contiguous in memory, so that it is transformed within the cache
    flat = windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, TILE**2, padded.shape[3])
    return VALUES @ flat


def transform_back(products: torch.Tensor, n: int, columns: int) -> torch.Tensor:
    """Products (N·rows·columns, 36, O) → results (N, 4·rows, 4·columns, O)."""
    out_channels = products.shape[2]
    patches = (RESULTS @ products).view(n, -1, columns, STEP, STEP, out_channels)
    return patches.transpose(2, 3).reshape(n, -1, STEP * columns, out_channels)


def add_overlapping(spread: torch.Tensor) -> torch.Tensor:
    """Tiles (6, 6, N, rows, columns, C) added up where they overlap → (N, 4·rows + 4, 4·columns + 4, C)."""
    _, _, n, rows, columns, channels = spread.shape
    total = spread.new_zeros(n, rows + 1, STEP, columns + 1, STEP, channels)
    for down in (0, 1):
        for right in (0, 1):
            part = spread[STEP * down :, STEP * right :][:STEP, :STEP].permute(2, 3, 0, 4, 1, 5)
            place = total[:, down : rows + down, : part.shape[2], right : columns + right, : part.shape[4]]
            place += part
    return total.reshape(n, STEP * (rows + 1), STEP * (columns + 1), channels)
