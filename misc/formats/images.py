"""Reading and writing images; whatever is unreadable is an InputError that names the file.

Arrays go through imageio; Pillow is asked where the mode, the palette, the header or the size matters.
An image is as it is shown: turned or mirrored as its EXIF orientation says, and its size is that of what is shown.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from misc.errors import InputError
from misc.files import replacing
from misc.formats.palette import voc_palette

OF_NO_RANGE = "its numbers have 32 bits ({}), of which nothing tells the range: save it with 8 or 16 bits a channel"


ORIENTATION = 0x0112  # the EXIF entry
# what to do with the pixels as they are stored, by the orientation; 1 is nothing (EXIF 2.3, section 4.6.4)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_THE_SIDE = (5, 6, 7, 8)  # height and width change places
ON_ITS_SIDE = (
    ": its two sides are swapped, as where one program turns a photograph as its EXIF orientation says and another "
    "does not; here images are turned (docs/data.md)"
)
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def open_image(path: str | Path) -> Image.Image:
    """A decoded Pillow image, in whatever mode the file has."""
    try:
        # a path to a TIFF without compression, Pillow maps into memory with the sides of the turned image
        with open(path, "rb") as file, Image.open(file) as image:
            turn = TURNS.get(exif_orientation(image))
            image.load()
            return image if turn is None else image.transpose(turn)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UNREADABLE as error:
        said = str(error).partition(" <_io.")[0]  # the path is told already
        raise InputError(f"{path}: cannot be read as an image ({said})") from error


@contextmanager
def _header(path: str | Path) -> Iterator[Image.Image]:
    """An image of which no pixel is read."""
    try:
        with Image.open(path) as image:
            yield image
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image, from its header."""
    with _header(path) as image:
        on_the_side = exif_orientation(image) in ON_THE_SIDE
        return (image.width, image.height) if on_the_side else (image.height, image.width)


def exif_orientation(image: Image.Image) -> int:
    """1 to 8, of an image that was opened and not yet loaded; 1, as stored, where EXIF says nothing or is damaged.

    Of a PNG, EXIF in front of the pixels counts. Pillow itself turns a TIFF.
    """
    exif = Image.Exif()
    try:  # not image.getexif(): that reads XMP too, and all of a PNG
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ORIENTATION)
        return orientation if orientation in TURNS else 1
    except Exception:  # damaged EXIF can raise anything
        return 1


def is_turned_unseen(path: str | Path) -> bool:
    """Whether EXIF turns or mirrors an image so that its size does not tell."""
    with _header(path) as image:
        orientation = getattr(image, "tag_v2", {}).get(ORIENTATION) or exif_orientation(image)
        return orientation in TURNS and (orientation not in ON_THE_SIDE or image.width == image.height)


def highest_of_16_bits(path: str | Path) -> int | None:
    """The highest value of a grey image of 16 bits; None of other images."""
    with _header(path) as image:
        deep = image.mode.startswith("I;16")
    return int(np.asarray(open_image(path)).max()) if deep else None


def on_its_side(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a size (H, W) is the expected one with height and width swapped."""
    return tuple(found) != tuple(expected) == tuple(found)[::-1]


def size_remark(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """What an error about a size (H, W) goes on with: the likely cause, where height and width are swapped."""
    return ON_ITS_SIDE if on_its_side(found, expected) else ""


def read_image(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB; grey, CMYK and palette images are converted, 16 bits scaled to 8. Of an animation the first
    picture counts.

    Raises    InputError if it cannot be read, or holds numbers whose range nothing tells
    """
    try:
        with open(path, "rb") as file:  # imageio would look into a path for addresses and .zip archives
            header = Image.open(file)
            if exif_orientation(header) == 1 and header.mode[0] not in "IF":
                file.seek(0)
                return iio.imread(file, plugin="pillow", mode="RGB", index=0)
    except Exception:  # imageio reads EXIF too and fails if that is damaged; Pillow needs the pixels only
        pass
    image = open_image(path)
    if image.mode in ("I", "F"):
        raise InputError(f"{path}: {OF_NO_RANGE.format(image.mode)}")
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)  # 65535 becomes 255
    return np.array(image.convert("RGB"))


def read_saliency(path: str | Path, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """A saliency map as one grey channel of the size of its image.

    size      (H, W) of the image
    Returns   (H, W) float32 in the file's own range, and whether it had to be converted: a colour
              or palette map is turned grey, one of another size resized (bilinear). Alpha is ignored.
    Raises    InputError if it cannot be read, holds other numbers, or lies on its side
    """
    image = open_image(path)
    converted = False
    if image.mode not in ("L", "1", "F") and not image.mode.startswith("I"):
        image, converted = image.convert("RGB").convert("L"), True
    grey = Image.fromarray(np.asarray(image).astype(np.float32))
    if on_its_side(grey.size[::-1], size):
        raise InputError(f"{path}: the saliency map is {grey.size[::-1]}, its image {tuple(size)}{ON_ITS_SIDE}")
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
    except UNREADABLE:
        return None


def write_mask(path: str | Path, labels: np.ndarray) -> None:
    """Save (H, W) uint8 class numbers as a palette PNG in VOC's colours."""
    image = Image.fromarray(labels).convert("P")
    image.putpalette(voc_palette())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
