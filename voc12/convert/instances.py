"""COCO instances files: the images, categories and annotations in them.

The format: https://cocodataset.org/#format-data
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from misc.errors import InputError, reason
from voc12.convert.outlines import SHORT, Annotation, RunLengths, Size, faults

NO_SUCH_IMAGE, NO_SUCH_CATEGORY = "annotations of images that are not listed", "annotations of unknown categories"
UNKNOWN_ALONE = "images with objects of unknown categories alone"

MOST_PIXELS = 100_000  # along a side


class Image(NamedTuple):
    """An image of an instances file."""

    id: int | str
    file_name: str
    size: Size | None  # as the file says; None if it does not


class Instances(NamedTuple):
    """What an instances file holds.

    annotations       by image, in the order of the file
    categories        names by ID, sorted by ID
    supercategories   what categories name that have another name themselves
    left_out          why → what was left out
    incomplete        IDs of images that show an object of an unknown category
    """

    path: Path
    images: list[Image]
    annotations: dict[int | str, list[Annotation]]
    categories: dict[int, str]
    supercategories: set[str]
    left_out: dict[str, list[str]]
    incomplete: set[int | str]


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
    categories = _category_names(content["categories"], path)
    annotations, left_out, incomplete = _by_image(content["annotations"], images, categories, path)
    polygons = [part for of_image in annotations.values() for a in of_image for part in _polygons(a)]
    if all(part.max(initial=0) <= 1 for part in polygons) and any((part % 1 > 0).any() for part in polygons):
        raise InputError(f"{path}: coordinates lie between 0 and 1, expected pixels: multiply by width and height")
    above = {
        _one_line(str(c["supercategory"]))
        for c in content["categories"]
        if c.get("supercategory") not in (None, c["name"])
    }
    return Instances(path, images, annotations, categories, above, left_out, incomplete)


_Lists = ("images", "annotations", "categories")


def _compact(entry: dict[str, Any]) -> Any:
    """Annotations as objects of arrays, as soon as the parser has each of them; other entries as they are."""
    category_id = _id(entry.get("category_id"))
    if "image_id" not in entry or not isinstance(category_id, int):
        return entry
    return Annotation(
        _id(entry["image_id"]),
        category_id,
        bool(entry.get("iscrowd")),
        _area(entry.get("area")),
        _outline(entry.get("segmentation")),
    )


def _id(value: Any) -> int | str:
    """A whole number, also where a program wrote 7.0; any other value as text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else str(value)


def _area(value: Any) -> float | None:
    """None where it is no number, or one that no float holds."""
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None


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


def _by_image(
    entries: list[Any], images: list[Image], categories: dict[int, str], path: Path
) -> tuple[dict[int | str, list[Annotation]], dict[str, list[str]], set[int | str]]:
    """The annotations of each image; why → which were left out; the images that lost one, being of no category."""
    names = {image.id: image.file_name for image in images}
    annotations: dict[int | str, list[Annotation]] = defaultdict(list)
    left_out: dict[str, list[str]] = defaultdict(list)
    incomplete = set()
    for number, entry in enumerate(entries):
        if not isinstance(entry, Annotation):
            raise InputError(f"{path}: annotation {number} (from 0) has no image_id, or no whole number as category_id")
        if entry.image_id not in names:
            left_out[NO_SUCH_IMAGE].append(f"image_id {entry.image_id}")
        elif entry.category_id not in categories:
            left_out[NO_SUCH_CATEGORY].append(f"category_id {entry.category_id} in {names[entry.image_id]}")
            incomplete.add(entry.image_id)
        else:
            annotations[entry.image_id].append(entry)
    return dict(annotations), dict(left_out), incomplete


def _polygons(annotation: Annotation) -> list[np.ndarray]:
    return annotation.outline if isinstance(annotation.outline, list) else []


def _image(entry: Any, path: Path) -> Image:
    try:
        image_id, name, height, width = entry["id"], entry["file_name"], entry.get("height"), entry.get("width")
        size = (int(height), int(width)) if height and width else None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: an image without id or file_name, or of an odd size: {str(entry)[:80]} ({reason(error)})"
        ) from error
    if size and not 0 < min(size) <= max(size) <= MOST_PIXELS:
        raise InputError(f"{path}: the image {name} is said to be {size[0]}×{size[1]} pixels (height × width)")
    return Image(_id(image_id), str(name), size)


def _category_names(entries: list[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in entries:
        number, name = (_id(entry.get("id")), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not isinstance(number, int):
            raise InputError(f"{path}: a category without an id that is a whole number: {str(entry)[:80]}")
        name = _one_line(name) if isinstance(name, str) else None
        if not name:
            raise InputError(f"{path}: the category with the id {number} has no name")
        if names.setdefault(number, name) != name:
            raise InputError(f"{path}: two categories have the id {number}: {names[number]!r} and {name!r}")
    twice = _first_twice(names.values())
    if twice is not None:
        ids = [number for number, name in names.items() if name == twice]
        raise InputError(f"{path}: the categories with the ids {ids[0]} and {ids[1]} are both named {twice!r}")
    return dict(sorted(names.items()))


def _one_line(name: str) -> str:
    """A name as a list of names can hold it."""
    return " ".join(name.split())


def _first_twice(values: Iterable[Any]) -> Any:
    return next((value for value, count in Counter(values).items() if count > 1), None)


def sound(
    annotations: Iterable[Annotation], size: Size, names: Mapping[int, str], where: str, left_out: dict[str, list[str]]
) -> tuple[list[Annotation], bool]:
    """The annotations of an image that count, and whether all of them can be painted.

    A polygon of fewer than 3 points is a slip of the hand, and an object of nothing else does not count. An object
    with a damaged outline, or with a box alone, labels its image; a mask without it would be wrong.

    names         category ID → name
    where         the image's name
    left_out      why → what is left out, added to
    """
    counted, complete = [], True
    for annotation in annotations:
        found = faults(annotation.outline, size)
        for fault in found:
            left_out.setdefault(fault, []).append(f"{names[annotation.category_id]} in {where}")
        if found and set(found) != {SHORT}:
            complete = False
        if not (isinstance(annotation.outline, list) and found == [SHORT] * len(annotation.outline)):
            counted.append(annotation)
    return counted, complete
