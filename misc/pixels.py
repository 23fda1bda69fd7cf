"""Arithmetic on pixels: normalising, resizing, the stride-4 grid."""

import numpy as np
import torch
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet, RGB
STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalise(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB → (3, H, W) float32, ImageNet mean 0 and deviation 1."""
    return ((image.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def normalised_pair(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(H, W, 3) uint8 RGB → (2, 3, H, W) float32 on `device`, channels last: the image, its mirror image.

    The uint8 image is copied to the device and becomes float32 there: an eighth of the bytes of the pair is copied.
    """
    mean, std = (torch.from_numpy(values).to(device) for values in (MEAN, STD))
    pixels = (image.to(device).float() / 255 - mean) / std
    return torch.stack([pixels, pixels.flip(1)]).permute(0, 3, 1, 2)


def rescale(array: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 or a map (H, W) uint8 or float32 to `size` (height, width) by Pillow."""
    if array.shape[:2] == size:
        return array
    return np.array(Image.fromarray(array).resize(size[::-1], method))


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
