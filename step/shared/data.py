"""The data set that the settings name: where its files are, its classes, its image labels."""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from misc.config import Config
from voc12.image_labels import VOC_LABELS, VOC_NAMES, ImageLabels, read_class_names
from voc12.image_set import VOCRoot


class DataSet:
    """The VOC root, class names and image labels that the settings name; read when first asked for."""

    def __init__(self, args: Config) -> None:
        self._args = args
        elsewhere = [Path(folder) if folder else None for folder in (args.saliency_dir, args.truth_dir)]
        self.root = VOCRoot(Path(args.voc12_root), *elsewhere)

    @cached_property
    def class_names(self) -> list[str]:
        return read_class_names(self._args.class_names)

    @property
    def class_names_file(self) -> str:
        return self._args.class_names

    @property
    def n_labels(self) -> int:
        """How many numbers a mask may hold: the classes and 0, the background."""
        return len(self.class_names) + 1

    @cached_property
    def labels(self) -> ImageLabels:
        path = self._args.cls_labels or (VOC_LABELS if self.class_names == read_class_names(VOC_NAMES) else None)
        return ImageLabels(path, self.root, self.class_names)

    def labelled(self, ids: list[str]) -> list["Labelled"]:
        """Images with their labels."""
        return [Labelled(image_id, self.labels[image_id]) for image_id in ids]

    @property
    def evaluated_list(self) -> Path:
        return self.root.image_set(self._args.chainer_eval_set)


class Labelled(NamedTuple):
    """An image and the classes it shows, (K,) int64."""

    image_id: str
    labels: np.ndarray
