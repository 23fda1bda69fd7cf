"""VOC's XML annotations, as labelImg and others write them: the names of the objects in an image."""

import codecs
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from misc.errors import InputError
from voc12.image_set import nfc
from voc12.label_file import did_you_mean

DECLARED = re.compile(rb"<\?xml[^>]*?\bencoding\s*=\s*[\"']([\w.:-]+)[\"']")
# Windows writes more characters than these encodings have, and declares them all the same.
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}


class Shown(NamedTuple):
    """What the objects of an annotation are.

    classes   from 0, sorted, each once
    unknown   the names that are no class, one an object
    """

    classes: list[int]
    unknown: list[str]


def annotated_classes(path: Path, class_names: list[str]) -> list[int]:
    """The classes of all objects in a VOC annotation, from 0, sorted, each once.

    Every object counts, also those marked difficult or truncated, as in the published labels.
    Raises    InputError if it cannot be read, or an object has no name or one that is no class
    """
    classes, unknown = shown_in(path, class_names)
    if unknown:
        raise InputError(
            f"{path}: {unknown[0]!r} is not among the class names {did_you_mean(unknown[0], class_names)}; "
            "python -m voc12.make_cls_labels --drop_unknown_classes leaves such objects out"
        )
    return classes


def shown_in(path: Path, class_names: list[str]) -> Shown:
    """Known and unknown objects of a VOC annotation; InputError if it cannot be read, or an object has no name."""
    number = {nfc(name): number for number, name in enumerate(class_names)}
    names = object_names(path)
    classes = {number[nfc(name)] for name in names if nfc(name) in number}
    return Shown(sorted(classes), [name for name in names if nfc(name) not in number])


def object_names(path: Path) -> list[str]:
    """The names of all objects; InputError if the file cannot be read, or an object has no name."""
    try:
        objects = _root(path.read_bytes()).findall("object")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such annotation") from error
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an encoding
        raise InputError(f"{path}: cannot be read as an annotation ({error})") from error
    names = []
    for place, item in enumerate(objects, start=1):
        found = [(name.text or "").strip() for name in item.findall("name")]
        if not found or not all(found):
            raise InputError(f"{path}: object {place} of {len(objects)} has no name: write its <name>, or remove it")
        names += found
    return names


def _root(content: bytes) -> ElementTree.Element:
    declared = DECLARED.match(content.removeprefix(codecs.BOM_UTF8))
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        if declared is None and not _is_utf8(content):
            raise ValueError(
                'its bytes are not UTF-8, and its first line declares no other encoding: <?xml version="1.0" '
                'encoding="gb2312"?> is one of Chinese Windows'
            ) from error
        raise
    except ValueError:  # an encoding of several bytes a character, which expat does not know
        if declared is None:
            raise
        name = codecs.lookup(declared[1].decode("ascii")).name
        return ElementTree.fromstring(content.decode(WIDER.get(name, name)))


def _is_utf8(content: bytes) -> bool:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True  # of the encodings that a byte order mark tells
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
