"""COCO instances files: the images, categories and outlines in them, and semantic masks painted of these.

Polygons are filled by pycocotools, whose rule is the reference: others differ in a tenth of the objects' pixels.
The format: https://cocodataset.org/#format-data
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from misc.errors import InputError, reason

Order = Literal["file", "area"]
Size = tuple[int, int]  # height, width

SHORT = "polygons of fewer than 3 points"
DAMAGED = "outlines that are damaged or of another image's size"
NO_OUTLINE = "objects without an outline"
FAR = 10  # sides of the image; pycocotools would take all memory for a polygon that reaches much farther


class Image(NamedTuple):
    """An image of an instances file."""

    id: int | str
    file_name: str
    size: Size | None  # as the file says; None if it does not


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


class Instances(NamedTuple):
    """What an instances file holds."""

    path: Path
    images: list[Image]
    annotations: dict[int | str, list[Annotation]]  # by image, in the order of the file
    categories: dict[int, str]  # names by ID, sorted by ID
    supercategories: set[str]


def read_instances(path: Path) -> Instances:
    """Read an instances file; InputError, in one line, if it is none.

    Numbers go into arrays while the file is parsed: a gigabyte or so for the 600,000 objects of COCO's training set.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_hook=_compact)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({reason(error)})") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _Lists):
        raise InputError(f"{path}: is no COCO instances file, which holds the lists {', '.join(_Lists)}")
    images = [_image(entry, path) for entry in content["images"]]
    twice = _first_twice(image.id for image in images)
    if twice is not None:
        raise InputError(f"{path}: two images have the id {twice}")
    annotations: dict[int | str, list[Annotation]] = {}
    for number, entry in enumerate(content["annotations"]):
        if not isinstance(entry, Annotation):
            raise InputError(f"{path}: annotation {number} (from 0) has no image_id or no category_id")
        annotations.setdefault(entry.image_id, []).append(entry)
    categories = content["categories"]
    above = {entry.get("supercategory") for entry in categories if isinstance(entry, dict)} - {None, ""}
    return Instances(path, images, annotations, _category_names(categories, path), {str(name) for name in above})


_Lists = ("images", "annotations", "categories")


def _compact(entry: dict[str, Any]) -> Any:
    """Annotations as objects of arrays, as soon as the parser has each of them; other entries as they are."""
    if "image_id" not in entry or not isinstance(entry.get("category_id"), int):
        return entry
    area = entry.get("area")
    return Annotation(
        entry["image_id"] if isinstance(entry["image_id"], int) else str(entry["image_id"]),
        entry["category_id"],
        bool(entry.get("iscrowd")),
        float(area) if isinstance(area, int | float) and math.isfinite(area) else None,
        _outline(entry.get("segmentation")),
    )


def _outline(value: Any) -> list[np.ndarray] | RunLengths | None:
    """None where there is no outline at all; whatever cannot be used becomes a polygon of NaN, see `faults`."""
    if not value:
        return None
    try:
        if isinstance(value, dict):
            height, width = map(int, value["size"])
            counts = value["counts"]
            return RunLengths((height, width), counts if isinstance(counts, str) else np.array(counts, np.int64))
        parts = value if isinstance(value[0], list) else [value]  # some write a single polygon without its brackets
        return [np.array(part, np.float64).ravel() for part in parts]
    except (KeyError, TypeError, ValueError, OverflowError):
        return [np.full(6, np.nan)]


def _image(entry: Any, path: Path) -> Image:
    try:
        image_id, name, height, width = entry["id"], entry["file_name"], entry.get("height"), entry.get("width")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: an image without id or file_name: {str(entry)[:80]}") from error
    size = (int(height), int(width)) if height and width else None
    return Image(image_id if isinstance(image_id, int) else str(image_id), str(name), size)


def _category_names(entries: list[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in entries:
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not isinstance(number, int):
            raise InputError(f"{path}: a category without an id that is a whole number: {str(entry)[:80]}")
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{path}: the category with the id {number} has no name")
        if names.setdefault(number, name.strip()) != name.strip():
            raise InputError(f"{path}: two categories have the id {number}: {names[number]!r} and {name.strip()!r}")
    twice = _first_twice(names.values())
    if twice is not None:
        ids = [number for number, name in names.items() if name == twice]
        raise InputError(f"{path}: the categories with the ids {ids[0]} and {ids[1]} are both named {twice!r}")
    return dict(sorted(names.items()))


def _first_twice(values: Iterable[Any]) -> Any:
    return next((value for value, count in Counter(values).items() if count > 1), None)


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

    numbers       category ID → class number, from 1; 0 paints background
    size          (H, W) of the image
    order         what lies on top: `file` the later of two objects, `area` the smaller one by its `area` (as counted
                  where the file has none)
    crowds        False: objects marked iscrowd are left out
    """
    objects = [
        (annotation, inside)
        for annotation in annotations
        if (crowds or not annotation.crowd) and (inside := _inside(annotation.outline, size)) is not None
    ]
    if order == "area":  # sort() keeps the order of the file among equals
        objects.sort(key=lambda pair: -(pair[1].sum() if pair[0].area is None else pair[0].area))
    mask = np.zeros(size, np.uint8, order="F")  # column by column, as pycocotools has its masks: copied much faster
    for annotation, inside in objects:
        np.copyto(mask, np.uint8(numbers[annotation.category_id]), where=inside)
    return np.ascontiguousarray(mask)


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
    """The run lengths in a packed text of COCO; [-1] if it ends within a number.

    A character holds 5 bits, the lowest first, a bit that says whether more follow, and 48 is added. From the fourth
    number on, each is the difference to the last but one. pycocotools unpacks it too, but does not check that the
    lengths make up the whole mask: what is missing it fills with whatever the memory holds.
    """
    lengths: list[int] = []
    value = shift = 0
    more = False
    for character in text:
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
    """The classes of one image, from 0, sorted: of all its annotations, crowds and those without outline included."""
    shown = {numbers[annotation.category_id] for annotation in annotations}
    return sorted(number - 1 for number in shown if number > 0)


def numbered(instances: Instances) -> dict[int, int]:
    """Category ID → class number: the rank of the ID, from 1."""
    return dict(zip(instances.categories, itertools.count(1), strict=False))
