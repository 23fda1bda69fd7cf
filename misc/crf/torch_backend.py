"""The dense CRF in PyTorch, on the CPU or a GPU: the same lattices and the same steps as dense_crf.c.

Splat, blur and slice are weighted sums of rows, each of as many rows as it takes: of bags, as embeddings have them. So
each is one operation, which adds the rows of a bag one after the other and never by atomic additions: the same input
gives the same bits. On a GPU an image's CRF costs what its launches cost, 340 of them.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from misc.crf.filters import Filters
from misc.crf.lattice import Packing, packing

KEPT_SIZES = 4  # a data set has few sizes of images, each at two orientations
LARGEST_KEPT = 2**20  # pixels: 70 bytes each
PIECE = (
    64  # a vertex of a cloudless sky has thousands of pixels: their sum is one of pieces, which are added in parallel
)


class TorchBackend:
    """See dense_crf.Backend."""

    def __init__(self, image: np.ndarray, n_labels: int, filters: Filters, device: torch.device | str) -> None:
        height, width = image.shape[:2]
        self.shape, self.n_labels, self.device = (height, width), n_labels, torch.device(device)
        lattice_of_positions = _kept_lattice if height * width <= LARGEST_KEPT else _lattice_of_positions
        with torch.inference_mode():
            colours = self._tensor(image).reshape(-1, 3).float() / _number(filters.srgb, self.device)
            features = torch.cat([_positions(height, width, filters.sxy, self.device), colours], dim=1)
            keys = packing(height, width, sxy=filters.sxy, srgb=filters.srgb)
            self._filters = [
                (lattice_of_positions(height, width, filters.gaussian_sxy, self.device), filters.gaussian_compat),
                (_Lattice(features, keys), filters.compat),
            ]

    @torch.inference_mode()
    def refine(self, labels: np.ndarray, gain: float, iterations: int) -> np.ndarray:
        given = self._tensor(labels).flatten(1).T[..., None]
        energies = torch.where(given == torch.arange(self.n_labels, device=self.device), 0.0, gain)
        return self._best(self._mean_field(energies, iterations)).reshape(labels.shape)

    @torch.inference_mode()
    def infer(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        return self._best(self._mean_field(self._rows(unary), iterations)).reshape(self.shape)

    @torch.inference_mode()
    def marginals(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        gains = F.pad(self._mean_field(self._rows(unary), iterations), (1, 0))
        return gains[:, 0].softmax(dim=-1).T.reshape(unary.shape).contiguous().cpu().numpy()

    def _mean_field(self, energies: torch.Tensor, iterations: int) -> torch.Tensor:
        """(pixels, maps, labels) energies → (pixels, maps, labels − 1): by how much they lie below label 0's.

        Potts potentials see differences of probabilities only, so the filters carry Q_l − Q_0.
        """
        start = energies[..., :1] - energies[..., 1:]
        gains = start
        for _ in range(iterations):
            q = F.pad(gains, (1, 0)).softmax(dim=-1)
            rows = (q[..., 1:] - q[..., :1]).flatten(1)  # all maps' labels side by side
            gains = start
            for lattice, compat in self._filters:
                gains = torch.add(gains, lattice(rows).reshape(start.shape), alpha=compat)
        return gains

    def _best(self, gains: torch.Tensor) -> np.ndarray:
        """(maps, pixels) uint8"""
        top, label = gains.max(dim=-1)
        return torch.where(top > 0, label + 1, 0).T.to(torch.uint8).cpu().numpy()

    def _rows(self, unary: np.ndarray) -> torch.Tensor:
        return self._tensor(unary).flatten(1).T[:, None]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def _positions(height: int, width: int, sxy: float, device: torch.device) -> torch.Tensor:
    """x and y of all pixels, (pixels, 2) float32, in standard deviations."""
    axes = torch.arange(height, device=device), torch.arange(width, device=device)
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y], dim=2).reshape(-1, 2).float() / _number(sxy, device)


def _number(value: float, device: torch.device) -> torch.Tensor:
    """A float32 to divide by, in place of a Python number, whose inverse CUDA would multiply by: other last bits."""
    return torch.full((1,), value, device=device)


@lru_cache
def _constant(numbers: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Kept: to copy them to a GPU, the host would wait for it."""
    return torch.tensor(numbers, device=device)


def _lattice_of_positions(height: int, width: int, sxy: float, device: torch.device) -> "_Lattice":
    return _Lattice(_positions(height, width, sxy, device), packing(height, width, sxy=sxy))


_kept_lattice = lru_cache(KEPT_SIZES)(_lattice_of_positions)


