"""Image labels as IRN, PSA, SEAM, EPS and MCTformer keep them: `cls_labels.npy`, a dict of vectors, one an image.

{image: (C,) vector, 1 where the image shows the class}, C the number of classes. An image is named by its ID, one of
VOC or COCO by the number in it too: 2007000032 is 2007_000032, 9 is COCO_train2014_000000000009 or 000000000009.
"""

import os
import re
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.formats.cam_file import Entries, read_dict
from voc12.image_set import find, nfc

# IDs of VOC, and of COCO, which numbers all its images in one row; other names may differ in zeros or underscores alone
NUMBERED = re.compile(r"(\d{4}_\d{6})|(?:COCO_(?:train|val)20\d\d_)?(\d{12})", re.ASCII)
PLAIN = re.compile(r"0|[1-9]\d{0,11}", re.ASCII)  # a number kept as text


class LabelArrays:
    """The classes of each image in such a file, looked up as `label_file.LabelFile` does.

    Raises    InputError if the file is missing or is none; no code in it runs.
    """

    def __init__(self, path: str | Path, class_names: list[str]) -> None:
        self.path, self._n_classes = path, len(class_names)
        file = find(path)
        if not file.is_file():
            raise InputError(f"{path}: no such label file")
        stat = os.stat(file)
        self._entries, self._keys_of = _read(file, stat.st_mtime_ns, stat.st_size)
        if self._entries.names:  # of another number of classes, all are
            self._check_length(self._entries.names[0])

    def get(self, image_id: str) -> list[int] | None:
        """The class numbers of an image, from 0; None if the file does not have it.

        Raises    InputError if two keys mean the image, or its vector is not one of zeros and ones, one for each class.
        """
        found = (self._keys_of.get(name, []) for name in (nfc(image_id), _number(image_id)))
        keys = list(dict.fromkeys(chain.from_iterable(found)))
        if not keys:
            return None
        if len(keys) > 1:
            raise InputError(
                f"{self.path}: {keys[0]!r} and {keys[1]!r} both name the image {image_id}: keep one of them"
            )
        self._check_length(keys[0])
        vector = self._entries[keys[0]]
        if not np.isin(vector, (0, 1)).all():
            raise InputError(f"{self.path}: the vector of {keys[0]!r} holds other numbers than 0 and 1")
        return [int(number) for number in np.flatnonzero(vector)]

    def _check_length(self, key: str | int) -> None:
        shape = self._entries[key].shape
        if shape != (self._n_classes,):
            raise InputError(
                f"{self.path}: the vector of {key!r} has the shape {shape}, expected a number for each of "
                f"{self._n_classes} classes (see --class_names)"
            )

    def advice(self, image_id: str) -> str:
        """What to do about an image that the file lacks; empty if there is nothing to suggest."""
        return f"its first image is {self._entries.names[0]!r}" if self._entries.names else "it is empty"


@lru_cache(maxsize=2)  # every step asks for the labels, and those of COCO take seconds to read
def _read(path: Path, modified: int, size: int) -> tuple[Entries, dict[str | int | None, list[str | int]]]:
    """The entries of a file, and the keys that mean an image, by its name (text) and by its number (int)."""
    entries = read_dict(path, "label file")
    keys_of: dict[str | int | None, list[str | int]] = {}
    for key in entries.names:
        text = str(key)
        number = int(text) if PLAIN.fullmatch(text) else _number(text)
        for name in {nfc(text), number} - {None}:
            keys_of.setdefault(name, []).append(key)
    return entries, keys_of


def _number(name: str) -> int | None:
    """The number that stands for an ID of VOC or COCO; None for other names."""
    match = NUMBERED.fullmatch(name)
    return int((match[1] or match[2]).replace("_", "")) if match else None
