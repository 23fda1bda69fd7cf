"""Semantic propagation: CAM scores walk over the pixels, boundaries stand in their way.

docs/method.md, section 6. The published way builds the dense (h·w)² transition matrix and squares it `exp_times`
times. Here

- the affinity is kept as a stencil (misc/method/stencil.py): two pixels interact only when less than
  `radius` apart, so the matrix has 69 fixed offsets (radius 5) and no indices to read;
- T = A·D⁻¹ is similar to the symmetric S = D^-½·A·D^-½, whose spectrum lies in [-1, 1]. There the
  power xⁿ is the mean of the Chebyshev polynomials T_|k|(x) over the end points k of n fair ±1
  steps, and those end points lie within a few √n: 2⁸ = 256 steps cost about 80 products.

Sources: IRN (CVPR 2019) section 4 for the walk; Sachdeva & Vishnoi, "Faster Algorithms via
Approximation Theory" (2014), theorem 3.1, for the series.
"""

from typing import Any

import numpy as np
import torch

from misc.method.stencil import Buffer, Diagonals, Stencil, Windows

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
    form = Windows if Windows.are_faster(start.shape[0], edge, radius) else Diagonals
    affinity: Stencil[Any] = form.of_affinity(edge, beta=beta, radius=radius)
    root_degree = affinity.row_sums().sqrt()
    symmetric = affinity.scaled_both_sides(1 / root_degree)
    # a row vector x walks as x·Tⁿ = ((x·D^½)·Sⁿ)·D^-½, and S is symmetric
    walked = power_product(symmetric, start * root_degree, 2**exp_times) / root_degree
    return walked.float().reshape(cam_s4.shape)


def power_product(matrix: Stencil[Buffer], vectors: torch.Tensor, power: int) -> torch.Tensor:
    """matrix**power applied to each row of `vectors`, by a truncated Chebyshev series.

    matrix    symmetric, spectrum in [-1, 1]
    vectors   (K, n) float64
    Returns   (K, n) float64.
    """
    weights = chebyshev_weights(power)
    # three buffers take turns, so that their views are made once
    previous, current, following = (matrix.buffer(vectors) for _ in range(3))
    matrix.product_into(previous, current)
    total = weights[0] * previous.whole + weights[1] * current.whole
    for weight in weights[2:]:
        matrix.product_into(current, following)
        following.whole.mul_(2).sub_(previous.whole)
        if weight:
            total.add_(following.whole, alpha=float(weight))
        previous, current, following = current, following, previous
    return total.reshape(vectors.shape)


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
