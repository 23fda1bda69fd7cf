"""Reading and writing images; whatever is unreadable is an InputError that names the file.

Arrays go through imageio; Pillow is asked where the mode, the palette, the header or the size matters.
"""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from misc.errors import InputError
from misc.files import replacing
from misc.formats.palette import voc_palette


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
    """(H, W, 3) uint8 RGB; grey, CMYK and palette images are converted. Of an animation the first picture counts.

    The pixels are as stored: a rotation noted in EXIF is not applied.
    """
    try:
        with open(path, "rb") as file:  # imageio would look into a path for addresses and .zip archives
            return iio.imread(file, plugin="pillow", mode="RGB", index=0)
    except Exception:  # imageio reads EXIF too and fails if that is damaged; Pillow needs the pixels only
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
    with replacing(path) as temporary, open(temporary, "wb") as file:
        iio.imwrite(file, values, plugin="pillow", extension=".png", pnginfo=notes)


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
