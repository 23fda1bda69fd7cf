"""The data sets that feed the networks: images prepared as docs/method.md says, sections 1, 2, 5 and 6."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from misc.errors import InputError
from misc.formats.images import read_image, read_label_map, read_saliency
from misc.method.boundary_labels import BoundaryLabel
from misc.pixels import normalise, rescale, scaled_size, stride4
from misc.train.loading import Sample, sample_rng
from voc12.image_labels import ImageLabels
from voc12.image_set import VOCRoot

BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
UNLABELLED = 255  # outside the image: not a BoundaryLabel, so no term of the loss counts it
RESCALE_RANGE = (0.5, 1.5)  # of the boundary network's training images


class ClassifierTraining(Dataset):
    """Augmented crops and their labels: (3, crop, crop) float32, (C,) float32. The key is (epoch, index)."""

    def __init__(
        self, ids: list[str], root: VOCRoot, labels: ImageLabels, *, crop: int, long_side: tuple[int, int], seed: int
    ) -> None:
        self.ids, self.root, self.labels = ids, root, labels
        self.crop, self.long_side, self.seed = crop, long_side, seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        image_id = self.ids[sample[1]]
        rng = sample_rng(self.seed, *sample)
        image = read_image(self.root.image(image_id))
        long_side = rng.integers(self.long_side[0], self.long_side[1] + 1)
        scale = long_side / max(image.shape[:2])
        pixels = normalise(rescale(image, scaled_size(image.shape[:2], scale), BICUBIC))
        if rng.random() < 0.5:
            pixels = pixels[:, :, ::-1]
        place = crop_place(pixels.shape[1:], self.crop, rng)
        return place.cut(pixels, fill=0), self.labels.many_hot(image_id)


class ClassifierValidation(Dataset):
    """Top-left crops and their labels: (3, crop, crop) float32, (C,) float32."""

    def __init__(self, ids: list[str], root: VOCRoot, labels: ImageLabels, *, crop: int) -> None:
        self.ids, self.root, self.labels, self.crop = ids, root, labels, crop

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image_id = self.ids[index]
        pixels = normalise(read_image(self.root.image(image_id)))
        place = crop_place(pixels.shape[1:], self.crop, None)
        return place.cut(pixels, fill=0), self.labels.many_hot(image_id)


class ScaledImages(Dataset):
    """An image at several scales: (ID, (H, W), [(round(H·s), round(W·s), 3) uint8 for each scale s])."""

    def __init__(self, ids: list[str], root: VOCRoot, scales: Sequence[float]) -> None:
        self.ids, self.root, self.scales = ids, root, scales

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[str, tuple[int, int], list[np.ndarray]]:
        image = read_image(self.root.image(self.ids[index]))
        size = image.shape[:2]
        return self.ids[index], size, [rescale(image, scaled_size(size, s), BICUBIC) for s in self.scales]


class BoundaryTraining(Dataset):
    """Augmented crops. The key is (epoch, index).

    Returns   image (3, crop, crop) float32; boundary label (⌈crop/4⌉, ⌈crop/4⌉) uint8; saliency (crop, crop) float32
              in [0, 1], all zero for BES, which reads none.
    """

    def __init__(
        self, ids: list[str], root: VOCRoot, label_dir: Path, *, crop: int, seed: int, uses_saliency: bool
    ) -> None:
        self.ids, self.root, self.label_dir = ids, root, label_dir
        self.crop, self.seed, self.uses_saliency = crop, seed, uses_saliency

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = sample_rng(self.seed, *sample)
        image, label, saliency = self._read(self.ids[sample[1]])
        size = scaled_size(image.shape[:2], rng.uniform(*RESCALE_RANGE))
        pixels = normalise(rescale(image, size, BICUBIC))
        label, saliency = rescale(label, size, NEAREST), rescale(saliency, size, NEAREST)
        saliency = saliency / (saliency.max() or 1)
        if rng.random() < 0.5:
            pixels, label, saliency = pixels[:, :, ::-1], label[:, ::-1], saliency[:, ::-1]
        place = crop_place(size, self.crop, rng)
        grid = stride4(self.crop)
        label = rescale(place.cut(label, fill=UNLABELLED), (grid, grid), NEAREST)
        return place.cut(pixels, fill=0), label, place.cut(saliency, fill=0)

    def _read(self, image_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image = read_image(self.root.image(image_id))
        path = self.label_dir / f"{image_id}.png"
        label = read_label_map(path)
        if label.shape != image.shape[:2]:
            raise InputError(f"{path}: the label is {label.shape}, its image {image.shape[:2]}")
        if not np.isin(label, [*BoundaryLabel]).all():
            raise InputError(f"{path}: holds values that are no boundary label; see --boundary_label_dir")
        if not self.uses_saliency:
            return image, label, np.zeros(label.shape, np.float32)
        return image, label, read_saliency(self.root.saliency(image_id), label.shape)[0]


class CropPlace(NamedTuple):
    """Which part of an image is copied (source) to which part of the square crop (target), and the crop's side."""

    source: tuple[slice, slice]
    target: tuple[slice, slice]
    side: int

    def cut(self, array: np.ndarray, *, fill: float) -> np.ndarray:
        """(…, H, W) → (…, side, side), `fill` where the image does not reach."""
        crop = np.full((*array.shape[:-2], self.side, self.side), fill, array.dtype)
        crop[(..., *self.target)] = array[(..., *self.source)]
        return crop


def crop_place(size: tuple[int, int], side: int, rng: np.random.Generator | None) -> CropPlace:
    """A random square of an image. Along an axis where the image is smaller, it lies at random within the square.

    size      (H, W) of the image
    side      of the square
    rng       None: the top-left corners coincide
    """
    source, target = [], []
    for length in size:
        room = abs(length - side)
        start = int(rng.integers(room + 1)) if rng is not None else 0
        common = min(length, side)
        source.append(slice(start, start + common) if length >= side else slice(0, common))
        target.append(slice(0, common) if length >= side else slice(start, start + common))
    return CropPlace((source[0], source[1]), (target[0], target[1]), side)
