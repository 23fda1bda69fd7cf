"""Outlines of objects as COCO writes them, polygons and run lengths, and semantic masks painted of them.

Polygons are filled by pycocotools, whose rule is the reference: others differ in a tenth of the objects' pixels.
The format: https://cocodataset.org/#format-data
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from misc.errors import InputError
from misc.evaluation.confusion import VOID

Order = Literal["file", "area"]
Size = tuple[int, int]  # height, width

SHORT = "polygons of fewer than 3 points"
DAMAGED = "outlines that are damaged, or of another size than their image (the labels count)"
NO_OUTLINE = "objects without an outline (their labels count)"
LONGEST_NUMBER = 60  # bits of a run's length
FAR = 10  # sides of the image; pycocotools would take all memory for a polygon that reaches much farther


class RunLengths(NamedTuple):
    """A mask as lengths of runs of 0 and 1 in turn, down the columns; `counts` may be packed into text."""

    size: Size
    counts: np.ndarray | str


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object: its class and where it is."""

    image_id: int | str
    category_id: int
    crowd: bool
    area: float | None
    outline: list[np.ndarray] | RunLengths | None  # polygons x0, y0, x1, y1, …; their union is the object


def check_pycocotools() -> None:
    """InputError if pycocotools is not installed."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise InputError("masks of COCO need pycocotools: pip install -r requirements-coco.txt") from error


def paint(
    annotations: Iterable[Annotation], numbers: Mapping[int, int], size: Size, *, order: Order, crowds: bool
) -> np.ndarray:
    """A semantic mask of one image, (H, W) uint8. What cannot be painted is left out, see `faults`.

    numbers       category ID → class number, from 1; 0 paints background, 255 void
    size          (H, W) of the image
    order         what lies on top: `file` the later of two objects, `area` the smaller one by its `area` (as counted
                  where the file has none)
    crowds        False: objects marked iscrowd are left out
    """
    objects = [annotation for annotation in annotations if crowds or not annotation.crowd]
    if order == "area":  # sort() keeps the order of the file among equals
        objects.sort(key=lambda annotation: -_area(annotation, size))
    mask = np.zeros(size, np.uint8, order="F")  # column by column, as pycocotools has its masks: copied much faster
    for annotation in objects:  # one at a time: the masks of all objects of a large image would fill the memory
        if (inside := _inside(annotation.outline, size)) is not None:
            np.copyto(mask, np.uint8(numbers[annotation.category_id]), where=inside)
    return np.ascontiguousarray(mask)


def _area(annotation: Annotation, size: Size) -> float:
    """As the file states it, or else counted."""
    if annotation.area is not None:
        return annotation.area
    inside = _inside(annotation.outline, size)
    return 0 if inside is None else float(inside.sum())


def faults(outline: list[np.ndarray] | RunLengths | None, size: Size) -> list[str]:
    """Why an object, or a polygon of it, cannot be painted into an image of `size`: SHORT, DAMAGED or NO_OUTLINE."""
    if outline is None:
        return [NO_OUTLINE]
    if isinstance(outline, RunLengths):
        return [] if _run_lengths(outline, size) is not None else [DAMAGED]
    return [fault for polygon in outline if (fault := _polygon_fault(polygon, size))]


def _polygon_fault(polygon: np.ndarray, size: Size) -> str:
    if polygon.size < 6:
        return SHORT
    farthest = (FAR + 1) * max(size)
    return DAMAGED if polygon.size % 2 or not (np.abs(polygon) <= farthest).all() else ""  # NaN is not ≤ anything


def _run_lengths(outline: RunLengths, size: Size) -> np.ndarray | None:
    """The lengths, unpacked; None if they do not make up a mask of `size`."""
    counts = _unpacked(outline.counts) if isinstance(outline.counts, str) else outline.counts
    if outline.size != size or counts.ndim != 1 or (counts < 0).any() or counts.sum() != size[0] * size[1]:
        return None
    return counts


def _inside(outline: list[np.ndarray] | RunLengths | None, size: Size) -> np.ndarray | None:
    """(H, W) bool, True in the object; None if there is nothing to be painted."""
    if outline is None:
        return None
    if isinstance(outline, RunLengths):
        counts = _run_lengths(outline, size)
        return None if counts is None else np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(size, order="F")
    polygons = [polygon for polygon in outline if not _polygon_fault(polygon, size)]
    return _filled(polygons, size) if polygons else None


def _filled(polygons: list[np.ndarray], size: Size) -> np.ndarray:
    from pycocotools import mask as rle

    return rle.decode(rle.merge(rle.frPyObjects(polygons, *size))).view(bool)


def _unpacked(text: str) -> np.ndarray:
    """The run lengths in a packed text of COCO; [-1] if it ends within a number, or one is endless.

    A character holds 5 bits, the lowest first, a bit that says whether more follow, and 48 is added. From the fourth
    number on, each is the difference to the last but one. pycocotools unpacks it too, but does not check that the
    lengths make up the whole mask: what is missing it fills with whatever the memory holds.
    """
    lengths: list[int] = []
    value = shift = 0
    more = False
    for character in text:
        if shift > LONGEST_NUMBER:  # a text of nothing but `more follow` would take quadratic time
            return np.array([-1], np.int64)
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        more = bool(bits & 32)
        if not more:
            if bits & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    fits = not more and all(0 <= ord(character) - 48 < 64 for character in text)
    return np.array(lengths if fits and max(map(abs, lengths), default=0) < 2**40 else [-1], np.int64)


def classes_of(annotations: Iterable[Annotation], numbers: Mapping[int, int]) -> list[int]:
    """The classes of one image, from 0, sorted: of all its annotations, crowds and those without outline included.

    numbers       category ID → class number from 1; categories that are 0 (background) or 255 (void) are no classes
    """
    shown = {numbers[annotation.category_id] for annotation in annotations}
    return sorted(number - 1 for number in shown if number not in (0, VOID))
