"""MS COCO as it is downloaded: train2014/, val2014/, annotations/instances_train2014.json, …; or 2017's

Numbers are the ranks of the categories' IDs, 1 to 80. An image is labelled with what its annotations name, crowds
included. The images of 2017's release serve the annotations of 2014 as well, since they are the same pictures; the
annotations of 2017 alone give 2017's lists.
"""

import argparse
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from misc.errors import InputError
from misc.evaluation.confusion import VOID
from misc.formats.images import image_size, read_label_map
from voc12.convert.instances import UNKNOWN_ALONE, Image, Instances, read_instances, sound
from voc12.convert.outlines import Order, check_pycocotools, classes_of, paint
from voc12.convert.source import TRAIN, VAL, Found, SourceImage, folder_of

YEARS = ("2014", "2017")
PARTS = (TRAIN, VAL)
IMAGE_NAME = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{12})\.jpg")
MASK_NAME = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{1,12})\.png")
OTHERS_MASKS = "SegmentationClass"  # in SOURCE: where L2G's layout has them
PUBLISHED = {  # images of the lists that others use: False, those with an annotation; True, all
    "train2014": {False: 82_081, True: 82_783},
    "val2014": {False: 40_137, True: 40_504},
}
MISSING, UNANNOTATED = "images that are not on disk", "images without an annotation (--all_images keeps them)"


class Recipe(NamedTuple):
    """How masks are painted: which object lies on top, and whether crowds are painted."""

    order: Order
    crowds: bool


RECIPES = {
    "painted": Recipe("file", crowds=False),  # ReCAM, LPCAM, CLIMS, BECO
    "smallest": Recipe("area", crowds=True),  # coco2voc: AFA, ToCo
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        default="painted",
        help="masks: painted (the later annotation on top, no crowds: ReCAM, LPCAM, CLIMS, BECO) or smallest (the "
        "smaller object on top, with crowds: AFA, ToCo); default: painted",
    )
    parser.add_argument("--all_images", action="store_true", help="keep images without an annotation, as background")
    parser.add_argument(
        "--masks",
        help="masks that others made, 0 to 80, to be taken instead: a folder of 9.png, 000000000009.png or "
        "COCO_train2014_000000000009.png (default: SegmentationClass in SOURCE, if it is there)",
    )


def read(source: Path, options: argparse.Namespace) -> Found:
    year = next((year for year in YEARS if _annotations(source, TRAIN, year).is_file()), None)
    if year is None:
        expected = " or ".join(f"annotations/instances_{TRAIN}{year}.json" for year in YEARS)
        raise InputError(f"{source}: there is no {expected}, see https://cocodataset.org/#download")
    pictures = _numbered(_image_folders(source, year), IMAGE_NAME)
    if options.masks is None and (source / OTHERS_MASKS).is_dir():
        options.masks = OTHERS_MASKS
    masks = _masks_of_others(folder_of(source, options.masks)) if options.masks else {}
    found = Found([], [])
    for part in PARTS:
        if (path := _annotations(source, part, year)).is_file():
            _add(read_instances(path), part, pictures, masks, options, found)
    return found


def _annotations(source: Path, part: str, year: str) -> Path:
    return source / "annotations" / f"instances_{part}{year}.json"


def _image_folders(source: Path, year: str) -> list[Path]:
    """Where images may lie, those of `year` first."""
    years = sorted(YEARS, key=lambda other: other != year)
    return [above / f"{part}{y}" for y in years for part in PARTS for above in (source, source / "images")]


def _numbered(folders: Iterable[Path], name: re.Pattern[str]) -> dict[int, Path]:
    """The files of folders by their number in COCO, each folder read once; the first file of a number counts."""
    found: dict[int, Path] = {}
    for folder in folders:
        for file in os.listdir(folder) if folder.is_dir() else ():
            if match := name.fullmatch(file):
                found.setdefault(int(match[1]), folder / file)
    return found


def _masks_of_others(folder: Path) -> dict[int, Path]:
    """The masks in a folder or in folders within, such as train2014/, by number."""
    found = _numbered([folder, *sorted(folder.glob("*/"))], MASK_NAME)
    if not found:
        raise InputError(f"{folder} holds no mask named 9.png, 000000000009.png or COCO_train2014_….png")
    return found


