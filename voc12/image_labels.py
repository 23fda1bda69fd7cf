"""Image-level labels: which classes an image shows."""

import xml.etree.ElementTree as ElementTree
from functools import cached_property
from pathlib import Path

import numpy as np

from misc.errors import InputError
from voc12.image_set import VOCRoot, read_lines

MAX_CLASSES = 254  # class numbers 1..254 in 8-bit masks, beside 0 background and 255 void


def read_class_names(path: str | Path) -> list[str]:
    """The C class names in the order of their numbers."""
    names = read_lines(path)
    if not 1 <= len(names) <= MAX_CLASSES:
        raise InputError(f"{path}: {len(names)} class names, expected 1 to {MAX_CLASSES}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: the class {twice!r} occurs twice")
    return names


class ImageLabels:
    """Looks up the classes of an image, in the label file or else in its XML annotation.

    path          text file, a line 'ID c c …' an image, c from 0; a line of an ID alone: no class
    """

    def __init__(self, path: str | Path, root: VOCRoot, class_names: list[str]) -> None:
        self.path = path
        self.root = root
        self.class_names = class_names

    def __getitem__(self, image_id: str) -> np.ndarray:
        """(K,) int64, the classes of an image, from 0, sorted, each once; K may be 0.

        Raises    InputError if there is no label, or one that is no class.
        """
        classes = self._listed.get(image_id)
        keys = self._from_xml(image_id) if classes is None else [self._class(c, image_id) for c in classes]
        return np.array(sorted(set(keys)), np.int64)

    def many_hot(self, image_id: str) -> np.ndarray:
        """(C,) float32, 1 where the image shows the class."""
        label = np.zeros(len(self.class_names), np.float32)
        label[self[image_id]] = 1
        return label

    @cached_property
    def _listed(self) -> dict[str, list[str]]:
        rows = [line.split() for line in read_lines(self.path)]
        return {row[0]: row[1:] for row in rows}

    def _class(self, text: str, image_id: str) -> int:
        if not text.isdecimal() or int(text) >= len(self.class_names):
            raise InputError(f"{self.path}: {text!r} of {image_id} is no class (0 to {len(self.class_names) - 1})")
        return int(text)

    def _from_xml(self, image_id: str) -> list[int]:
        path = self.root.annotation(image_id)
        try:
            names = [item.text or "" for item in ElementTree.parse(path).getroot().iterfind("object/name")]
        except FileNotFoundError as error:
            raise InputError(f"no label for {image_id}: neither in {self.path} nor at {path}") from error
        except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an odd encoding
            raise InputError(f"{path}: cannot be read as an annotation ({error})") from error
        unknown = [name for name in names if name.strip() not in self.class_names]
        if unknown:
            raise InputError(f"{path}: {unknown[0]!r} is not among the class names")
        return [self.class_names.index(name.strip()) for name in names]
