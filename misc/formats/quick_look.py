"""What is wrong with a file, as far as its first and last bytes tell: a quick look at many files before a run."""

from pathlib import Path

from PIL import Image

from misc.formats.score_file import scores_fault

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def image_fault(path: Path) -> str | None:
    """What is wrong with an image file, as far as a quick look tells.

    The header is read; the pixels are decoded only if the end-of-image mark is not where it should
    be, since decoding every image of a data set takes minutes.
    """
    ends = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
    try:
        with Image.open(path) as image:
            with open(path, "rb") as file:
                end = ends.get(file.read(2))
                file.seek(max(0, path.stat().st_size - 64))
                complete = end is not None and end in file.read()
            if not complete:
                image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error).removesuffix(f" {str(path)!r}")
    return None


def file_fault(path: Path) -> str | None:
    """What is wrong with a file that a step wrote, as far as a quick look tells."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - len(PNG_END)))
            end = file.read()
    except OSError as error:
        return str(error.strerror)
    if path.suffix in (".npy", ".npz"):
        return cam_fault(path) if path.suffix == ".npy" else scores_fault(path)
    return image_fault(path) if end == PNG_END else "cut short"


def cam_fault(path: Path) -> str | None:
    """What is wrong with a CAM file, as far as its first and last bytes tell."""
    try:
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                return "not a .npy file"
            file.seek(path.stat().st_size - 1)
            # a pickle ends with its stop mark
            return None if file.read() == b"." else "cut short, or an array instead of a dict"
    except OSError as error:
        return str(error.strerror)