def _add(
    instances: Instances,
    part: str,
    pictures: dict[int, Path],
    masks: dict[int, Path],
    options: argparse.Namespace,
    found: Found,
) -> None:
    """Add the images of an instances file, and what there is to say of them."""
    names = [*instances.categories.values()]
    if found.class_names not in ([], names):
        raise InputError(f"{instances.path}: its categories are not those of the training images")
    found.class_names = names
    for why, what in instances.left_out.items():
        found.left_out.setdefault(why, []).extend(what)
    listed = _listed(instances, pictures, found.left_out, all_images=options.all_images)
    taken = _masks_of(part, [path for _, path in listed], masks)
    if not taken:
        check_pycocotools()
    images = [
        _source_image(image, path, instances, taken.get(path), RECIPES[options.recipe], part, found.left_out)
        for image, path in listed
    ]
    found.images += images
    found.notes += _notes(instances, part, images, options, taken=bool(taken))


def _listed(
    instances: Instances, pictures: dict[int, Path], left_out: dict[str, list[str]], *, all_images: bool
) -> list[tuple[Image, Path]]:
    """The images of the list and their files."""
    listed = []
    for image in instances.images:
        path = pictures.get(image.id) if isinstance(image.id, int) else None
        annotated = image.id in instances.annotations
        if not annotated and image.id in instances.incomplete:
            left_out.setdefault(UNKNOWN_ALONE, []).append(image.file_name)
        elif not all_images and not annotated:
            left_out.setdefault(UNANNOTATED, []).append(image.file_name)
        elif path is None:
            left_out.setdefault(MISSING, []).append(image.file_name)
        else:
            listed.append((image, path))
    return listed


def _masks_of(part: str, paths: list[Path], masks: dict[int, Path]) -> dict[Path, Path]:
    """The mask that others made of each image of a list; none where they made none of the whole list."""
    found = {path: masks[number] for path in paths if (number := _number(path)) in masks}
    if found and len(found) < len(paths):
        without = next(path for path in paths if path not in found)
        raise InputError(
            f"masks of {len(found)} of the {len(paths)} {part} images are there, but none of {without.stem}: "
            "complete them, or take away those of this list to have them painted"
        )
    return found


def _number(path: Path) -> int:
    return int(path.stem[-12:])


def _source_image(
    image: Image,
    path: Path,
    instances: Instances,
    mask_file: Path | None,
    recipe: Recipe,
    part: str,
    left_out: dict[str, list[str]],
) -> SourceImage:
    numbers = {category: rank for rank, category in enumerate(instances.categories, start=1)}
    size = image.size or image_size(path)
    given = instances.annotations.get(image.id, [])
    annotations, complete = sound(given, size, instances.categories, image.file_name, left_out)
    mask: Callable[[], np.ndarray] | None = None
    if mask_file:
        mask = partial(_read_mask, mask_file, len(numbers))
    elif complete and image.id not in instances.incomplete:
        mask = partial(paint, annotations, numbers, size, **recipe._asdict())
    made_of = (mask_file or instances.path,)
    classes = tuple(classes_of(annotations, numbers))
    return SourceImage(path.stem, path, mask, made_of, classes, (part,), size if mask and not mask_file else None)


def _read_mask(path: Path, classes: int) -> np.ndarray:
    mask = read_label_map(path)
    known = mask[mask != VOID]
    if known.size and known.max() > classes:
        raise InputError(
            f"{path}: holds the number {known.max()}, expected 0 to {classes} and {VOID}: masks that keep COCO's IDs, "
            "1 to 90, are of no use here; without them masks are painted"
        )
    return mask


def _notes(
    instances: Instances, part: str, images: list[SourceImage], options: argparse.Namespace, *, taken: bool
) -> list[str]:
    """What became of a list: its count beside the published one, of what its labels and masks are."""
    pairs = sum(len(image.classes or ()) for image in images)
    masks = "those of others" if taken else f"painted by the recipe {options.recipe}"
    notes = [f"{part}: {pairs:,} image labels, of all annotations, crowds included; masks: {masks}"]
    name = instances.path.stem.removeprefix("instances_")
    expected = PUBLISHED.get(name, {}).get(options.all_images)
    if expected is not None and len(images) != expected:
        notes.append(f"{part}: {len(images):,} images, the published list of {name} has {expected:,}")
    if name not in PUBLISHED:
        notes.append(f"{part}: the list of {name}; published figures of COCO 2014 are of other lists")
    return notes
