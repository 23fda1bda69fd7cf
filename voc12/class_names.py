"""What is no list of class names: labels of the background, tables, label maps of annotation tools."""

import re
from pathlib import Path

from misc.errors import InputError
from voc12.image_set import is_utf8, nfc

MAX_CLASSES = 254  # class numbers 1..254 in 8-bit masks, beside 0 background and 255 void
BACKGROUND = {"background", "_background_", "__background__"}  # as published lists, labelme and torchvision spell it
IGNORED = {"__ignore__", "_ignore_"}  # what labelme's labels.txt calls its number -1
OTHER_ENDINGS = (".csv", ".json", ".yaml", ".yml", ".xml", ".pbtxt")
CVAT = re.compile(r"[^:]+:\s*\d+,\s*\d+,\s*\d+\s*:.*")  # label:r,g,b:parts:actions
COLOURS = re.compile(r".*?[,;\t ]\s*\d+\s*[,;\t ]\s*\d+\s*[,;\t ]\s*\d+\s*")  # a name and three numbers
NUMBERED = re.compile(r"(\d+)\s*[:=.,;)\t ]\s*(\S.*)")
ALONE = "# class names alone, one a line"  # the first line of a file whose names look like another kind of file
EXPECTED = "expected class names alone, one a line, without background"


def names_of(path: str | Path, lines: list[str]) -> list[str]:
    """The class names in the lines of a file. Where ALONE stands first, they may look like another kind of file.

    Raises    InputError if it is another kind of file, or the names will not do: `check_names`
    """
    if lines[:1] == [ALONE]:
        lines = lines[1:]
    elif other := other_kind(path, lines):
        raise InputError(f"{path}: {other}, {EXPECTED}")
    check_names(path, lines)
    return lines


def check_names(path: str | Path, names: list[str]) -> None:
    """Raises InputError for too few or too many class names, one of them twice (in whatever Unicode form), the
    background, which has the number 0 already, and what cannot be written as UTF-8.
    """
    if not 1 <= len(names) <= MAX_CLASSES:
        raise InputError(f"{path}: {len(names)} class names, expected 1 to {MAX_CLASSES}")
    before: set[str] = set()
    for name in names:
        if not is_utf8(name):
            raise InputError(f"{path}: the class {name!r} has half a character, which no text holds: rename it")
        if name.casefold() in BACKGROUND:
            raise InputError(f"{path}: {name!r} is no class name, 0 is background already: leave it out")
        if name.casefold() in IGNORED:
            raise InputError(f"{path}: {name!r} is no class name, what is ignored is 255 in a mask: leave it out")
        if nfc(name) in before:
            raise InputError(f"{path}: the class {name!r} occurs twice")
        before.add(nfc(name))


def other_kind(path: str | Path, lines: list[str]) -> str:
    """What a file is instead of a list of names; empty if it may be one."""
    if not lines:
        return ""
    rows = [line for line in lines if not line.startswith("#")]
    if "label:color_rgb" in lines[0] or (rows and all(CVAT.fullmatch(row) for row in rows)):
        return "this is a label map of CVAT (python -m voc12.convert cvat reads it)"
    if Path(path).suffix.lower() in OTHER_ENDINGS or lines[0].startswith(
        ("{", "[", "<?xml", "<annotation", "item {", "image_id,")
    ):
        return "this is a table or another structured file"
    if all(COLOURS.fullmatch(line) for line in lines):
        return "this is a table of names and colours"
    if len(lines) > 1 and _count_up(lines):
        return "the names are numbered"
    if len(lines) == 1 and re.search(r"[,;]", lines[0]):
        return "all names are in one line"
    return ""


def _count_up(lines: list[str]) -> bool:
    """Whether each line is a number, each one more than the last, and a name of its own: `0: background`, `1: cat`.
    `1 euro`, `2 euro` are names.
    """
    found = [NUMBERED.fullmatch(line) for line in lines]
    numbers, names = [int(match[1]) for match in found if match], {match[2] for match in found if match}
    return len(names) == len(lines) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
