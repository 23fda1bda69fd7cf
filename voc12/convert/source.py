"""What a converter finds in another layout, and what several converters look up there."""

import argparse
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Protocol

import numpy as np
from PIL import Image

from misc.errors import InputError
from voc12.image_set import IMAGE_ENDINGS, is_utf8, nfc, read_lines, read_list
from voc12.list_forms import ids_of

TRAIN, VAL, TEST = "train", "val", "test"
NO_MASK, NO_IMAGE = "images without a mask", "masks without an image"
NOT_READ = "files that are no JPEG, PNG, TIFF or BMP"
IN_NO_LIST = "images that are in no list"
LIST_NAMES = {"training": TRAIN, "valid": VAL, "validation": VAL, "testing": TEST}  # as others spell them


@dataclass(frozen=True)
class SourceImage:
    """One image of the source.

    image_id  a file name without folder and ending, see `flat_id`
    path      its file, JPEG, PNG, TIFF or BMP
    mask      reads or draws its mask, when it is needed: (H, W) uint8 of the image as it is shown, 0 background,
              255 void, classes from 1. It may raise an InputError. None: there is no mask
    made_of   the files that the mask is read from: where they are others, or changed, it is made anew
    classes   that it shows, from 0; None: those of its mask
    sets      names of the lists that it is in: TRAIN, VAL, TEST or others
    size      (H, W) that its mask will have, where that is known before it is drawn
    """

    image_id: str
    path: Path
    mask: Callable[[], np.ndarray] | None = None
    made_of: tuple[Path, ...] = ()
    classes: tuple[int, ...] | None = None
    sets: tuple[str, ...] = (TRAIN,)
    size: tuple[int, int] | None = None


@dataclass
class Found:
    """What the source holds.

    class_names   in the order of their numbers, without background
    left_out      why → the names of what was left out for it
    notes         lines for the summary
    """

    class_names: list[str]
    images: list[SourceImage]
    left_out: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Format(Protocol):
    """A module of this package that reads a format. The first line of its docstring says which."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what it asks beside SOURCE and TARGET. Defaults are None where the source itself may tell."""

    def read(self, source: Path, options: argparse.Namespace) -> Found:
        """What the folder holds; InputError if it is no such folder. Nothing is written."""


def values_in(labels: np.ndarray) -> np.ndarray:
    """The numbers that a mask holds, sorted, each once."""
    small = labels.dtype in (np.uint8, np.uint16)
    return np.bincount(labels.ravel()).nonzero()[0] if small else np.unique(labels)


def refuse_overlap(source: Path, target: Path) -> None:
    """InputError if one of the folders lies in the other, or the source does not exist."""
    if not source.exists():
        raise InputError(f"SOURCE: there is no {source}")
    inner, outer = Path(os.path.realpath(target)), Path(os.path.realpath(source))
    if inner == outer or outer in inner.parents:
        raise InputError(f"TARGET {target} lies in SOURCE {source}, which is never changed: choose another place")
    if inner in outer.parents:
        raise InputError(f"SOURCE {source} lies in TARGET {target}: choose a folder of its own as TARGET")


def folder_of(source: Path, given: str | None, default: str = "") -> Path:
    """A folder that an option names: below SOURCE, or else from the working directory; the default is below SOURCE."""
    inside = source / (given or default)
    return Path(given) if given and not inside.is_dir() else inside


def images_in(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The images of a folder by ID, sorted, and the names of its other files.

    Raises    InputError if there is no such folder, or two files have one ID
    """
    found: dict[str, Path] = {}
    others = []
    for path in files_in(folder):
        if path.suffix.lower() not in IMAGE_ENDINGS:
            others.append(path.name)
            continue
        other = found.setdefault(flat_id(path.stem), path)
        if other != path:
            raise InputError(f"{folder}: {other.name} and {path.name} have one ID: rename one")
    return found, others


def files_in(folder: Path) -> list[Path]:
    """The files of a folder, sorted by name, hidden ones left out; InputError if there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read as a folder ({error.strerror})") from error


def image_of(folder: Path, name: str) -> Path | None:
    """The image of a name, which may have folders in front; None if there is none."""
    candidates = (folder / f"{name}{ending}" for ending in IMAGE_ENDINGS)
    return next((path for path in candidates if path.is_file()), None)


def list_name(name: str) -> str:
    """What a list is called here: TRAIN, VAL, TEST however it is spelt, any other as it is.

    name    of its file, without the ending; Windows hides endings, so that `train.txt` may be left of `train.txt.txt`
    """
    name = re.sub(r"(\.txt)+$", "", name, flags=re.IGNORECASE)
    folded = name.casefold()
    return LIST_NAMES.get(folded, folded if folded in (TRAIN, VAL, TEST) else name)


def lists_in(root: Path) -> dict[str, tuple[str, ...]]:
    """The lists that each ID is in, of ImageSets/Segmentation/ or else of the folder itself; empty without lists."""
    for folder in (root / "ImageSets" / "Segmentation", root):
        found: dict[str, tuple[str, ...]] = {}
        for name in (TRAIN, VAL, TEST):
            path = folder / f"{name}.txt"
            for image_id in read_list(path) if path.is_file() and read_lines(path) else []:  # some are left empty
                found[nfc(image_id)] = (*found.get(nfc(image_id), ()), name)
        if found:
            return found
    return {}


def flat_id(name: str) -> str:
    """The ID of an image whose name may have folders in front: `batch1/a1` becomes `batch1_a1`, in Unicode's form NFC.

    Raises    InputError if it cannot be an ID: a line of a list, and a file name with endings to come.
    """
    if not is_utf8(name):
        raise InputError(f"{name!r} cannot be an image ID: the file's name is not UTF-8. Rename the file")
    path = name.replace("\\", "/")
    if ".." in path.split("/") or path.startswith("/") or PureWindowsPath(path).is_absolute():
        raise InputError(f"{name!r} cannot be an image ID: it leads out of the folder. Name files within it")
    image_id = nfc(path.strip("/").replace("/", "_"))
    if not image_id or image_id.strip() != image_id or len(image_id.splitlines()) > 1 or "\0" in image_id:
        raise InputError(f"{name!r} cannot be an image ID, which begins and ends without blanks: rename the file")
    if ids_of([image_id], "SOURCE")[0] != [image_id]:  # which also refuses one that is too long
        raise InputError(f"{name!r} cannot be an image ID: a list would be read otherwise. Rename the file")
    return image_id


def refuse_collisions(names: Iterable[str]) -> None:
    """InputError if two of the names, which may have folders in front, become one ID."""
    before: dict[str, str] = {}
    for name in names:
        other = before.setdefault(flat_id(name), name)
        if other != name:
            raise InputError(f"{other!r} and {name!r} would both become the ID {flat_id(name)!r}: rename one")


def stored_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image's pixels as its file stores them; as it is shown: misc.formats.images.image_size."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
