"""an instances JSON of COCO's form, and its images: of CVAT, Roboflow, Label Studio, labelme2coco, …

Classes are numbered in the order of the categories' IDs. No classes are: a category that is only the supercategory of
others, as Roboflow's 0; one named background, which paints 0; one named void or ignore, which paints 255 (underscores
around these names do not matter). Objects marked iscrowd are painted as others: CVAT marks all masks of its brush so.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from pathlib import Path
from typing import NamedTuple

from misc.errors import InputError
from misc.evaluation.confusion import VOID
from misc.formats.images import image_size
from voc12.class_names import BACKGROUND, IGNORED
from voc12.convert.image_folder import Claim, ImageFolder, place_name, which_mean
from voc12.convert.instances import UNKNOWN_ALONE, Image, Instances, read_instances, sound
from voc12.convert.outlines import Annotation, check_pycocotools, classes_of, paint
from voc12.convert.source import NOT_READ, TEST, TRAIN, VAL, Found, SourceImage, folder_of
from voc12.image_set import IMAGE_ENDINGS

# where tools put the file; the first pattern that fits anything counts
PLACES = (
    "_annotations.coco.json",  # Roboflow, one file or one a split
    "*/_annotations.coco.json",
    "annotations/instances_*.json",  # CVAT, and COCO itself
    "result.json",  # Label Studio
    "annotations.json",  # labelme2coco
    "annotations/*.json",
    "*.json",
    "*/annotations.json",
)
VOID_NAMES = IGNORED | {"void", "ignore"}
MISSING = "images that are not on disk"
UNANNOTATED = "images without an annotation (--all_images keeps them)"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", nargs="+", metavar="JSON", help="instances files (default: found in SOURCE)")
    parser.add_argument("--images", help="the folder of the images, or of folders of them (default: SOURCE)")
    parser.add_argument(
        "--on_top",
        choices=("last", "smallest"),
        default="last",
        help="where objects overlap: the one that comes last in the file, or the smallest (default: last)",
    )
    parser.add_argument("--all_images", action="store_true", help="keep images without an annotation, as background")


class Listed(NamedTuple):
    """An image of an instances file, and the list that this is of."""

    instances: Instances
    set_name: str
    image: Image


@dataclass
class Picture:
    """What the instances files say of one image file."""

    name: str
    size: tuple[int, int]
    made_of: dict[Path, None] = field(default_factory=dict)  # in order, each once
    sets: dict[str, None] = field(default_factory=dict)
    annotations: list[Annotation] = field(default_factory=list)
    complete: bool = True  # every object can be painted


def read(source: Path, options: argparse.Namespace) -> Found:
    if not source.is_dir():
        raise InputError(f"SOURCE: {source} is a file: give its folder, and --annotations {source.name}")
    folder = folder_of(source, options.images) if options.images else source
    files = [_given(source, path) for path in options.annotations or ()] or _instances_files(source)
    parts = {path: read_instances(path) for path in files}
    numbers, names = number_categories([*parts.values()])
    on_disk = ImageFolder(folder)
    found = Found(names, [])
    listed: dict[Path, list[Listed]] = defaultdict(list)
    for path, instances in parts.items():
        _find(instances, _set_of(path, source), on_disk, listed, found.left_out, all_images=options.all_images)
    pictures = {path: _picture(path, of_file, on_disk, found.left_out) for path, of_file in listed.items()}
    unknown = [path for path, picture in pictures.items() if not picture.annotations and not picture.complete]
    if unknown:
        found.left_out[UNKNOWN_ALONE] = [pictures.pop(path).name for path in unknown]
    ids = on_disk.ids([*pictures])
    has_outlines = any(picture.complete and picture.annotations for picture in pictures.values())
    if has_outlines:
        check_pycocotools()
    for path, picture in pictures.items():
        drawn = partial(
            paint,
            picture.annotations,
            numbers,
            picture.size,
            order="area" if options.on_top == "smallest" else "file",
            crowds=True,
        )
        found.images.append(
            SourceImage(
                ids[path],
                path,
                drawn if has_outlines and picture.complete else None,
                tuple(picture.made_of),
                tuple(classes_of(picture.annotations, numbers)),
                tuple(picture.sets),
                picture.size if has_outlines and picture.complete else None,
            )
        )
    found.notes += _notes([*parts.values()], numbers, found.images, has_outlines=has_outlines)
    return found


def _given(source: Path, path: str) -> Path:
    """A file that --annotations names: below SOURCE, or else from the working directory."""
    return source / path if (source / path).is_file() else Path(path)


def _instances_files(source: Path) -> list[Path]:
    for pattern in PLACES:
        found = sorted(path for path in source.glob(pattern) if path.is_file())
        if found:
            return found
    raise InputError(f"{source}: no instances file is found there: say --annotations FILE.json")


def _set_of(path: Path, source: Path) -> str:
    """The list that an instances file is of, by its name or that of its folder: train where neither tells."""
    words = re.split(r"[\W_]+", path.stem)
    if path.parent.resolve() != source.resolve():
        words.append(path.parent.name)
    return next((name for word in words if (name := place_name(word)) in (TRAIN, VAL, TEST)), TRAIN)


def number_categories(parts: list[Instances]) -> tuple[dict[int, int], list[str]]:
    """The number of each category, 0 for background and 255 for void, and the class names.

    Raises    InputError if two files have different categories of one ID, or one category with two IDs
    """
    categories: dict[int, str] = {}
    for part in parts:
        for number, name in part.categories.items():
            if categories.setdefault(number, name) != name:
                raise InputError(
                    f"{part.path}: category {number} is {name!r}, but {categories[number]!r} in another file: "
                    "convert them one by one"
                )
    ids: dict[str, int] = {}
    for number, name in sorted(categories.items()):
        if ids.setdefault(name, number) != number:
            raise InputError(f"{name!r} is category {ids[name]} in one file and {number} in another: export them alike")
    used = {a.category_id for part in parts for of_image in part.annotations.values() for a in of_image}
    above = {name for part in parts for name in part.supercategories}
    numbers: dict[int, int] = {}
    names: list[str] = []
    for name, number in ids.items():
        special = special_number(name)
        if special is not None:
            numbers[number] = special
        elif number in used or name not in above:
            names.append(name)
            numbers[number] = len(names)
    return numbers, names


def special_number(name: str) -> int | None:
    """0 for a name of the background, 255 for one of void, None for a class."""
    folded = name.casefold()
    return 0 if folded in BACKGROUND else VOID if folded in VOID_NAMES else None


def _find(
    instances: Instances,
    set_name: str,
    on_disk: ImageFolder,
    listed: dict[Path, list[Listed]],
    left_out: dict[str, list[str]],
    *,
    all_images: bool,
) -> None:
    """Add the images of an instances file to those that other files list, by the file on disk."""
    for why, what in instances.left_out.items():
        left_out.setdefault(why, []).extend(what)
    for image in instances.images:
        if not all_images and image.id not in instances.annotations and image.id not in instances.incomplete:
            left_out.setdefault(UNANNOTATED, []).append(image.file_name)
            continue
        path = on_disk.find(image.file_name, beside=instances.path, set_name=set_name)
        if path is None or path.suffix.lower() not in IMAGE_ENDINGS:
            left_out.setdefault(NOT_READ if path else MISSING, []).append(image.file_name)
        else:
            listed[path].append(Listed(instances, set_name, image))


def _picture(path: Path, listed: list[Listed], on_disk: ImageFolder, left_out: dict[str, list[str]]) -> Picture:
    """What the instances files say of an image file; one that two of them list gets the annotations of both."""
    if len(listed) > 1:
        claims = []
        for instances, set_name, image in listed:
            fit = on_disk.fit(path, image.file_name, beside=instances.path, set_name=set_name)
            claims.append(Claim(instances.path, image.file_name, fit))
        means = which_mean(path, claims)
        missing = [claim.file_name for claim, is_meant in zip(claims, means, strict=True) if not is_meant]
        if missing:
            left_out.setdefault(MISSING, []).extend(missing)
        listed = list(compress(listed, means))
    first = listed[0].image
    picture = Picture(first.file_name, first.size or image_size(path))
    for instances, set_name, image in listed:
        given = instances.annotations.get(image.id, [])
        size = image.size or image_size(path)
        annotations, complete = sound(given, size, instances.categories, image.file_name, left_out)
        picture.annotations += annotations
        picture.complete = picture.complete and complete and image.id not in instances.incomplete
        picture.made_of[instances.path] = picture.sets[set_name] = None
    return picture


def _notes(
    parts: list[Instances], numbers: Mapping[int, int], images: list[SourceImage], *, has_outlines: bool
) -> list[str]:
    notes = [f"read: {', '.join(str(part.path) for part in parts)}"]
    aside = {
        f"{name} ({number})" for part in parts for number, name in part.categories.items() if number not in numbers
    }
    if aside:
        notes.append(f"no class, but the supercategory of others: {', '.join(sorted(aside))}")
    without = [image.image_id for image in images if not image.mask]
    if not has_outlines:
        notes.append("no image has outlines of all its objects: there are labels, but no masks")
    elif without:
        why = "since an object has no usable outline, or none of the classes"
        notes.append(
            f"images without a mask, {why}, {len(without)}: {without[0]}" + (", …" if len(without) > 1 else "")
        )
    return notes
