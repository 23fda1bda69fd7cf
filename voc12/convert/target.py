"""The folder that a converter writes: VOC's layout, and the settings that fit it."""

import json
import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from misc.errors import InputError
from misc.files import remove, remove_abandoned, replacing
from misc.formats.images import image_size, read_label_map, write_mask
from misc.run.parallel import parallel_map
from voc12.class_names import check_names
from voc12.convert.own_files import OwnFiles, source_mark
from voc12.convert.source import (
    Found,
    SourceImage,
    stored_size,
    values_in,
)
from voc12.convert.texts import counted, summary, write_texts
from voc12.image_set import IMAGE_ENDINGS, SETTINGS, nfc

VOID = 255
RECORD = "conversion.json"
FOLDERS = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")


class Made(NamedTuple):
    """What became of an image of the source."""

    classes: list[int]  # from 0, sorted
    fault: str = ""  # why it cannot be used


@dataclass(frozen=True)
class Target:
    """Writes what a format found.

    root      the folder
    copy      copy images instead of linking to them
    overwrite remove first what an earlier conversion made there

    Images are symbolic links: those cross file systems, may point to a data set that belongs to somebody else, which
    hard links may not, and show with `ls -l` that the pixels are the source's. Where there are no links, copies.
    """

    root: Path
    copy: bool = False
    overwrite: bool = False

    def write(self, found: Found, *, record: dict[str, Any], workers: int) -> str:
        """Write the whole folder. What is finished is kept; the settings, written last, say that all is.

        record    what the files depend on beside the source's: a folder with another record is refused
        Returns   what was found, to be printed
        Raises    InputError for images or masks that cannot be used, after all have been looked at, and for a folder
                  that cannot be written or holds something else.
        """
        check_names(f"{record['source']} (its classes)", found.class_names)
        if not found.images:
            left_out = counted(found.left_out)
            raise InputError(f"{record['source']}: no image to convert" + (f" ({left_out[0]})" if left_out else ""))
        _refuse_twins(found.images)
        with self._claim(record | {"class_names": found.class_names}) as own:
            add = partial(self._add, found=found, own=own)
            made = list(parallel_map(add, found.images, workers=workers, desc="convert"))
            _refuse_faults(made, record["source"])
            labels = {image.image_id: each.classes for image, each in zip(found.images, made, strict=True)}
            write_texts(own, found, labels)
        return summary(self.root, found, labels)

    def _claim(self, record: dict[str, Any]) -> OwnFiles:
        """Note what the folder is going to hold; InputError if it holds something else."""
        _refuse_links(self.root)
        path = self.root / RECORD
        text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        content = text.encode(errors="surrogateescape")  # SOURCE may have a name that is not UTF-8
        if path.is_file():
            differs, is_finished = path.read_bytes() != content, (self.root / SETTINGS).exists()
            if differs and is_finished and not self.overwrite:
                raise InputError(
                    f"{self.root} holds what another command, or other class names, made (see {path}): "
                    "choose another TARGET, or say --overwrite"
                )
            if differs or self.overwrite:
                with OwnFiles(self.root) as before:  # before the record says otherwise: a kill leaves nothing stale
                    before.remove_unused()
        elif self.root.exists() and (not self.root.is_dir() or _is_used(self.root)):
            raise InputError(f"{self.root} is there and no conversion made it: choose a TARGET that is new or empty")
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        for folder in (self.root, *(self.root / name for name in FOLDERS)):
            remove_abandoned(folder)
        own = OwnFiles(self.root)
        own.set_aside(SETTINGS)
        remove(self.root / SETTINGS)  # from now on it is not finished
        return own

    def _add(self, image: SourceImage, *, found: Found, own: OwnFiles) -> Made:
        """Write the image and its mask; what is wrong with them is returned, what cannot be written raised."""
        name = f"SegmentationClass/{image.image_id}.png"
        try:
            size = image_size(image.path)
            if image.size is not None:  # before a mask of that size takes memory
                _check_size(image.size, image, size)
            mark = source_mark((*image.made_of, image.path))
            finished = self._finished(name) if image.mask and own.holds(name, mark) else None
            labels = finished if finished is not None else image.mask() if image.mask else None
            if labels is not None:
                _check_size(labels.shape, image, size)
                _check_numbers(labels, image, len(found.class_names))
        except InputError as error:
            return Made([], str(error))
        if labels is not None and finished is None:
            own.note(name)
            write_mask(self.root / name, labels)
            own.note(name, mark)
        self._place(image, own, mark)
        if image.classes is not None:
            return Made(sorted(set(image.classes)))
        if labels is None:
            return Made([])
        return Made([int(number) - 1 for number in values_in(labels) if number not in (0, VOID)])

    def _finished(self, name: str) -> np.ndarray | None:
        """The mask that an earlier run wrote, unless it is damaged or gone."""
        try:
            return read_label_map(self.root / name)
        except InputError:
            return None

    def _place(self, image: SourceImage, own: OwnFiles, mark: str) -> None:
        """Link to the image, or copy it, under the ID; a finished link or copy is kept."""
        ending = image.path.suffix if image.path.suffix in IMAGE_ENDINGS else image.path.suffix.lower()
        name = f"JPEGImages/{image.image_id}{ending}"
        for other in IMAGE_ENDINGS:
            beside = f"JPEGImages/{image.image_id}{other}"
            is_same = other.lower() == ending.lower()  # to some file systems
            if not is_same and os.path.lexists(self.root / beside) and not own.knows(beside):
                raise InputError(f"{self.root / beside} is there, and {image.path} has the same ID: rename one of them")
        path, original = self.root / name, Path(os.path.abspath(image.path))
        if not (own.holds(name, mark) and _is_placed(path, original, copy=self.copy)):
            own.note(name)
            with replacing(path) as temporary:
                if self.copy or not _linked(original, temporary):
                    shutil.copyfile(original, temporary)
            own.note(name, mark)


