"""Compact CAMs: the maps that the network gave at each scale, kept instead of their sums at stride 4 and at full size.

`merged` makes the sums, for make_cam before it writes a published file and for whoever reads a compact one. It is
float32 arithmetic of NumPy's, one rounded operation at a time in a fixed order: neither the number of threads, nor the
processor, nor the device that the network ran on changes a bit of them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from misc.pixels import neighbours, scaled_size, stride4

EPSILON = np.float32(1e-5)  # published: added to the maximum that a map is divided by
STRIDE = 16  # of the network's maps
SCALES = 0.01, 16.0  # as of the setting cam_scales: no file can ask for an image much larger than its maps
ENTRIES = ("keys", "size", "scales")  # and the maps themselves, `maps_0`, `maps_1` …


class Arrays(Protocol):
    """The arrays of a file by name."""

    def __getitem__(self, name: str) -> np.ndarray: ...


class ScaleMaps(NamedTuple):
    """The maps of one image of K classes before they are added up.

    keys       (K,) int64, classes from 0, each once
    size       (H, W) of the image
    scales     S numbers, what the image was resized by; none, and no maps, where K is 0
    maps       for each scale s (K, ⌈h/16⌉, ⌈w/16⌉) float32 ≥ 0, (h, w) being the size of the image times s
    """

    keys: np.ndarray
    size: tuple[int, int]
    scales: tuple[float, ...]
    maps: Sequence[np.ndarray]

    def fault(self) -> str | None:
        """What is wrong with the scores, if anything."""
        # no sum is larger than that of the maxima; NaN is not smaller than anything
        if not sum(float(maps.max()) for maps in self.maps) <= float(np.finfo(np.float32).max):
            return "the maps hold NaN or infinity"
        return "the maps hold scores below 0" if any((maps < 0).any() for maps in self.maps) else None

    def merged(self) -> tuple[np.ndarray, np.ndarray]:
        """Add up the maps over the scales and divide each class by its maximum (docs/method.md, section 2).

        Returns   maps at stride 4 (K, h, w) and at full size (K, H, W), float32 in [0, 1].
        """
        grid = stride4(self.size[0]), stride4(self.size[1])
        padded = tuple(-(-side // STRIDE) * STRIDE for side in self.size)
        return self._sum_resized(grid, grid), self._sum_resized(padded, self.size)

    def entries(self) -> dict[str, np.ndarray]:
        """What a file holds of it; `from_entries` reads that."""
        return {
            "keys": self.keys,
            "size": np.array(self.size, np.int64),
            "scales": np.array(self.scales, np.float64),
            **{f"maps_{place}": maps for place, maps in enumerate(self.maps)},
        }

    def _sum_resized(self, size: tuple[int, ...], part: tuple[int, int]) -> np.ndarray:
        """Σ_s of the maps resized to `size`, its first rows and columns, each class divided by its maximum there.

        Columns are resized first, while there are few rows.
        """
        total = np.zeros((len(self.keys), *part), np.float32)
        if not self.maps:
            return total
        upper, lower = np.empty(part, np.float32), np.empty(part, np.float32)  # the rows around each row
        for maps in self.maps:
            top, bottom, down = neighbours(maps.shape[1], size[0], slice(part[0]))
            left, right, across = neighbours(maps.shape[2], size[1], slice(part[1]))
            for one, into in zip(maps, total, strict=True):
                wide = np.take(one, left, axis=1)
                wide += (np.take(one, right, axis=1) - wide) * across
                np.take(wide, top, axis=0, out=upper, mode="clip")
                np.take(wide, bottom, axis=0, out=lower, mode="clip")
                lower -= upper
                lower *= down[:, None]
                upper += lower
                into += upper
        total /= total.max(axis=(1, 2), keepdims=True) + EPSILON
        return total


def is_compact(names: Iterable[str | int]) -> bool:
    """Whether a file with entries of these names is a compact CAM."""
    return set(ENTRIES) <= set(names)


def from_entries(entries: Arrays) -> ScaleMaps:
    """What a compact file says.

    Raises    ValueError if it does not hold the maps of an image.
    """
    keys, size, scales = (entries[name] for name in ENTRIES)
    if keys.ndim != 1 or keys.dtype.kind not in "iu" or size.shape != (2,) or size.dtype.kind not in "iu":
        raise ValueError("keys should be a row of integers, and size two of them")
    if scales.ndim != 1 or scales.dtype.kind != "f" or not ((scales >= SCALES[0]) & (scales <= SCALES[1])).all():
        raise ValueError(f"scales should be a row of numbers from {SCALES[0]} to {SCALES[1]:g}")
    image = int(size[0]), int(size[1])
    maps = []
    for place, scale in enumerate(scales):
        one = entries[f"maps_{place}"]
        expected = len(keys), *(-(-side // STRIDE) for side in scaled_size(image, float(scale)))
        if one.shape != expected or one.dtype != np.float32:
            raise ValueError(f"maps_{place} should be {expected} float32 for {image} at {scale}, it is {one.shape}")
        maps.append(one)
    if min(image) < 1 or bool(maps) != bool(len(keys)):
        raise ValueError(f"{len(maps)} scales of {len(keys)} classes of an image of {image}")
    found = ScaleMaps(keys.astype(np.int64), image, tuple(map(float, scales)), maps)
    if fault := found.fault():
        raise ValueError(fault)
    return found
