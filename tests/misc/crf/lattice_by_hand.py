"""A permutohedral lattice as a dictionary, in double precision: the definition, point by point."""

import math
from collections.abc import Iterable

import numpy as np


class LatticeByHand:
    """features: (points, d); the first `pixels` of them are filtered, the others only have vertices."""

    def __init__(self, features: np.ndarray, pixels: int) -> None:
        self.d = features.shape[1]
        self.points = [self._simplex(point) for point in np.asarray(features, np.float64)]
        self.vertices = dict.fromkeys(key for simplex in self.points for key in simplex)
        self.points = self.points[:pixels]
        self.norm = 1 / np.sqrt(self._filter(np.ones((pixels, 1))))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return self.norm * self._filter(self.norm * values)

    def _simplex(self, point: Iterable[float]) -> dict[tuple[int, ...], float]:
        """Vertices around a point, and its barycentric coordinates."""
        d = self.d
        x = [value * math.sqrt(2 / 3) * (d + 1) / math.sqrt((j + 1) * (j + 2)) for j, value in enumerate(point)]
        plane = np.array([sum(x[i:]) - (i * x[i - 1] if i else 0) for i in range(d + 1)])
        nearest = np.ceil(plane / (d + 1) - 0.5).astype(int) * (d + 1)
        by_rest = sorted(range(d + 1), key=lambda i: nearest[i] - plane[i])  # stable: of equals, the first
        excess = nearest.sum() // (d + 1)
        for i in by_rest[d + 1 - excess :] if excess > 0 else by_rest[: -excess or 0]:
            nearest[i] -= (d + 1) * np.sign(excess)
        by_rest = by_rest[-excess:] + by_rest[:-excess] if excess else by_rest
        rest = (plane - nearest) / (d + 1)
        simplex = {}
        for r in range(d + 1):
            vertex = nearest + r
            vertex[by_rest[d + 1 - r :]] -= d + 1
            after = rest[by_rest[d - r]]
            before = rest[by_rest[d + 1 - r]] if r else rest[by_rest[0]] - 1
            simplex[tuple(vertex.tolist())] = after - before
        return simplex

    def _filter(self, values: np.ndarray) -> np.ndarray:
        held = {vertex: np.zeros(values.shape[1]) for vertex in self.vertices}
        for simplex, value in zip(self.points, values, strict=True):
            for vertex, weight in simplex.items():
                held[vertex] += weight * value
        for axis in range(self.d + 1):
            step = np.full(self.d + 1, -1)
            step[axis] = self.d
            held = {
                vertex: own + sum(held.get(tuple((vertex + side * step).tolist()), 0) for side in (-1, 1)) / 2
                for vertex, own in held.items()
            }
        return np.array([sum(weight * held[vertex] for vertex, weight in simplex.items()) for simplex in self.points])


def marginals_by_hand(
    image: np.ndarray, unary: np.ndarray, *, sxy: float, srgb: float, compat: float, iterations: int
) -> np.ndarray:
    """(C, H, W) probabilities, with the Gaussian filter of sxy 3 and weight 3."""
    height, width = image.shape[:2]
    y, x = np.indices((height, width)).reshape(2, -1)
    positions, colours = np.stack([x, y], axis=1), image.reshape(-1, 3)
    # pydensecrf fills the last group of four pixels with points at the origin
    filled = [(0, 1 if len(x) % 4 else 0), (0, 0)]
    gaussian = LatticeByHand(np.pad(positions / 3, filled), len(x))
    bilateral = LatticeByHand(np.pad(np.concatenate([positions / sxy, colours / srgb], axis=1), filled), len(x))
    energies = unary.reshape(len(unary), -1).T.astype(np.float64)
    q = softmax(-energies)
    for _ in range(iterations):
        q = softmax(3 * gaussian(q) + compat * bilateral(q) - energies)
    return q.T.reshape(unary.shape)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