def _refuse_faults(made: list[Made], source: str) -> None:
    faults = [each.fault for each in made if each.fault]
    if faults:
        more = f" (and {len(faults) - 1} more of {len(made)} images)" if len(faults) > 1 else ""
        raise InputError(f"{faults[0]}{more}")
    if not any(each.classes for each in made):
        raise InputError(
            f"{source}: none of {len(made)} images shows a class: look at the masks and the class names; "
            "where 255 is the one class, use the format masks with --binary"
        )


def _refuse_links(root: Path) -> None:
    """InputError if a folder of the target leads elsewhere: what lies there, maybe SOURCE's images, is not its own."""
    real = Path(os.path.realpath(root))
    for name in FOLDERS:
        if (leads_to := Path(os.path.realpath(root / name))) != real / name:
            raise InputError(f"{root / name} leads to {leads_to} by a link: remove the link, or choose another TARGET")


def _refuse_twins(images: list[SourceImage]) -> None:
    before: dict[str, SourceImage] = {}
    for image in images:
        other = before.setdefault(nfc(image.image_id), image)
        if other is not image:
            raise InputError(f"{other.path} and {image.path} have one ID, {image.image_id}: rename one of them")


def _check_size(shape: tuple[int, ...], image: SourceImage, size: tuple[int, int]) -> None:
    if shape != size:
        expected = f"{size[0]}×{size[1]}"
        if shape == stored_size(image.path):
            expected += ", as its EXIF orientation shows it: mask and image must be turned alike"
        raise InputError(
            f"{_origin(image)}: the mask of {image.path.name} is {'×'.join(map(str, shape))} pixels (height × width), "
            f"expected {expected}"
        )


def _check_numbers(labels: np.ndarray, image: SourceImage, classes: int) -> None:
    unknown = np.setdiff1d(values_in(labels), [*range(classes + 1), VOID])
    if unknown.size:
        raise InputError(
            f"{_origin(image)}: holds the number {unknown[0]}, expected 0 to {classes} and {VOID}: add its class"
        )


def _origin(image: SourceImage) -> Path:
    return image.made_of[0] if image.made_of else image.path


def _is_used(folder: Path) -> bool:
    return any(not path.name.endswith(".tmp") for path in folder.iterdir())


def _is_placed(path: Path, original: Path, *, copy: bool) -> bool:
    if path.is_symlink():
        return not copy and Path(os.readlink(path)) == original
    return path.is_file() and path.stat().st_size == original.stat().st_size


def _linked(original: Path, link: Path) -> bool:
    try:
        link.symlink_to(original)
    except (OSError, NotImplementedError):  # a file system, or a Windows account, without links
        return False
    return True
