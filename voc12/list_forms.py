"""Lists of images as other projects keep them, read as one column of IDs.

/JPEGImages/ID.jpg /SegmentationClassAug/ID.png    DeepLab, SEAM, PSA: of the first column, the file name
C:\\data\\JPEGImages\\ID.jpg, ID.jpg                  paths, of Windows too, and file names
ID  1, ID -1                                       VOC's devkit, ImageSets/Main/CLASS_train.txt: who shows a class
"""

import re
from pathlib import Path, PurePosixPath

from misc.errors import InputError

FIRST_COLUMN = re.compile(r"(.*?\.(?:jpe?g|png|bmp|tiff?|xml))(?:\s+\S.*)?", re.IGNORECASE)
# The devkit writes the sign two characters wide. `IMG 1` may as well be an ID with a blank: then some −1 has to tell.
SIGNED, OF_THE_DEVKIT = re.compile(r"(\S+)\s+(-1|0|1)"), re.compile(r"\S+( -1|  0|  1)")
LONGEST_ID = 240  # bytes; a file name may have 255, and endings such as _scores.npz are part of it


def ids_of(lines: list[str], path: str | Path) -> tuple[list[str], list[str]]:
    """The image IDs in the lines of a list, in order.

    path      of the list, for errors and remarks
    Returns   the IDs, one that is there twice twice, and remarks on how they were found, for the log
    Raises    InputError if a line has no ID, or two files would have the same
    """
    remarks = []
    chosen = _positive(lines)
    if chosen != lines:
        remarks.append(
            f"{path}: lines of VOC's devkit, such as {lines[0]!r}: {len(chosen)} images are taken, "
            f"{len(lines) - len(chosen)} with -1 are left out"
        )
    ids, shortened = [], []
    file_of: dict[str, str] = {}
    for line in chosen:
        match = FIRST_COLUMN.fullmatch(line)
        file = (match[1] if match else line).replace("\\", "/")
        name = file.rpartition("/")[2]
        image_id = PurePosixPath(name).stem if match else name
        _check(image_id, line, path)
        before = file_of.setdefault(image_id, file)
        if before != file:
            raise InputError(
                f"{path}: {before!r} and {file!r} would both be the image {image_id!r}: all images lie in one folder "
                "here, rename one of them"
            )
        if image_id != line:
            shortened.append((line, image_id))
        ids.append(image_id)
    if shortened:
        line, image_id = shortened[0]
        remarks.append(f"{path}: {len(shortened)} of {len(ids)} lines hold more than an ID: {image_id!r} of {line!r}")
    return ids, remarks


def _positive(lines: list[str]) -> list[str]:
    """What is in front of the sign of lines of VOC's devkit, those with -1 left out; other lines as they are."""
    signed = [SIGNED.fullmatch(line) for line in lines]
    pairs = [(match[1], match[2]) for match in signed if match]
    if len(pairs) < len(lines):
        return lines
    if not any(sign == "-1" for _, sign in pairs) and not all(map(OF_THE_DEVKIT.fullmatch, lines)):
        return lines
    return [image_id for image_id, sign in pairs if sign != "-1"]


def _check(image_id: str, line: str, path: str | Path) -> None:
    if "\0" in line or image_id in ("", ".", ".."):
        raise InputError(f"{path}: {line!r} is not an image ID (a file name without folder and ending)")
    if len(image_id.encode(errors="surrogatepass")) > LONGEST_ID:
        raise InputError(f"{path}: the ID {image_id[:40]}… is longer than {LONGEST_ID} bytes, too long for a file name")
