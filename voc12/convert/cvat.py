"""CVAT's export "Segmentation mask 1.1": labelmap.txt, SegmentationClass/, ImageSets/, with images

The masks are in the colours of labelmap.txt (`# label:color_rgb:parts:actions`). Its `background` is 0, a label that
is called `void` or `ignore` is 255, the others are the classes in the order of its lines. The names of a task's images
may have folders in front: `batch1/a1` gets the ID `batch1_a1`. `default.txt` is taken as the training list.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.formats.images import open_image
from voc12.convert.colours import ColourTable, class_numbers, read_colours
from voc12.convert.source import (
    IN_NO_LIST,
    NO_IMAGE,
    NO_MASK,
    Found,
    SourceImage,
    files_in,
    flat_id,
    folder_of,
    image_of,
    list_name,
    refuse_collisions,
)
from voc12.image_set import read_lines


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", help="the folder of the images, if the export lacks them (default: JPEGImages/)")


def read(source: Path, options: argparse.Namespace) -> Found:
    labelmap = source / "labelmap.txt"
    if not labelmap.is_file():
        raise InputError(f"{source}: there is no labelmap.txt, as of CVAT's 'Segmentation mask 1.1'")
    table = read_colours(labelmap)
    images = folder_of(source, options.images, "JPEGImages")
    if not images.is_dir():
        raise InputError(f"there is no folder {images}: export with 'Save images' switched on, or say --images FOLDER")
    masks = source / "SegmentationClass"
    if not masks.is_dir():
        raise InputError(f"there is no folder {masks}: export as 'Segmentation mask 1.1'")
    sets = _sets(source, masks)
    refuse_collisions(sets)
    unlisted = [name for name in _names(masks) if name not in sets]
    found = Found(table.names, [], {NO_MASK: [], NO_IMAGE: [], IN_NO_LIST: unlisted})
    for name, lists in sets.items():
        path, mask = image_of(images, name), masks / f"{name}.png"
        if path is None:
            found.left_out[NO_IMAGE].append(name)
        elif not mask.is_file():
            found.left_out[NO_MASK].append(name)
        else:
            drawn = partial(_read_mask, mask, table)
            found.images.append(SourceImage(flat_id(name), path, drawn, (mask, labelmap), sets=lists))
    return found


def _sets(source: Path, masks: Path) -> dict[str, tuple[str, ...]]:
    """The names of all images, as its lists and its masks have them, each with the lists it is in."""
    folder = source / "ImageSets" / "Segmentation"
    found: dict[str, tuple[str, ...]] = {}
    for path in files_in(folder) if folder.is_dir() else []:
        if path.suffix == ".txt":
            for name in read_lines(path):
                found[name] = (*found.get(name, ()), list_name(path.stem))
    found = found or dict.fromkeys(_names(masks), ("default",))
    # what CVAT calls default is all of a task without subsets
    return {name: tuple("train" if each == "default" else each for each in sets) for name, sets in found.items()}


def _names(masks: Path) -> list[str]:
    return sorted(path.relative_to(masks).with_suffix("").as_posix() for path in masks.rglob("[!.]*.png"))


def _read_mask(path: Path, table: ColourTable) -> np.ndarray:
    return class_numbers(open_image(path), table, path)
