"""What is wrong with a file, as far as a quick look tells: before a run there are many, and reading them takes minutes.

Each function returns what is wrong, or None. It finds what is missing, cut short or of another kind, not damage within.
"""

import os
import zipfile
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.TiffImagePlugin import TiffImageFile

from misc.errors import reason
from misc.formats import score_file
from misc.formats.images import OF_NO_RANGE

END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
STRIPS, TILES = (273, 279), (324, 325)  # entries of a TIFF: where its pixels lie, and how many bytes they take
COMPRESSION, USUAL = (
    259,
    (1, 5, 8, 32773, 32946),
)  # none, LZW, deflate, PackBits, deflate as it was: always decoded here
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def file_fault(path: Path) -> str | None:
    """Look at a file that a step wrote: a CAM (.npy), scores (.npz), else a PNG."""
    if path.suffix == ".npy":
        return cam_fault(path)
    if path.suffix == ".npz":
        return scores_fault(path)
    return image_fault(path, last=PNG_END)


def photograph_fault(path: Path) -> str | None:
    """Look at an image that is to be read as RGB."""
    return image_fault(path, as_rgb=True)


def image_fault(path: Path, *, last: bytes = b"", as_rgb: bool = False) -> str | None:
    """Look at an image: its header and the mark at its end, or whether a TIFF or BMP holds its last pixels. They are
    decoded only if that does not tell.

    last      what its bytes have to end in
    as_rgb    it is to be read as RGB, so that the range of its numbers matters
    """
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            end = _last_bytes(file, 64)  # some writers put a few bytes behind the mark
            mark = END_MARKS.get(image.format or "")
            if not (_holds_pixels(image, os.fstat(file.fileno()).st_size) if mark is None else mark in end):
                image.load()
            if as_rgb and image.mode in ("I", "F"):
                return OF_NO_RANGE.format(image.mode)
            return None if end.endswith(last) else "cut short"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error).partition(" <_io.")[0].removesuffix(f" {str(path)!r}")


def cam_fault(path: Path) -> str | None:
    """Look at a CAM file: its first bytes, and the stop mark that ends a pickle."""
    try:
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                return "not a .npy file"
            return None if _last_bytes(file, 1) == b"." else "cut short, or an array instead of a dict"
    except OSError as error:
        return str(error.strerror)


def scores_fault(path: Path) -> str | None:
    """Look at a file of scores: its table of contents, which ends it."""
    try:
        with zipfile.ZipFile(path) as archive:
            lacking = {f"{name}.npy" for name in score_file.ENTRIES} - set(archive.namelist())
    except Exception as error:  # a damaged file can raise anything
        return reason(error)
    return f"it has no {min(lacking)}" if lacking else None


def _holds_pixels(image: Image.Image, size: int) -> bool:
    """Whether a TIFF or BMP of so many bytes reaches to the end of its pixels; False too where that is not known."""
    if isinstance(image, TiffImageFile) and image.tag_v2.get(COMPRESSION, 1) in USUAL:
        for offsets, counts in (STRIPS, TILES):
            places, lengths = image.tag_v2.get(offsets, ()), image.tag_v2.get(counts, ())
            if places and len(places) == len(lengths):
                return bool(max(map(sum, zip(places, lengths, strict=True))) <= size)
    if isinstance(image, BmpImageFile) and len(image.tile) == 1:
        codec, _, offset, form = image.tile[0]
        if codec == "raw" and isinstance(form, tuple):
            return bool(offset + form[1] * image.height <= size)  # bytes a row
    return False


def _last_bytes(file: BinaryIO, count: int) -> bytes:
    """The end of a file, which stays where it is."""
    place = file.tell()
    file.seek(max(0, file.seek(0, os.SEEK_END) - count))
    end = file.read()
    file.seek(place)
    return end
