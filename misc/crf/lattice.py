"""Keys of the vertices of a permutohedral lattice, packed into one integer each.

Source: Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.
"""

import math
from collections.abc import Sequence
from ctypes import Structure, c_float, c_int64
from itertools import accumulate

MOST_DIMENSIONS = 5  # positions and colours
MARGIN = 4  # multiples of d + 1 beyond the features' own: rounding, the vertices around a point, their neighbours


class Packing(Structure):
    """How features become keys, for any backend. Layout as in dense_crf.c.

    The d features of a point are elevated to d + 1 coordinates whose sum is 0. Those of a vertex all leave the same
    remainder r when divided by d + 1. Its key is r + origin + Σ step_i · quotient_i; one less everywhere and d + 1 more
    along an axis, as the neighbour has it, add a number that depends on r and the axis only.

    corners   d + 1
    step      of each quotient, int64; 0 for the last one, which the others determine
    origin    makes all keys positive
    scale     of each feature, so that filters have a standard deviation of 1
    """

    _fields_ = [
        ("corners", c_int64),
        ("step", c_int64 * (MOST_DIMENSIONS + 1)),
        ("origin", c_int64),
        ("scale", c_float * MOST_DIMENSIONS),
    ]


def pack(largest: Sequence[float]) -> Packing | None:
    """The packing for d features from 0 to `largest`; None if 63 bits are too few, or float32 is too coarse."""
    d = len(largest)
    deviation = math.sqrt(2 / 3) * (d + 1)  # of the lattice's blur
    scale = [deviation / math.sqrt((j + 1) * (j + 2)) for j in range(d)]
    reach = [top * factor for top, factor in zip(largest, scale, strict=True)]
    steps, low, size = [], [], d + 1
    for i in range(d):
        # elevated coordinate i: the sum of the features from i on, less i times that before it
        low.append(math.floor(-i * reach[i - 1] / (d + 1) if i else 0) - MARGIN)
        values = math.ceil(sum(reach[i:]) / (d + 1)) + MARGIN - low[i] + 1
        steps.append(size)
        size *= values
        if values >= 2**20 or size >= 2**62:  # float32 has 24 bits; some must be left for the place in a simplex
            return None
    origin = -sum(step * start for step, start in zip(steps, low, strict=True))
    return Packing(d + 1, (*steps, 0), origin, tuple(scale))


def packing(height: int, width: int, *, sxy: float, srgb: float | None = None) -> Packing:
    """The packing for the pixels of an image.

    sxy, srgb   standard deviations of the filter, in pixels and in steps of 255; srgb None: positions only
    Raises      ValueError for an image that is too large for such narrow filters.
    """

    def fitting(height: int, width: int) -> Packing | None:
        colours = [] if srgb is None else [255 / srgb] * 3
        corners = len(colours) + 3
        if height * width * corners >= 2**31:  # numbers of vertices are int32
            return None
        return pack([(width - 1) / sxy, (height - 1) / sxy, *colours])

    if found := fitting(height, width):
        return found
    sizes = accumulate(range(40), lambda size, _: (size[0] // 2, size[1] // 2), initial=(height, width))
    fits = next((size for size in sizes if min(size) > 0 and fitting(*size)), None)
    said = f"one of {fits[1]}×{fits[0]} fits" if fits else "no image fits: use wider filters"
    raise ValueError(f"an image of {width}×{height} is too large for a dense CRF of sxy {sxy} and srgb {srgb}: {said}")
