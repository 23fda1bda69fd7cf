"""Image-level labels: which classes an image shows."""

from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.evaluation.confusion import VOID
from misc.formats.images import read_label_map
from voc12.annotation import annotated_classes
from voc12.class_names import names_of
from voc12.image_set import PROJECT, VOCRoot, read_lines
from voc12.label_array import LabelArrays
from voc12.label_file import LabelFile, is_npy

VOC_NAMES, VOC_LABELS = PROJECT / "voc12" / "class_names.txt", PROJECT / "voc12" / "cls_labels.txt"


def read_class_names(path: str | Path) -> list[str]:
    """The C class names in the order of their numbers.

    Raises    InputError if the file is no such list (see voc12/class_names.py).
    """
    return names_of(path, read_lines(path))


class ImageLabels:
    """Looks up the classes of an image, in the label file or else in its XML annotation.

    path          label file, text, CSV (voc12/label_file.py) or .npy (voc12/label_array.py); None: there are
                  annotations only
    Raises        InputError if the label file cannot be used
    """

    def __init__(self, path: str | Path | None, root: VOCRoot, class_names: list[str]) -> None:
        self.path = path
        self.root = root
        self.class_names = class_names
        self._listed = None if path is None else (LabelArrays if is_npy(path) else LabelFile)(path, class_names)

    def __getitem__(self, image_id: str) -> np.ndarray:
        """(K,) int64, the classes of an image, from 0, sorted, each once; K may be 0.

        Raises    InputError if there is no label, or one that is no class.
        """
        keys = self._listed.get(image_id) if self._listed else None
        if keys is None:
            annotation = self.root.annotation(image_id)
            if not annotation.is_file():
                raise InputError(f"no label for {image_id}: {self._where_missing(image_id, annotation)}")
            keys = annotated_classes(annotation, self.class_names)
        return np.array(sorted(set(keys)), np.int64)

    def _where_missing(self, image_id: str, annotation: Path) -> str:
        """Where a label was looked for. VOC's own label file is not named, since the user did not name it."""
        if self._listed and self.path != VOC_LABELS:
            advice = self._listed.advice(image_id)
            return f"neither in {self.path} nor at {annotation}" + (f"; {advice}" if advice else "")
        listed = "VOC's labels do not list it, " if self.path else ""
        return f"{listed}there is no {annotation}, and --cls_labels names no label file"

    def many_hot(self, image_id: str) -> np.ndarray:
        """(C,) float32, 1 where the image shows the class."""
        label = np.zeros(len(self.class_names), np.float32)
        label[self[image_id]] = 1
        return label


def masked_classes(path: Path, class_names: list[str]) -> list[int]:
    """The classes that a mask shows, from 0: a mask holds class numbers from 1, 0 background, 255 void."""
    numbers = np.bincount(read_label_map(path).ravel(), minlength=256).nonzero()[0]
    shown = [int(number) for number in numbers if number not in (0, VOID)]
    if shown and shown[-1] > len(class_names):
        raise InputError(
            f"{path}: holds the number {shown[-1]}, expected 0 to {len(class_names)} and {VOID} (see --class_names)"
        )
    return [number - 1 for number in shown]
