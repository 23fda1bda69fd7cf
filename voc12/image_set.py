"""Where a VOC-format data set keeps its files, and the lists of its images."""

import codecs
import logging
import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from misc.errors import InputError
from voc12.list_forms import ids_of

PROJECT = Path(__file__).resolve().parent.parent
# where an ID has several files, the first of these is read
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"),
    *(".tif", ".tiff", ".bmp", ".TIF", ".TIFF", ".BMP"),
)
SETTINGS = "set.yaml"  # the settings that voc12.convert writes into the root
NAMED = 5  # lists, in one message
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VOCRoot:
    """The paths below one VOC root; saliency maps and ground truth may lie elsewhere."""

    root: Path
    saliency_dir: Path | None = None  # None: Sal/ below the root
    truth_dir: Path | None = None  # None: SegmentationClass/

    def image(self, image_id: str) -> Path:
        """The image's file; where there is none, the name that VOC gives it."""
        stem = f"{self.root}/JPEGImages/{image_id}"  # as text: the first look asks ten times for each image
        endings = (ending for ending in IMAGE_ENDINGS if os.path.isfile(stem + ending))
        return Path(stem + next(endings, IMAGE_ENDINGS[0]))

    @property
    def saliency_folder(self) -> Path:
        return self.saliency_dir or self.root / "Sal"

    def saliency(self, image_id: str) -> Path:
        return self.saliency_folder / f"{image_id}.png"

    def truth(self, image_id: str) -> Path:
        return (self.truth_dir or self.root / "SegmentationClass") / f"{image_id}.png"

    def annotation(self, image_id: str) -> Path:
        """The annotation's file, its ending in capitals or not; where there is none, the name that VOC gives it."""
        plain, capital = (self.root / "Annotations" / f"{image_id}{ending}" for ending in (".xml", ".XML"))
        return capital if not os.path.isfile(plain) and os.path.isfile(capital) else plain

    def image_set(self, name: str) -> Path:
        """A list by its name in ImageSets/Segmentation, or by its path, which ends in .txt."""
        path = self.root / "ImageSets" / "Segmentation" / f"{name}.txt"
        return find(name) if Path(name).suffix.lower() == ".txt" and not path.is_file() else path


def nfc(name: str) -> str:
    """A name in the Unicode form NFC: two spellings of ü, one character or two, become equal."""
    return unicodedata.normalize("NFC", name)


def is_utf8(name: str) -> bool:
    """False for a name of half a character: a file name in another encoding, or a JSON's escape without the second."""
    return name.encode(errors="replace").decode() == name


def near_miss(path: Path) -> str:
    """What to do about an image that is missing: a file of a similar name is there, or settings with other lists; or an
    empty text."""
    if Path(path.stem).suffix in IMAGE_ENDINGS:
        return "what counts are IDs, that is file names without their ending"
    wanted = nfc(path.stem).casefold()
    for other in path.parent.glob("*"):
        if nfc(other.stem).casefold() == wanted:
            if other.is_symlink() and not other.exists():
                return f"{other.name!r} is a link to {os.readlink(other)}, which is gone"
            if other.suffix in IMAGE_ENDINGS:
                return f"{other.name!r} is there, spelt otherwise (capitals, or accents as characters of their own)"
            return f"{other.name!r} is there: convert it to JPEG or PNG"
    settings = path.parent.parent / SETTINGS
    return f"{settings} is there: say --config {settings}, if you have not" if settings.is_file() else ""


def other_truth(missing: Path) -> str:
    """Where a ground truth mask lies that is missing: in which folder beside its own, such as SegmentationClassAug."""
    beside = (folder / missing.name for folder in sorted(missing.parent.parent.glob("SegmentationClass*")))
    found = next((path for path in beside if path.is_file()), None)
    return f"{found} is there, so say --truth_dir {found.parent}; " if found else ""


def other_lists(missing: Path) -> str:
    """Which lists lie beside one that is missing."""
    names = sorted(path.stem for path in missing.parent.glob("*.txt"))
    return f"lists there are {', '.join(names[:NAMED])}: name one, or give a path; " if names else ""


def find(path: str | Path) -> Path:
    """`path` if it exists; else the same path below this project, which brings some lists along."""
    given = Path(path)
    return given if given.exists() or given.is_absolute() else PROJECT / given


def read_text(path: str | Path) -> str:
    """A text file in UTF-8, with or without byte order mark, or in UTF-16 with one, as PowerShell's `>` writes."""
    try:
        content = find(path).read_bytes()
        encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such list") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}): save it as UTF-8") from error


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file without surrounding blanks, empty ones left out."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_list(path: str | Path, *, notice: Callable[[str], None] = log.info) -> list[str]:
    """The image IDs of a list, one a line, in order, each once; other forms of a line: voc12/list_forms.py.

    notice    told of other forms and of duplicate IDs
    Raises    InputError if the list is missing or empty, or a line holds no ID.
    """
    found, remarks = ids_of(read_lines(path), path)
    ids = list(dict.fromkeys(found))
    if not ids:
        raise InputError(f"{path}: the list is empty")
    for remark in remarks:
        notice(remark)
    if len(ids) < len(found):
        notice(f"{path}: {len(found) - len(ids)} duplicate IDs, each used once")
    return ids


def merged(*lists: list[str]) -> list[str]:
    """All IDs of several lists in order, each once."""
    return list(dict.fromkeys(image_id for ids in lists for image_id in ids))
