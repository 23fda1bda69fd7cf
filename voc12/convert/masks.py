"""a folder of images and one of masks: of class numbers, of colours, or of 0 and 255 for one class

The numbers may be in 8 or 16 bits, with or without transparency, in a palette PNG or, all three alike, in RGB. Colours
are VOC's, unless --colours names others. 255 is void, unless --binary says that it is the one class. Lists are
train.txt, val.txt, test.txt, of SOURCE or of its ImageSets/Segmentation/; without them all images are for training.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.formats.images import open_image
from misc.formats.palette import voc_palette
from voc12.class_names import names_of
from voc12.convert.colours import VOID, ColourTable, class_numbers, read_colours, remedy, reordered, voc_colours
from voc12.convert.source import (
    IN_NO_LIST,
    NO_IMAGE,
    NO_MASK,
    NOT_READ,
    TRAIN,
    Found,
    SourceImage,
    files_in,
    flat_id,
    folder_of,
    images_in,
    lists_in,
    values_in,
)
from voc12.image_set import PROJECT, read_lines

MASK_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jpg", ".jpeg")
VOC = "voc"
# of VOC's colours, as 8-bit grey: classes 1 to 20, void
VOC_GREYS = (38, 75, 113, 15, 53, 90, 128, 19, 57, 94, 133, 34, 72, 109, 147, 38, 76, 113, 151, 52, 220)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", help="their folder, in SOURCE or anywhere (JPEGImages)")
    parser.add_argument("--masks", help="that of the masks (SegmentationClass)")
    parser.add_argument("--mask_suffix", default="", help="what follows the ID in a mask's name, such as _mask")
    parser.add_argument("--class_names", help="class names, one a line (default: those of --colours, else VOC's)")
    parser.add_argument("--colours", help="a file of lines 'name r,g,b', CVAT's labelmap.txt, or the word voc")
    parser.add_argument("--binary", action="store_true", help="255 is the one class, instead of void")


def read(source: Path, options: argparse.Namespace) -> Found:
    labelmap = source / "labelmap.txt"
    if options.colours is None and options.class_names is None and labelmap.is_file():
        raise InputError(
            f"{labelmap} names classes and colours: say --colours {labelmap}, use the format cvat, or "
            "name the classes with --class_names FILE if the masks hold their numbers"
        )
    names, table = _classes(options)
    voc = voc_colours(names)
    if options.binary and len(names) != 1:
        raise InputError(f"--binary is for one class, but there are {len(names)}: say --class_names FILE with its name")
    images, others = images_in(folder_of(source, options.images, "JPEGImages"))
    masks = _masks(folder_of(source, options.masks, "SegmentationClass"), options.mask_suffix)
    mask_names = {path.name for path in masks.values()}
    in_one_folder = set(images.values()) & set(masks.values()) if options.mask_suffix else set()
    images = {image_id: path for image_id, path in images.items() if path not in in_one_folder}
    colours = (Path(options.colours),) if options.colours not in (None, VOC) else ()
    lists = lists_in(source) or dict.fromkeys(images, (TRAIN,))
    reader = partial(_read_mask, table=table, voc=voc, binary=options.binary)
    return Found(
        names,
        [
            SourceImage(
                image_id, path, partial(reader, masks[image_id]), (masks[image_id], *colours), sets=lists[image_id]
            )
            for image_id, path in images.items()
            if image_id in masks and image_id in lists
        ],
        {
            NO_MASK: [path.name for image_id, path in images.items() if image_id not in masks],
            NO_IMAGE: [path.name for image_id, path in masks.items() if image_id not in images],
            IN_NO_LIST: [image_id for image_id in images if image_id in masks and image_id not in lists],
            NOT_READ: [name for name in others if name not in mask_names],
        },
    )


def _classes(options: argparse.Namespace) -> tuple[list[str], ColourTable | None]:
    """The class names, and the colours if all masks are to be read by them."""
    given = names_of(options.class_names, read_lines(options.class_names)) if options.class_names else None
    if options.colours in (None, VOC):
        names = given or read_lines(PROJECT / "voc12" / "class_names.txt")
        return names, voc_colours(names) if options.colours else None
    table = read_colours(Path(options.colours))
    if given:
        table = reordered(table, given, options.class_names)
    return table.names, table


def _masks(folder: Path, suffix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files_in(folder):
        if path.suffix.lower() in MASK_ENDINGS and path.stem.endswith(suffix):
            other = found.setdefault(flat_id(path.stem.removesuffix(suffix)), path)
            if other != path:
                raise InputError(f"{folder}: {other.name} and {path.name} are masks of one image: keep one of them")
    return found


def _read_mask(path: Path, *, table: ColourTable | None, voc: ColourTable, binary: bool) -> np.ndarray:
    """(H, W) uint8 class numbers of a mask of whatever kind.

    table     of all masks; None: colours are those of `voc`, and what has no colours holds numbers
    """
    image = open_image(path)
    if table is not None or image.mode in ("RGB", "RGBA", "CMYK"):
        labels = class_numbers(image, table or voc, path)
    elif image.mode == "LA":
        labels = np.asarray(image)[..., 0]
    elif image.mode in ("P", "L", "1") or image.mode.startswith("I"):
        labels = np.asarray(image.convert("L")).clip(0, 1) if image.mode == "1" else np.asarray(image)
    else:
        raise InputError(f"{path}: a mask of the kind {image.mode} is not read: save it as PNG of class numbers")
    if image.mode == "P" and table is None:
        _refuse_other_order(labels, image.getpalette() or [], path)
    allowed = [*range(len(voc.names) + 1), VOID]
    unknown = np.setdiff1d(values_in(labels), allowed)
    if unknown.size:
        if image.mode in ("L", "LA") and set(unknown) <= set(VOC_GREYS):
            raise InputError(
                f"{path}: holds {unknown[0]}, expected 0 to {len(voc.names)} and {VOID}. From grey levels of VOC's "
                "colours, which these may be, classes cannot be told (aeroplane and potted plant are both 38): take "
                "the masks in colour, or as class numbers"
            )
        count = np.count_nonzero(labels == unknown[0])
        raise InputError(
            f"{path}: {count} of {labels.size} pixels hold {unknown[0]}, expected 0 to {len(voc.names)} and {VOID}: "
            f"{remedy(path)}, or say with --colours which values (as n,n,n) mean what"
        )
    return np.where(labels == VOID, 1, labels).astype(np.uint8) if binary else labels.astype(np.uint8)


def _refuse_other_order(indices: np.ndarray, palette: list[int], path: Path) -> None:
    """InputError for a palette that holds VOC's colours in another order: a program has sorted it.

    Then the indices are no class numbers, although they look so.
    """
    voc = voc_palette()
    colours = {tuple(voc[3 * n : 3 * n + 3]): n for n in (*range(21), VOID)}
    used = [int(index) for index in values_in(indices)]
    meant = [colours.get(tuple(palette[3 * index : 3 * index + 3])) for index in used]
    if None not in meant and meant != used and any(meant):
        raise InputError(
            f"{path}: its palette has VOC's colours in another order, so that its numbers are no classes: "
            "say --colours voc (or --colours FILE) to go by the colours"
        )
