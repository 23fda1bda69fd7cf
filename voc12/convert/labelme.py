"""what labelme2voc wrote: JPEGImages/, SegmentationClass/ (older: SegmentationClassPNG/), class_names.txt

Its class_names.txt begins with `_background_`; the labels.txt that it was given begins with `__ignore__` and
`_background_`. In a mask, `_background_` is 0 and `__ignore__` is 255, or -1 in a .npy. The classes count from 1.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.formats.images import read_label_map
from voc12.convert.source import NO_IMAGE, NO_MASK, NOT_READ, Found, SourceImage, files_in, flat_id, images_in
from voc12.image_set import read_lines

IGNORE, BACKGROUND = "__ignore__", "_background_"
MASK_FOLDERS = ("SegmentationClassPNG", "SegmentationClass", "SegmentationClassNpy")
MASK_ENDINGS = (".png", ".npy")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--class_names", help="the labels.txt that labelme2voc was given (default: found in SOURCE)")


def read(source: Path, options: argparse.Namespace) -> Found:
    if not (source / "JPEGImages").is_dir() and any(source.glob("*.json")):
        raise InputError(
            f"{source} holds JSON files and no JPEGImages/: if labelme wrote them, run its labelme2voc first, and give "
            "the folder that this makes; if they are COCO's, use the format coco"
        )
    images, others = images_in(source / "JPEGImages")
    masks = _masks(source)
    names = _class_names(Path(options.class_names) if options.class_names else _names_file(source))
    return Found(
        names,
        [
            SourceImage(image_id, path, partial(_read_mask, masks[image_id]), (masks[image_id],))
            for image_id, path in images.items()
            if image_id in masks
        ],
        {
            NO_MASK: [path.name for image_id, path in images.items() if image_id not in masks],
            NO_IMAGE: [path.name for image_id, path in masks.items() if image_id not in images],
            NOT_READ: others,
        },
    )


def _masks(source: Path) -> dict[str, Path]:
    """The mask of each ID, a PNG rather than a .npy; older versions wrote both."""
    folders = [source / name for name in MASK_FOLDERS if (source / name).is_dir()]
    if not folders:
        raise InputError(f"{source}: there is no folder SegmentationClass or SegmentationClassPNG, as of labelme2voc")
    found: dict[str, Path] = {}
    for ending in MASK_ENDINGS:
        for folder in folders:
            for path in files_in(folder):
                if path.suffix.lower() == ending:
                    found.setdefault(flat_id(path.stem), path)
    return found


def _names_file(source: Path) -> Path:
    candidates = [source / name for name in ("class_names.txt", "labels.txt")]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InputError(f"{source}: there is no class_names.txt or labels.txt: say --class_names FILE")
    return found


def _class_names(path: Path) -> list[str]:
    """The classes from 1, of class_names.txt or labels.txt."""
    names = read_lines(path)
    if names[:1] == [IGNORE]:
        names = names[1:]
    if names[:1] != [BACKGROUND]:
        first = repr(names[0]) if names else "nothing"
        raise InputError(f"{path}: {first} stands where labelme has {BACKGROUND}: add that line, the number 0 is its")
    for name in (IGNORE, BACKGROUND):
        if name in names[1:]:
            raise InputError(f"{path}: {name} stands among the classes, expected {IGNORE}, {BACKGROUND}, classes")
    return names[1:]


def _read_mask(path: Path) -> np.ndarray:
    """(H, W) uint8; -1 of a .npy becomes 255, as in labelme's PNGs."""
    if path.suffix.lower() == ".png":
        return read_label_map(path)
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as an array ({error})") from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise InputError(f"{path}: expected an array of class numbers, height × width")
    if labels.size and not -1 <= labels.min() <= labels.max() <= 255:
        wrong = labels.min() if labels.min() < -1 else labels.max()
        raise InputError(f"{path}: holds the number {wrong}, expected class numbers and -1 for {IGNORE}")
    return np.where(labels == -1, 255, labels).astype(np.uint8)
