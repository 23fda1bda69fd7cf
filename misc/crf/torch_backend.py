"""The dense CRF in PyTorch, on the CPU or a GPU: the same lattices and the same steps as dense_crf.c.

Sums over the pixels of a vertex go along sorted pixels, segment by segment, and never by atomic additions: the same
input gives the same bits.
"""

import numpy as np
import torch

from misc.crf.filters import Filters
from misc.crf.lattice import Packing, packing


class TorchBackend:
    """See dense_crf.Backend."""

    def __init__(self, image: np.ndarray, n_labels: int, filters: Filters, device: torch.device | str) -> None:
        height, width = image.shape[:2]
        self.shape, self.n_labels, self.device = (height, width), n_labels, torch.device(device)
        with torch.inference_mode():
            y, x = (axis.reshape(-1) for axis in np.indices(self.shape, np.float32))
            positions = np.stack([x, y], axis=1)
            colours = image.reshape(-1, 3).astype(np.float32)
            gaussian, bilateral = np.float32(filters.gaussian_sxy), np.float32(filters.sxy)
            features = np.concatenate([positions / bilateral, colours / np.float32(filters.srgb)], axis=1)
            self._filters = [
                (
                    _Lattice(self._tensor(positions / gaussian), packing(*self.shape, sxy=filters.gaussian_sxy)),
                    filters.gaussian_compat,
                ),
                (
                    _Lattice(self._tensor(features), packing(*self.shape, sxy=filters.sxy, srgb=filters.srgb)),
                    filters.compat,
                ),
            ]

    @torch.inference_mode()
    def refine(self, labels: np.ndarray, gain: float, iterations: int) -> np.ndarray:
        given = self._tensor(labels.reshape(len(labels), -1, 1).astype(np.int64))
        energies = torch.where(given == torch.arange(self.n_labels, device=self.device), 0.0, gain)
        return self._best(self._mean_field(energies, iterations)).reshape(labels.shape)

    @torch.inference_mode()
    def infer(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        return self._best(self._mean_field(self._rows(unary), iterations)).reshape(self.shape)

    @torch.inference_mode()
    def marginals(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        others = self._mean_field(self._rows(unary), iterations)
        gains = torch.nn.functional.pad(others, (1, 0))
        return gains[0].softmax(dim=-1).T.reshape(unary.shape).contiguous().cpu().numpy()

    def _mean_field(self, energies: torch.Tensor, iterations: int) -> torch.Tensor:
        """(maps, pixels, labels) energies → (maps, pixels, labels − 1): by how much they lie below label 0's.

        Potts potentials see differences of probabilities only, so the filters carry Q_l − Q_0.
        """
        start = energies[..., :1] - energies[..., 1:]
        gains = start
        for _ in range(iterations):
            q = torch.nn.functional.pad(gains, (1, 0)).softmax(dim=-1)
            differences = (q[..., 1:] - q[..., :1]).transpose(0, 1)
            rows = differences.reshape(len(differences), -1)  # all maps' labels side by side
            gains = start
            for lattice, compat in self._filters:
                gains = gains + compat * lattice(rows).reshape(differences.shape).transpose(0, 1)
        return gains

    def _best(self, gains: torch.Tensor) -> np.ndarray:
        top, label = gains.max(dim=-1)
        return torch.where(top > 0, label + 1, 0).cpu().numpy()

    def _rows(self, unary: np.ndarray) -> torch.Tensor:
        return self._tensor(unary).flatten(1).T[None]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


class _Lattice:
    """A Gaussian filter of rows of channels, normalised from both sides. One remainder (see lattice.py) at a time: each
    has vertices of its own, one of them at every pixel.

    features   (pixels, d) float32, in standard deviations
    """

    def __init__(self, features: torch.Tensor, keys: Packing) -> None:
        pixels = len(features)
        if pixels % 4:  # pydensecrf's last group of four pixels is filled with points at the origin; see dense_crf.c
            features = torch.cat([features, features.new_zeros(1, features.shape[1])])
        found, self._weights = _embed(features, keys)
        self._weights = self._weights[:, :pixels]
        vertices, self._vertex, self._pixels, self._counts = [], [], [], []
        first = 0
        for key in found:
            unique, number = torch.unique(key, return_inverse=True)
            number = number[:pixels]
            self._pixels.append(torch.argsort(number, stable=True))
            self._counts.append(torch.bincount(number, minlength=len(unique)))
            self._vertex.append(number + first)
            vertices.append(unique)
            first += len(unique)
        self._neighbours = _neighbours(vertices, keys)
        ones = torch.ones(pixels, 1, device=features.device)
        self._weights = self._weights * self(ones)[:, 0].rsqrt()

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(pixels, channels) → (pixels, channels)."""
        splat = [
            torch.segment_reduce((rows * weight[:, None])[pixels], "sum", lengths=counts, axis=0, unsafe=True)
            for weight, pixels, counts in zip(self._weights, self._pixels, self._counts, strict=True)
        ]
        values = torch.cat([*splat, rows.new_zeros(1, rows.shape[1])])  # the last for vertices that do not exist
        for below, above in self._neighbours:
            values[:-1] += 0.5 * (values[below] + values[above])
        result = torch.zeros_like(rows)
        for weight, vertex in zip(self._weights, self._vertex, strict=True):
            result += weight[:, None] * values[vertex]
        return result


def _embed(features: torch.Tensor, keys: Packing) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and weights of the vertices of the simplices around points (Adams et al., section 3.1).

    features   (points, d) float32
    Returns    (d + 1, points) int64 keys, by their remainder, and float32 weights
    """
    d = features.shape[1]
    own = features * torch.tensor(keys.scale[:d], device=features.device)
    steps = torch.tensor(keys.step[: d + 1], device=features.device)
    elevated, total = [], torch.zeros_like(own[:, 0])
    for i in range(d, 0, -1):
        elevated.append(total - i * own[:, i - 1])
        total = total + own[:, i - 1]
    coordinates = torch.stack([total, *reversed(elevated)], dim=1)

    scaled = coordinates / (d + 1)
    below = scaled.floor()
    quotient = below + (scaled - below > 0.5)  # of the nearest point of remainder 0
    rest = coordinates - quotient * (d + 1)
    # how many coordinates have been rounded down further; of two that are equal, the first
    rank = torch.empty_like(quotient, dtype=torch.int64)
    rank.scatter_(
        1, rest.argsort(dim=1, descending=True, stable=True), torch.arange(d + 1, device=rank.device).expand_as(rank)
    )
    # where the sum is not zero, the coordinates that were rounded furthest take another multiple
    rank += quotient.sum(dim=1, keepdim=True).long()
    turn = (rank < 0).long() - (rank > d).long()
    rank += turn * (d + 1)
    quotient = quotient.long() + turn
    rest = (rest - turn * (d + 1)) / (d + 1)

    by_rank = torch.argsort(rank, dim=1)
    ordered, step = rest.gather(1, by_rank), steps[by_rank]
    origin = keys.origin + (quotient * steps).sum(dim=1, keepdim=True)
    # the vertex of remainder r + 1 is that of r with one more everywhere, less d + 1 in the coordinate of rank d - r
    key = torch.cat([origin, origin + (1 - step[:, 1:].flip(1)).cumsum(dim=1)], dim=1)
    weight = torch.cat([1 + ordered[:, -1:] - ordered[:, :1], (ordered[:, :-1] - ordered[:, 1:]).flip(1)], dim=1)
    return key.T.contiguous(), weight.T.contiguous()


def _neighbours(vertices: list[torch.Tensor], keys: Packing) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each axis, the numbers of the vertices below and above each; the number of all where there is none.

    vertices   by their remainder, sorted keys
    """
    corners, n = len(vertices), sum(map(len, vertices))
    starts = [sum(map(len, vertices[:r])) for r in range(corners)]
    found = []
    for axis in range(corners):
        below = torch.full((n,), n, device=vertices[0].device)
        above = below.clone()
        for r, own in enumerate(vertices):
            # one less everywhere, d + 1 more along the axis
            wanted = own + keys.step[axis] + (-1 if r else corners - 1 - sum(keys.step))
            other = vertices[r - 1]
            place = torch.searchsorted(other, wanted).clamp(max=len(other) - 1)
            (there,) = torch.nonzero(other[place] == wanted, as_tuple=True)
            mine, theirs = starts[r] + there, starts[r - 1] + place[there]
            below[mine] = theirs
            above[theirs] = mine
        found.append((below, above))
    return found
