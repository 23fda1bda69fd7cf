"""Arithmetic on pixels: normalising, resizing, the stride-4 grid."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet, RGB
STD = np.array([0.229, 0.224, 0.225], np.float32)


class Pixels(NamedTuple):
    """What a network wants to see: (value - mean) / deviation of values from 0 to 255.

    mean, deviation  of red, green and blue
    bgr              whether the channels come as blue, green, red
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    bgr: bool

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) RGB, 0 to 255, of any type → (3, H, W) float32; the mean colour becomes 0."""
        mean, deviation = np.array(self.mean, np.float32), np.array(self.deviation, np.float32)
        pixels = (image.astype(np.float32) - mean) / deviation
        return np.ascontiguousarray((pixels[:, :, ::-1] if self.bgr else pixels).transpose(2, 0, 1))


IMAGENET_PIXELS = Pixels((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255), bgr=False)
CAFFE_PIXELS = Pixels((122.675, 116.669, 104.008), (1, 1, 1), bgr=True)


def normalise(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB → (3, H, W) float32, ImageNet mean 0 and deviation 1."""
    return ((image.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def normalised_pair(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(H, W, 3) uint8 RGB → (2, 3, H, W) float32 on `device`, channels last: the image, its mirror image.

    The uint8 image is copied to the device and becomes float32 there: an eighth of the bytes of the pair is copied.
    """
    pixels = normalised(image.to(device, non_blocking=True))
    return torch.stack([pixels, pixels.flip(1)]).permute(0, 3, 1, 2)


def normalised(image: torch.Tensor) -> torch.Tensor:
    """(…, 3) uint8 RGB → (…, 3) float32 on its device: to the last bit what `normalise` gives."""
    largest, mean, std = _constants(image.device)
    return (image.float() / largest - mean) / std


@lru_cache
def _constants(device: torch.device) -> tuple[torch.Tensor, ...]:
    """255, MEAN and STD on a device, kept: a card would be waited for while they are copied.

    255 is a tensor too, since CUDA multiplies by the inverse of a Python number, which rounds differently.
    """
    return tuple(torch.from_numpy(values).to(device) for values in (np.full(3, 255, np.float32), MEAN, STD))


def rescale(array: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 or a map (H, W) uint8 or float32 to `size` (height, width) by Pillow."""
    if array.shape[:2] == size:
        return array
    return np.array(Image.fromarray(array).resize(size[::-1], method))


def bilinear_part(image: np.ndarray, size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    """A part of an image that was resized to `size`: bilinear on pixel centres, without antialiasing.

    OpenCV's rule, which Pillow does not have: when reducing, Pillow averages all pixels that become one.

    image     (H, W, 3), any type
    rows, columns  of the resized image, within `size`
    Returns   (rows, columns, 3) float32
    """
    top, bottom, down = neighbours(image.shape[0], size[0], rows)
    left, right, across = neighbours(image.shape[1], size[1], columns)
    upper, lower = image[top].astype(np.float32), image[bottom].astype(np.float32)
    lines = upper + (lower - upper) * down[:, None, None]
    return lines[:, left] + (lines[:, right] - lines[:, left]) * across[:, None]


def neighbours(source: int, target: int, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where bilinear resizing from `source` to `target` pixels on a line takes the values of a part of them from.

    Returns   for each place the two source pixels it lies between, int64, and its distance from the first in [0, 1),
              float32.
    """
    place = ((np.arange(target)[part] + 0.5) * source / target - 0.5).clip(0, source - 1)
    first = place.astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (place - first).astype(np.float32)


def stretched(values: np.ndarray) -> np.ndarray:
    """`values` shifted and scaled to [0, 1]; all 0 if they do not differ."""
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) times `scale`, rounded half to even as published, at least 1."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def stride4(side: int) -> int:
    """Side of the stride-4 grid over `side` pixels."""
    return (side - 1) // 4 + 1
