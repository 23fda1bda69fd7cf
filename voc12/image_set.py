"""Where a VOC-format data set keeps its files, and the lists of its images."""

import logging
import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from misc.errors import InputError

PROJECT = Path(__file__).resolve().parent.parent
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")  # where an ID has several, the first is read
LONGEST_ID = 240  # bytes; a file name may have 255, and endings such as _scores.npz are part of it
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VOCRoot:
    """The paths below one VOC root; saliency maps may lie elsewhere."""

    root: Path
    saliency_dir: Path | None = None  # None: Sal/ below the root

    def image(self, image_id: str) -> Path:
        """The image's file; where there is none, the name that VOC gives it."""
        folder = self.root / "JPEGImages"
        candidates = (folder / f"{image_id}{ending}" for ending in IMAGE_ENDINGS)
        return next((path for path in candidates if os.path.isfile(path)), folder / f"{image_id}{IMAGE_ENDINGS[0]}")

    @property
    def saliency_folder(self) -> Path:
        return self.saliency_dir or self.root / "Sal"

    def saliency(self, image_id: str) -> Path:
        return self.saliency_folder / f"{image_id}.png"

    def truth(self, image_id: str) -> Path:
        return self.root / "SegmentationClass" / f"{image_id}.png"

    def annotation(self, image_id: str) -> Path:
        return self.root / "Annotations" / f"{image_id}.xml"

    def image_set(self, name: str) -> Path:
        return self.root / "ImageSets" / "Segmentation" / f"{name}.txt"


def nfc(name: str) -> str:
    """A name in the Unicode form NFC: two spellings of ü, one character or two, become equal."""
    return unicodedata.normalize("NFC", name)


def near_miss(path: Path) -> str:
    """What to do about an image that is missing, if a file of a similar name is there; else an empty text."""
    if Path(path.stem).suffix in IMAGE_ENDINGS:
        return "a list holds IDs, that is file names without their ending"
    wanted = nfc(path.stem).casefold()
    for other in path.parent.glob("*"):
        if nfc(other.stem).casefold() == wanted:
            if other.suffix in IMAGE_ENDINGS:
                return f"{other.name!r} is there, spelt otherwise (capitals, or accents as characters of their own)"
            return f"{other.name!r} is there: convert it to JPEG or PNG"
    return ""


def find(path: str | Path) -> Path:
    """`path` if it exists; else the same path below this project, which brings some lists along."""
    given = Path(path)
    return given if given.exists() or given.is_absolute() else PROJECT / given


def read_text(path: str | Path) -> str:
    """A UTF-8 text file, with or without byte order mark."""
    try:
        return find(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such list") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file without surrounding blanks, empty ones left out."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_list(path: str | Path, *, notice: Callable[[str], None] = log.info) -> list[str]:
    """The image IDs of a list, one a line, in order, each once.

    notice    told of duplicate IDs
    Raises    InputError if the list is missing or empty, or an ID is no plain file name.
    """
    lines = read_lines(path)
    for image_id in lines:
        if any(part in image_id for part in ("/", "\\", "\0")) or image_id in (".", ".."):
            raise InputError(f"{path}: {image_id!r} is not an image ID (a file name without folder and ending)")
        if len(image_id.encode()) > LONGEST_ID:
            raise InputError(
                f"{path}: the ID {image_id[:40]}… is longer than {LONGEST_ID} bytes, too long for a file name"
            )
    ids = list(dict.fromkeys(lines))
    if not ids:
        raise InputError(f"{path}: the list is empty")
    if len(ids) < len(lines):
        notice(f"{path}: {len(lines) - len(ids)} duplicate IDs, each used once")
    return ids


def merged(*lists: list[str]) -> list[str]:
    """All IDs of several lists in order, each once."""
    return list(dict.fromkeys(image_id for ids in lists for image_id in ids))
