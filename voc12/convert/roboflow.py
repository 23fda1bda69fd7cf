"""Roboflow's export "Semantic Segmentation Masks" (png-mask-semantic): ID.jpg beside ID_mask.png

They are in train/, valid/ and test/, in other folders with a `_classes.csv`, or in SOURCE itself. `_classes.csv` beside
them (`Pixel Value, Class`) names the classes; 0 is `background`. Where its numbers leave gaps, the classes are numbered
anew, in its order.
"""

import argparse
import csv
from functools import partial
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.formats.images import read_label_map
from voc12.class_names import BACKGROUND
from voc12.convert.source import NO_IMAGE, NO_MASK, NOT_READ, Found, SourceImage, images_in, list_name, values_in
from voc12.image_set import read_lines

MASK, CLASSES = "_mask", "_classes.csv"
SPLITS = ("train", "valid", "test")


def add_options(parser: argparse.ArgumentParser) -> None:
    """It says everything itself."""


def read(source: Path, options: argparse.Namespace) -> Found:
    others = sorted(path.parent.name for path in source.glob(f"*/{CLASSES}"))
    folders = [source / name for name in dict.fromkeys((*SPLITS, *others)) if (source / name).is_dir()] or [source]
    if not (folders[0] / CLASSES).is_file() and (folders[0] / "_annotations.coco.json").is_file():
        raise InputError(f"{folders[0]} holds _annotations.coco.json, Roboflow's COCO export: use the format coco")
    classes = _classes(folders[0] / CLASSES)
    found = Found(list(classes.values()), [], {NO_MASK: [], NO_IMAGE: [], NOT_READ: []})
    before: dict[str, Path] = {}
    for folder in folders:
        if _classes(folder / CLASSES) != classes:
            raise InputError(f"{folder / CLASSES} and {folders[0] / CLASSES} differ: export all parts at once")
        for image in _images(folder, list(classes), "train" if folder == source else list_name(folder.name), found):
            other = before.setdefault(image.image_id, image.path)
            if other != image.path:
                raise InputError(f"{other} and {image.path} have one ID: rename one, and its mask")
            found.images.append(image)
    return found


def _images(folder: Path, values: list[int], name: str, found: Found) -> list[SourceImage]:
    """The images of one folder that have masks; the others are noted as left out."""
    files, others = images_in(folder)
    masks = {image_id: path for image_id, path in files.items() if image_id.endswith(MASK)}
    found.left_out[NOT_READ] += [other for other in others if other != CLASSES and not other.startswith("README")]
    found.left_out[NO_IMAGE] += [path.name for mask, path in masks.items() if mask.removesuffix(MASK) not in files]
    images = []
    for image_id, path in files.items():
        mask = masks.get(f"{image_id}{MASK}")
        if image_id in masks:
            continue
        if mask is None:
            found.left_out[NO_MASK].append(path.name)
        else:
            images.append(
                SourceImage(image_id, path, partial(_read_mask, mask, values), (mask, folder / CLASSES), sets=(name,))
            )
    return images


def _classes(path: Path) -> dict[int, str]:
    """Pixel value → class, without the background."""
    classes: dict[int, str] = {}
    rows = csv.reader(read_lines(path))
    if [cell.strip().lower() for cell in next(rows, [])] != ["pixel value", "class"]:
        raise InputError(f"{path}: the first line is expected to be 'Pixel Value, Class'")
    for row in rows:
        value, name = (row[0].strip(), row[1].strip()) if len(row) == 2 else ("", "")
        if not value.isdecimal() or not 0 <= int(value) <= 255 or not name or int(value) in classes:
            raise InputError(
                f"{path}: {','.join(row)!r} is no class, expected a value of its own, 0 to 255, and a name"
            )
        classes[int(value)] = name
    background = classes.pop(0, "background")
    if background.lower() not in BACKGROUND:
        raise InputError(f"{path}: 0 is {background!r}, expected background, whose number 0 is in VOC's layout")
    return dict(sorted(classes.items()))


def _read_mask(path: Path, values: list[int]) -> np.ndarray:
    """(H, W) uint8, 0 for 0 and n for the n-th of the values; InputError for others."""
    labels = read_label_map(path)
    unknown = np.setdiff1d(values_in(labels), [0, *values])
    if unknown.size:
        raise InputError(f"{path}: holds the value {unknown[0]}, which {CLASSES} does not list: add its class there")
    number = np.zeros(256, np.uint8)
    number[values] = np.arange(1, len(values) + 1)
    return number[labels]
