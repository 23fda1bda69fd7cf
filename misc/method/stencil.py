"""Symmetric matrices over the pixels of a grid, in which a pixel is coupled with its neighbourhood only.

The affinity of the random walk is one: of (h·w)² entries, at most 69 a row differ from zero (radius 5). Two forms hold
it without indices:

- `Diagonals`: a multiply-add along each of its non-zero diagonals, half of which follow from symmetry. What an
  operation reads and writes stays in the cache of a CPU. But a product is 69 small operations, and a GPU takes longer
  to start one than to compute it.
- `Windows`: the vector stands in a grid with a margin of zeros, where the vector shifted by (dy, dx) is the same memory
  read from another start. So all shifts together are one view with two more dimensions (im2col, without the copy), and
  a product is one multiplication and one sum: two operations, however wide the neighbourhood is.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F

# Of the products before they are summed: on a grid where they take more, an operation of `Diagonals` is no small one.
LARGEST_PRODUCTS = 2**30  # bytes: two classes on an image of 3600×3600


class HasWhole(Protocol):
    @property
    def whole(self) -> torch.Tensor: ...


Buffer = TypeVar("Buffer", bound=HasWhole)


class Stencil(ABC, Generic[Buffer]):
    """A symmetric matrix of float64 over n = h·w pixels. Vectors are rows (K, n) of float64 on its device.

    A `Buffer` holds vectors as a form wants to read and write them; `whole`, a view of them all.
    """

    @classmethod
    @abstractmethod
    def of_affinity(cls, edge: torch.Tensor, *, beta: float, radius: int) -> "Stencil[Buffer]":
        """affinity**beta, where affinity = 1 - max(edge along the path) and 1 on the diagonal.

        edge      (h, w) float in [0, 1]
        """

    @abstractmethod
    def scaled_both_sides(self, scale: torch.Tensor) -> "Stencil[Buffer]":
        """diag(scale)·self·diag(scale), for scale (n,) float64."""

    @abstractmethod
    def buffer(self, vectors: torch.Tensor) -> Buffer:
        """A copy of `vectors` (K, n) that a product reads or writes."""

    @abstractmethod
    def product_into(self, vectors: Buffer, result: Buffer) -> None:
        """result = self·vectors."""

    def product(self, vectors: torch.Tensor) -> torch.Tensor:
        """self·vᵀ for each row v of `vectors` (K, n)."""
        result = self.buffer(vectors)
        self.product_into(self.buffer(vectors), result)
        return result.whole.reshape(vectors.shape)

    @abstractmethod
    def row_sums(self) -> torch.Tensor:
        """(n,) float64, the sum of each row (and column)."""


def half_plane_offsets(radius: int) -> list[tuple[int, int]]:
    """One of each pair ±(dy, dx) with 0 < dy² + dx² < radius², in order of the flat offset."""
    return [
        (dy, dx)
        for dy in range(radius)
        for dx in range(-radius + 1, radius)
        if dy * dy + dx * dx < radius * radius and (dy, dx) > (0, 0)
    ]


def path_pixels(dy: int, dx: int) -> Iterator[tuple[int, int]]:
    """The pixels between (0, 0) and (dy, dx), both included, closer than 1 to the line joining them."""
    for y in range(min(0, dy), max(0, dy) + 1):
        for x in range(min(0, dx), max(0, dx) + 1):
            if (dy * x - dx * y) ** 2 < dy * dy + dx * dx:
                yield y, x


class Shifted(NamedTuple):
    """Vectors (K, n) and, for each step of the diagonals, all but their last and all but their first `step` values."""

    whole: torch.Tensor
    head: list[torch.Tensor]
    tail: list[torch.Tensor]


class Diagonals(Stencil[Shifted]):
    """The matrix as its diagonals.

    diagonal  (n,) float64, n = h·w
    upper     (offsets, n) float64: upper[o, p] couples pixel p with pixel p + step[o]; the lower
              half follows from symmetry
    steps     the flat offsets dy·w + dx. An offset that would leave the grid, or wrap into the
              next row, carries the value 0.
    """

    def __init__(self, diagonal: torch.Tensor, upper: torch.Tensor, steps: list[int]) -> None:
        self.diagonal = diagonal
        self.upper = upper
        self.steps = steps
        n = len(diagonal)
        self._couplings = [row[: n - step] for row, step in zip(upper, steps, strict=True)]

    @classmethod
    def of_affinity(cls, edge: torch.Tensor, *, beta: float, radius: int) -> "Diagonals":
        h, w = edge.shape
        edge = edge.float()
        margin = radius - 1
        walled = F.pad(edge, (margin, margin, 0, margin), value=1.0)  # outside the grid: a wall
        offsets = [(dy, dx) for dy, dx in half_plane_offsets(radius) if dy < h and abs(dx) < w]
        # on a grid narrower than the stencil, two offsets can share a flat step (never a pixel)
        steps = sorted({dy * w + dx for dy, dx in offsets})
        upper = edge.new_zeros(len(steps), h * w, dtype=torch.float64)
        for dy, dx in offsets:
            wall = edge.clone()
            for y, x in path_pixels(dy, dx):
                torch.maximum(wall, walled[y : y + h, margin + x : margin + x + w], out=wall)
            upper[steps.index(dy * w + dx)] += (1 - wall.flatten()).pow_(beta)
        return cls(upper.new_ones(h * w), upper, steps)

    def scaled_both_sides(self, scale: torch.Tensor) -> "Diagonals":
        n = len(scale)
        upper = self.upper * scale
        for row, step in zip(upper, self.steps, strict=True):
            row[: n - step] *= scale[step:]
        return Diagonals(self.diagonal * scale**2, upper, self.steps)

    def buffer(self, vectors: torch.Tensor) -> Shifted:
        n, whole = vectors.shape[1], vectors.clone()
        return Shifted(whole, [whole[:, : n - step] for step in self.steps], [whole[:, step:] for step in self.steps])

    def row_sums(self) -> torch.Tensor:
        return self.product(torch.ones_like(self.diagonal)[None])[0]

    def product_into(self, vectors: Shifted, result: Shifted) -> None:
        torch.mul(self.diagonal, vectors.whole, out=result.whole)
        columns = zip(self._couplings, vectors.head, vectors.tail, result.head, result.tail, strict=True)
        for coupling, head, tail, result_head, result_tail in columns:
            result_head.addcmul_(coupling, tail)
            result_tail.addcmul_(coupling, head)


class Padded(NamedTuple):
    """Vectors in a grid with a margin.

    whole     (K, h, w), the vectors
    shifts    (K, side, side, h, w), a view: [:, i, j, y, x] is the value at (y + i - margin, x + j - margin)
    """

    whole: torch.Tensor
    shifts: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor, margin: int, fill: float) -> "Padded":
        """values (K, h, w) amid a margin of `fill`."""
        count, h, w = values.shape
        side, width = 2 * margin + 1, w + 2 * margin
        grid = F.pad(values, (margin, margin, margin, margin), value=fill)
        shifts = grid.as_strided((count, side, side, h, w), (grid.stride(0), width, 1, width, 1))
        return cls(shifts[:, margin, margin], shifts)


class Windows(Stencil[Padded]):
    """The matrix as a window around each pixel.

    coefficients  (side, side, h, w) float64, side = 2·radius - 1: [i, j, y, x] couples pixel (y, x) with the pixel at
                  (y + i - margin, x + j - margin), margin = radius - 1; 0 farther than `radius`, and outside the grid
    """

    def __init__(self, coefficients: torch.Tensor) -> None:
        self.coefficients = coefficients
        self._margin, self._grid = len(coefficients) // 2, coefficients.shape[2:]

    @staticmethod
    def are_faster(count: int, edge: torch.Tensor, radius: int) -> bool:
        """Whether `count` vectors are walked faster in this form: on a GPU, where their products fit."""
        products = 8 * count * (2 * radius - 1) ** 2 * edge.numel()
        return edge.device.type != "cpu" and products <= LARGEST_PRODUCTS

    @classmethod
    def of_affinity(cls, edge: torch.Tensor, *, beta: float, radius: int) -> "Windows":
        margin = radius - 1
        around = Padded.of(edge.float()[None], margin, fill=1.0).shifts[0]  # outside the grid: a wall
        rows, columns, is_near = _paths(radius, edge.device)
        wall = around[rows[0], columns[0]]
        for row, column in zip(rows[1:], columns[1:], strict=True):
            torch.maximum(wall, around[row, column], out=wall)
        coefficients = (1 - wall).pow_(beta).mul_(is_near).double()
        coefficients[margin, margin].fill_(1)
        return cls(coefficients)

    def scaled_both_sides(self, scale: torch.Tensor) -> "Windows":
        return Windows(self.coefficients * scale.reshape(self._grid) * self.buffer(scale[None]).shifts[0])

    def buffer(self, vectors: torch.Tensor) -> Padded:
        return Padded.of(vectors.reshape(-1, *self._grid), self._margin, fill=0)

    def row_sums(self) -> torch.Tensor:
        return self.coefficients.sum(dim=(0, 1)).flatten()

    def product_into(self, vectors: Padded, result: Padded) -> None:
        torch.sum(vectors.shifts * self.coefficients, dim=(1, 2), out=result.whole)


@lru_cache
def _paths(radius: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The paths to all shifts of a window. They are kept: to copy them to a GPU, the host would wait for it.

    Returns   rows and columns (longest path, side, side) int64, of each path's pixels in the window, its last pixel
              repeated; and (side, side, 1, 1) bool, which shifts are nearer than `radius`.
    """
    margin = radius - 1
    reach = range(-margin, margin + 1)
    near = [[dy * dy + dx * dx < radius * radius for dx in reach] for dy in reach]
    paths = [
        [[*path_pixels(dy, dx)] if 0 < dy * dy + dx * dx < radius * radius else [(0, 0)] for dx in reach]
        for dy in reach
    ]
    longest = max(len(path) for line in paths for path in line)
    filled = [[path + path[-1:] * (longest - len(path)) for path in line] for line in paths]
    places = torch.tensor(filled).permute(3, 2, 0, 1) + margin  # (y and x, longest, side, side)
    rows, columns = places.to(device)
    return rows, columns, torch.tensor(near)[:, :, None, None].to(device)
