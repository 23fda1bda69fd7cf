"""Semantic propagation: CAM scores walk over the pixels, boundaries stand in their way.

docs/method.md, section 6. The published way builds the dense (h·w)² transition matrix and squares it `exp_times`
times. Here

- the affinity is kept as its non-zero diagonals: two pixels interact only when less than `radius`
  apart, so the matrix is a stencil of 69 fixed offsets (radius 5) and has no indices to read;
- T = A·D⁻¹ is similar to the symmetric S = D^-½·A·D^-½, whose spectrum lies in [-1, 1]. There the
  power xⁿ is the mean of the Chebyshev polynomials T_|k|(x) over the end points k of n fair ±1
  steps, and those end points lie within a few √n: 2⁸ = 256 steps cost about 80 products.

Sources: IRN (CVPR 2019) section 4 for the walk; Sachdeva & Vishnoi, "Faster Algorithms via
Approximation Theory" (2014), theorem 3.1, for the series.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

RADIUS = 5  # published: pixels less than 5 apart (on the stride-4 grid) have an affinity
# Share of the Chebyshev weights that may be left out: the error of a score is of this order.
# The products are in double precision. In float32 the recurrence meets the same rounding errors
# at every step once the walk has settled in a small region, and they add up to 1e-4.
SERIES_TAIL = 1e-6


@torch.inference_mode()
def random_walk(
    cam_s4: torch.Tensor, edge: torch.Tensor, *, beta: float, exp_times: int, radius: int = RADIUS
) -> torch.Tensor:
    """Propagate CAM scores for 2**exp_times steps of the boundary-aware random walk.

    cam_s4    (K, h, w) float, scores ≥ 0 at stride 4; K may be 0
    edge      (h, w) float in [0, 1], boundary probability, same device
    beta      exponent of the affinity, > 0; larger means sharper walls
    exp_times number of doublings of the walk, ≥ 0
    Returns   (K, h, w) float32 on the same device: (cam·(1-edge))·T^(2**exp_times).
    Raises    ValueError if the grids differ.
    Accuracy  within 1e-4 of the dense power in double precision (seen: 1e-6).
    Source: IRN section 4.2; SBE section II-C.
    """
    if cam_s4.shape[1:] != edge.shape:
        raise ValueError(f"CAM grid {tuple(cam_s4.shape[1:])} and edge grid {tuple(edge.shape)} differ")
    if cam_s4.shape[0] == 0:
        return cam_s4.float()
    start = (cam_s4.double() * (1 - edge.double())).flatten(1)
    affinity = Stencil.of_affinity(edge, beta=beta, radius=radius)
    root_degree = affinity.row_sums().sqrt()
    symmetric = affinity.scaled_both_sides(1 / root_degree)
    # a row vector x walks as x·Tⁿ = ((x·D^½)·Sⁿ)·D^-½, and S is symmetric
    walked = power_product(symmetric, start * root_degree, 2**exp_times) / root_degree
    return walked.float().reshape(cam_s4.shape)


def power_product(matrix: "Stencil", vectors: torch.Tensor, power: int) -> torch.Tensor:
    """matrix**power applied to each row of `vectors`, by a truncated Chebyshev series.

    matrix    symmetric, spectrum in [-1, 1]
    vectors   (K, n) float64
    Returns   (K, n) float64.
    """
    weights = chebyshev_weights(power)
    # three buffers take turns, so that their views are made once
    buffers = (vectors.clone(), torch.empty_like(vectors), torch.empty_like(vectors))
    previous, current, following = map(matrix.shifted, buffers)
    matrix.product_into(previous, current)
    total = weights[0] * previous.whole + weights[1] * current.whole
    for weight in weights[2:]:
        matrix.product_into(current, following)
        following.whole.mul_(2).sub_(previous.whole)
        if weight:
            total.add_(following.whole, alpha=float(weight))
        previous, current, following = current, following, previous
    return total


def chebyshev_weights(power: int, tail: float = SERIES_TAIL) -> np.ndarray:
    """Weights c with x**power = Σ c[k]·T_k(x), cut where what is left sums to at most `tail`.

    c[k] is the probability that `power` fair ±1 steps end at distance k, so the weights are
    non-negative, sum to one, and |T_k| ≤ 1 bounds the error on [-1, 1] by `tail`.
    Returns   (degree + 1,) float64, degree ≥ 1.
    """
    distance = np.arange(power + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, power + 1)))])
    up = (power + distance) // 2
    log_share = log_factorial[power] - log_factorial[up] - log_factorial[power - up] - power * np.log(2)
    weights = np.where((power - distance) % 2 == 0, np.exp(log_share), 0)
    weights[1:] *= 2
    left_out = np.cumsum(weights[::-1])[::-1]  # left_out[k]: all weights from k on
    degree = max(1, int((left_out > tail).sum()) - 1)
    return weights[: degree + 1]


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


class Stencil:
    """A symmetric matrix over the pixels of a grid, kept as the diagonals of a fixed neighbourhood.

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
    def of_affinity(cls, edge: torch.Tensor, *, beta: float, radius: int) -> "Stencil":
        """affinity**beta, where affinity = 1 - max(edge along the path) and 1 on the diagonal.

        edge      (h, w) float in [0, 1]
        """
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

    def row_sums(self) -> torch.Tensor:
        """(n,) float64, the sum of each row (and column)."""
        return self.product(torch.ones_like(self.diagonal)[None])[0]

    def scaled_both_sides(self, scale: torch.Tensor) -> "Stencil":
        """diag(scale)·self·diag(scale), for scale (n,) float64."""
        n = len(scale)
        upper = self.upper * scale
        for row, step in zip(upper, self.steps, strict=True):
            row[: n - step] *= scale[step:]
        return Stencil(self.diagonal * scale**2, upper, self.steps)

    def product(self, vectors: torch.Tensor) -> torch.Tensor:
        """self·vᵀ for each row v of `vectors` (K, n); float64, on the device of the stencil."""
        result = self.shifted(torch.empty_like(vectors))
        self.product_into(self.shifted(vectors), result)
        return result.whole

    def shifted(self, vectors: torch.Tensor) -> "Shifted":
        """The views of `vectors` (K, n) that a product reads or writes."""
        n = vectors.shape[1]
        return Shifted(
            vectors, [vectors[:, : n - step] for step in self.steps], [vectors[:, step:] for step in self.steps]
        )

    def product_into(self, vectors: "Shifted", result: "Shifted") -> None:
        """result = self·vectors. A multiply-add along each diagonal: no indices to read, and the same on a GPU."""
        torch.mul(self.diagonal, vectors.whole, out=result.whole)
        columns = zip(self._couplings, vectors.head, vectors.tail, result.head, result.tail, strict=True)
        for coupling, head, tail, result_head, result_tail in columns:
            result_head.addcmul_(coupling, tail)
            result_tail.addcmul_(coupling, head)


class Shifted(NamedTuple):
    """Vectors (K, n) and, for each step of a stencil, all but their last and all but their first `step` values."""

    whole: torch.Tensor
    head: list[torch.Tensor]
    tail: list[torch.Tensor]