class _Bags:
    """Weighted sums of rows.

    rows      (entries,) int32, the row that each entry takes; the entries of a sum lie together
    starts    (sums,) int32, where those of each sum begin
    weights   (entries,) float32
    """

    def __init__(self, rows: torch.Tensor, starts: torch.Tensor, weights: torch.Tensor) -> None:
        self._rows, self._starts, self.weights = rows, starts, weights

    @classmethod
    def of(cls, rows: torch.Tensor, weights: torch.Tensor) -> "_Bags":
        """Sums of as many entries each: (sums, entries)."""
        sums, entries = rows.shape
        starts = torch.arange(0, sums * entries, entries, dtype=torch.int32, device=rows.device)
        return cls(rows.to(torch.int32).flatten(), starts, weights.flatten())

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, channels) → (sums, channels)."""
        return F.embedding_bag(self._rows, values, self._starts, mode="sum", per_sample_weights=self.weights)


class _Lattice:
    """A Gaussian filter of rows of channels, normalised from both sides.

    features   (pixels, d) float32, in standard deviations
    """

    def __init__(self, features: torch.Tensor, keys: Packing) -> None:
        pixels, device = len(features), features.device
        if pixels % 4:  # pydensecrf's last group of four pixels is filled with points at the origin; see dense_crf.c
            features = torch.cat([features, features.new_zeros(1, features.shape[1])])
        key, weight = _embed(features, keys)
        corners = key.shape[1]
        weight[pixels:] = 0  # it has vertices, and no value

        ordered, order = key.flatten().sort(stable=True)
        place = torch.arange(len(ordered), device=device)
        is_first = torch.cat([place[:1] == 0, ordered[1:] != ordered[:-1]])  # of its vertex
        is_start = is_first | (place % PIECE == 0)
        firsts, starts = is_first.nonzero()[:, 0], is_start.nonzero()[:, 0]
        number = torch.empty_like(order).scatter_(0, order, is_first.cumsum(0) - 1).reshape(key.shape)[:pixels]

        pixel = torch.clamp(order // corners, max=pixels - 1).to(torch.int32)
        self._splat = _Bags(pixel, starts.to(torch.int32), weight.flatten()[order])
        # one more vertex, of no pixel, for those that do not exist
        pieces = torch.arange(len(starts), dtype=torch.int32, device=device)
        first_pieces = F.pad((is_start.cumsum(0) - 1)[firsts], (0, 1), value=len(starts))
        self._join = _Bags(pieces, first_pieces.to(torch.int32), torch.ones(len(starts), device=device))
        self._blurs = _blurs(ordered[firsts], keys)
        self._slice = _Bags.of(number, weight[:pixels])

        norm = self(torch.ones(pixels, 1, device=device))[:, 0].rsqrt()
        self._splat.weights = self._splat.weights * norm[pixel]
        self._slice.weights = (weight[:pixels] * norm[:, None]).flatten()

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(pixels, channels) → (pixels, channels)."""
        values = self._join(self._splat(rows))
        for blur in self._blurs:
            values = blur(values)
        return self._slice(values)


def _embed(features: torch.Tensor, keys: Packing) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and weights of the vertices of the simplices around points (Adams et al., section 3.1).

    features   (points, d) float32
    Returns    (points, d + 1) int64 keys, by their remainder, and float32 weights
    """
    d = features.shape[1]
    own = features * _constant(tuple(keys.scale[:d]), features.device)
    steps = _constant(tuple(keys.step[: d + 1]), features.device)
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
    return key, weight


def _blurs(vertices: torch.Tensor, keys: Packing) -> list[_Bags]:
    """For each axis, the sums of a vertex and half of its neighbours.

    vertices   sorted keys; the vertex after the last stands for those that do not exist
    """
    n, corners = len(vertices), keys.corners
    axes = _constant(tuple(keys.step[:corners]), vertices.device)[:, None]
    # one less everywhere, d + 1 more along the axis: of the remainder 0, the vertex below is of remainder d
    wrap = corners - sum(keys.step)
    remainder = vertices % corners
    below = vertices - 1 + torch.where(remainder == 0, wrap, 0) + axes
    above = vertices + 1 - torch.where(remainder == corners - 1, wrap, 0) - axes
    wanted = torch.stack([below, above], dim=2)  # (axes, vertices, 2)
    place = torch.searchsorted(vertices, wanted).clamp_(max=n - 1)
    neighbours = torch.where(vertices[place] == wanted, place, n)
    own = torch.arange(n, device=vertices.device).expand(corners, n)[..., None]
    rows = F.pad(torch.cat([own, neighbours], dim=2), (0, 0, 0, 1), value=n)
    weights = _constant((1.0, 0.5, 0.5), vertices.device).expand(n + 1, 3)
    return [_Bags.of(each, weights) for each in rows]
