"""Reading and writing images; whatever is unreadable is an InputError that names the file."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from misc.errors import InputError
from misc.files import replacing
from misc.formats.palette import voc_palette

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet, RGB
STD = np.array([0.229, 0.224, 0.225], np.float32)


def open_image(path: str | Path) -> Image.Image:
    """A decoded Pillow image, in whatever mode the file has."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error


def read_image(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB; grey, CMYK and palette images are converted."""
    return np.array(open_image(path).convert("RGB"))


def read_saliency(path: str | Path, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """A saliency map as one grey channel of the size of its image.

    size      (H, W) of the image
    Returns   (H, W) float32 in the file's own range, and whether it had to be converted: a colour
              or palette map is turned grey, one of another size resized (bilinear). Alpha is ignored.
    """
    image = open_image(path)
    converted = False
    if image.mode not in ("L", "1", "F") and not image.mode.startswith("I"):
        image, converted = image.convert("RGB").convert("L"), True
    grey = Image.fromarray(np.asarray(image).astype(np.float32))
    if grey.size != size[::-1]:
        grey, converted = grey.resize(size[::-1], Image.Resampling.BILINEAR), True
    saliency = np.array(grey)
    if not np.isfinite(saliency).all() or saliency.min() < 0:
        raise InputError(f"{path}: a saliency map holds numbers ≥ 0 only")
    return saliency, converted


def read_label_map(path: str | Path) -> np.ndarray:
    """(H, W) uint8 label map: the indices of a palette image or the values of a grey one."""
    image = open_image(path)
    if image.mode not in ("P", "L", "1"):
        raise InputError(f"{path}: a label map is a palette or 8-bit grey PNG, this one is {image.mode}")
    return np.array(image, np.uint8)


def write_grey(path: str | Path, values: np.ndarray, *, software: str | None = None) -> None:
    """Save (H, W) uint8 as a grey PNG; `software` is noted in it as PNG provides, see `software_of`."""
    notes = PngInfo()
    if software:
        notes.add_text("Software", software)
    with replacing(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG", pnginfo=notes)


def software_of(path: str | Path) -> str | None:
    """The software that an image's header names; None if it names none or cannot be read."""
    try:
        with Image.open(path) as image:
            return image.info.get("Software")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def write_mask(path: str | Path, labels: np.ndarray) -> None:
    """Save (H, W) uint8 class numbers as a palette PNG in VOC's colours."""
    image = Image.fromarray(labels).convert("P")
    image.putpalette(voc_palette())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def normalise(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB → (3, H, W) float32, ImageNet mean 0 and deviation 1."""
    return ((image.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def normalised_pair(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(H, W, 3) uint8 RGB → (2, 3, H, W) float32 on `device`, channels last: the image, its mirror image.

    The bytes travel to the device, a quarter (an eighth, for two images) of what they become there.
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
    """Shifted and scaled to [0, 1]; all 0 if the values do not differ."""
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) times `scale`, rounded half to even as published, at least 1."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
