"""The data sets that feed the networks: images prepared as docs/method.md says, sections 1, 2, 5 and 6."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from misc.errors import InputError
from misc.evaluation.confusion import VOID
from misc.formats.images import read_image, read_label_map, read_saliency, size_remark
from misc.method.boundary_labels import BoundaryLabel
from misc.pixels import Pixels, bilinear_part, rescale, scaled_size, stride4
from misc.train.loading import Sample, sample_rng
from misc.train.transfer import Crop
from voc12.image_labels import ImageLabels
from voc12.image_set import VOCRoot

BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
UNLABELLED = 255  # outside the image: not a BoundaryLabel, so no term of the loss counts it
RESCALE_RANGE = (0.5, 1.5)  # of the boundary network's training images


class ClassifierTraining(Dataset):
    """Augmented crops and their labels, (C,) float32. The key is (epoch, index)."""

    def __init__(
        self, ids: list[str], root: VOCRoot, labels: ImageLabels, *, crop: int, long_side: tuple[int, int], seed: int
    ) -> None:
        self.ids, self.root, self.labels = ids, root, labels
        self.crop, self.long_side, self.seed = crop, long_side, seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, sample: Sample) -> tuple[Crop, np.ndarray]:
        image_id = self.ids[sample[1]]
        rng = sample_rng(self.seed, *sample)
        image = read_image(self.root.image(image_id))
        long_side = rng.integers(self.long_side[0], self.long_side[1] + 1)
        scale = long_side / max(image.shape[:2])
        image = rescale(image, scaled_size(image.shape[:2], scale), BICUBIC)
        if rng.random() < 0.5:
            image = image[:, ::-1]
        return crop_place(image.shape[:2], self.crop, rng).crop(image), self.labels.many_hot(image_id)


class ClassifierValidation(Dataset):
    """Top-left crops and their labels, (C,) float32."""

    def __init__(self, ids: list[str], root: VOCRoot, labels: ImageLabels, *, crop: int) -> None:
        self.ids, self.root, self.labels, self.crop = ids, root, labels, crop

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Crop, np.ndarray]:
        image_id = self.ids[index]
        image = read_image(self.root.image(image_id))
        return crop_place(image.shape[:2], self.crop, None).crop(image), self.labels.many_hot(image_id)


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

    Returns   crop of the image; boundary label (⌈crop/4⌉, ⌈crop/4⌉) uint8; saliency (crop, crop) float32 in [0, 1],
              all zero for BES, which reads none.
    """

    def __init__(
        self, ids: list[str], root: VOCRoot, label_dir: Path, *, crop: int, seed: int, uses_saliency: bool
    ) -> None:
        self.ids, self.root, self.label_dir = ids, root, label_dir
        self.crop, self.seed, self.uses_saliency = crop, seed, uses_saliency

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, sample: Sample) -> tuple[Crop, np.ndarray, np.ndarray]:
        rng = sample_rng(self.seed, *sample)
        image, label, saliency = self._read(self.ids[sample[1]])
        size = scaled_size(image.shape[:2], rng.uniform(*RESCALE_RANGE))
        image = rescale(image, size, BICUBIC)
        label, saliency = rescale(label, size, NEAREST), rescale(saliency, size, NEAREST)
        saliency = saliency / (saliency.max() or 1)
        if rng.random() < 0.5:
            image, label, saliency = image[:, ::-1], label[:, ::-1], saliency[:, ::-1]
        place = crop_place(size, self.crop, rng)
        grid = stride4(self.crop)
        label = rescale(place.cut(label, fill=UNLABELLED), (grid, grid), NEAREST)
        return place.crop(image), label, place.cut(saliency, fill=0)

    def _read(self, image_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image = read_image(self.root.image(image_id))
        path = self.label_dir / f"{image_id}.png"
        label = read_label_map(path)
        if label.shape != image.shape[:2]:
            remark = size_remark(label.shape, image.shape[:2])
            raise InputError(f"{path}: the label is {label.shape}, its image {image.shape[:2]}{remark}")
        if not np.isin(label, [*BoundaryLabel]).all():
            raise InputError(f"{path}: holds values that are no boundary label; see --boundary_label_dir")
        if not self.uses_saliency:
            return image, label, np.zeros(label.shape, np.float32)
        return image, label, read_saliency(self.root.saliency(image_id), label.shape)[0]


class Draw(NamedTuple):
    """The random part of a segmentation sample: scale, corner of the crop in the padded image, mirrored or not."""

    scale: float
    top: int
    left: int
    flip: bool

    @classmethod
    def of(cls, size: tuple[int, int], scales: Sequence[float], crop: int, rng: np.random.Generator) -> "Draw":
        """In DeepLab's order, for an image of `size` (H, W)."""
        scale = scales[int(rng.integers(len(scales)))]
        top, left = (int(rng.integers(max(0, side - crop) + 1)) for side in truncated_size(size, scale))
        return cls(scale, top, left, rng.random() < 0.5)


class SegmentationTraining(Dataset):
    """Augmented crops and their labels: (3, crop, crop) float32, (crop, crop) uint8. Asked by (epoch, index).

    mask_of   ID → the file of its mask
    n_labels  C + 1; larger numbers, but for 255, are refused
    pixels    what the network wants to see; outside the image it sees 0, the mean colour
    """

    def __init__(
        self,
        ids: list[str],
        root: VOCRoot,
        mask_of: Callable[[str], Path],
        *,
        n_labels: int,
        scales: Sequence[float],
        crop: int,
        pixels: Pixels,
        seed: int,
    ) -> None:
        self.ids, self.root, self.mask_of, self.n_labels = ids, root, mask_of, n_labels
        self.scales, self.crop, self.pixels, self.seed = scales, crop, pixels, seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        image_id = self.ids[sample[1]]
        image = read_image(self.root.image(image_id))
        label = read_mask(self.mask_of(image_id), image.shape[:2], self.n_labels)
        draw = Draw.of(image.shape[:2], self.scales, self.crop, sample_rng(self.seed, *sample))
        return augmented(image, label, draw, crop=self.crop, pixels=self.pixels)


def augmented(
    image: np.ndarray, label: np.ndarray, draw: Draw, *, crop: int, pixels: Pixels
) -> tuple[np.ndarray, np.ndarray]:
    """Scaled, padded right and below, cropped and perhaps mirrored, as DeepLab-v2 sees its training images.

    image, label  (H, W, 3) uint8 RGB, (H, W) uint8
    Returns       (3, crop, crop) float32, (crop, crop) uint8, 255 outside the image
    """
    size = truncated_size(label.shape, draw.scale)
    rows, columns = (
        slice(start, min(start + crop, side)) for start, side in zip((draw.top, draw.left), size, strict=True)
    )
    inside = (slice(0, rows.stop - rows.start), slice(0, columns.stop - columns.start))
    seen = np.zeros((3, crop, crop), np.float32)
    seen[:, *inside] = pixels.prepare(bilinear_part(image, size, rows, columns))
    target = np.full((crop, crop), VOID, np.uint8)
    target[inside] = rescale(label, size, NEAREST)[rows, columns]
    return (seen[:, :, ::-1], target[:, ::-1]) if draw.flip else (seen, target)


def truncated_size(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """(H, W) times `scale`, rounded down as in DeepLab, at least 1."""
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def read_mask(path: Path, size: tuple[int, ...], n_labels: int) -> np.ndarray:
    """A mask to learn from, (H, W) uint8; InputError if it is not of its image's size, or holds no class number."""
    mask = read_label_map(path)
    if mask.shape != size:
        raise InputError(f"{path}: the mask is {mask.shape}, its image {tuple(size)}{size_remark(mask.shape, size)}")
    known = mask[mask != VOID]
    if known.size and known.max() >= n_labels:
        raise InputError(
            f"{path}: holds the number {known.max()}, expected 0 to {n_labels - 1} and {VOID} (see --class_names)"
        )
    return mask


class PreparedImages(Dataset):
    """An image at several scales: (ID, (H, W), [(3, h, w) float32 for each scale]), bilinear."""

    def __init__(self, ids: list[str], root: VOCRoot, scales: Sequence[float], pixels: Pixels) -> None:
        self.ids, self.root, self.scales, self.pixels = ids, root, scales, pixels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[str, tuple[int, int], list[np.ndarray]]:
        image = read_image(self.root.image(self.ids[index]))
        height, width = image.shape[:2]
        sizes = [truncated_size((height, width), scale) for scale in self.scales]
        scaled = [bilinear_part(image, size, slice(None), slice(None)) for size in sizes]
        return self.ids[index], (height, width), [self.pixels.prepare(part) for part in scaled]


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

    def crop(self, image: np.ndarray) -> Crop:
        """Of an image (H, W, 3) uint8."""
        crop = np.zeros((self.side, self.side, 3), np.uint8)
        crop[self.target] = image[self.source]
        rows, columns = self.target
        return Crop(crop, np.array([rows.start, rows.stop, columns.start, columns.stop], np.int32))


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
