"""The generated set in COCO's form: an instances file made of a root's masks, which gives the same masks again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects, label

from misc.files import replacing
from misc.formats.images import read_label_map
from voc12.generated_set import VOC_CLASSES, VOID
from voc12.image_set import VOCRoot

VOID_CATEGORY = 1 + len(VOC_CLASSES)


def write_instances(root: Path, ids: list[str], path: Path) -> None:
    """Write the masks of a VOC root as the objects of an instances file.

    Categories are the 20 classes, with IDs from 1, and `void`. Each connected part of a class is an object of polygons,
    one a run of pixels in a row; void, which lies between objects, is one object of run lengths down the columns.
    """
    images, annotations = [], []
    for number, image_id in enumerate(ids):
        mask = read_label_map(VOCRoot(root).truth(image_id))
        height, width = mask.shape
        images.append({"id": number, "file_name": f"{image_id}.jpg", "height": height, "width": width})
        annotations += [{"image_id": number, "iscrowd": 0, **entry} for entry in _objects(mask)]
    names = [*VOC_CLASSES, "void"]
    content = {
        "images": images,
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _objects(mask: np.ndarray) -> Iterator[dict[str, Any]]:
    for number in np.setdiff1d(mask, [0, VOID]).tolist():
        parts, _ = label(mask == number)
        for part, (rows, columns) in enumerate(find_objects(parts), start=1):
            polygons = _row_runs(parts[rows, columns] == part, rows.start, columns.start)
            yield {"category_id": number, "segmentation": polygons, "area": int((parts == part).sum())}
    if (mask == VOID).any():
        segmentation = {"size": list(mask.shape), "counts": _column_runs(mask == VOID)}
        yield {"category_id": VOID_CATEGORY, "segmentation": segmentation, "area": int((mask == VOID).sum())}


def _row_runs(inside: np.ndarray, top: int, left: int) -> list[list[int]]:
    """A rectangle x0, y0, … around each run of pixels in a row."""
    steps = np.diff(np.pad(inside.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    boxes = [(top + y, left + x0, left + x1) for (y, x0), (_, x1) in zip(starts.tolist(), ends.tolist(), strict=True)]
    return [[x0, y, x1, y, x1, y + 1, x0, y + 1] for y, x0, x1 in boxes]


def _column_runs(inside: np.ndarray) -> list[int]:
    """Lengths of the runs of False and True in turn, down the columns, False first."""
    flat = np.concatenate([[False], inside.ravel(order="F")])
    changes = np.flatnonzero(np.diff(flat))
    return np.diff([0, *changes.tolist(), inside.size]).tolist()
