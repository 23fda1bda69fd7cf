"""Masks of colours: which colour stands for which class, and the class numbers of such masks."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from misc.errors import InputError
from misc.formats.palette import voc_palette
from voc12.class_names import BACKGROUND, IGNORED
from voc12.image_set import nfc, read_lines

Colour = tuple[int, int, int]
VOID = 255
VOID_NAMES = {*IGNORED, "void", "ignore"}
# a name and three numbers in either order, parted by , ; : tab or blanks, the numbers all alike; CVAT adds parts and
# actions, each behind a colon
RGB = r"(?P<rgb>\d+\s*(?P<by>[,;:\t ])\s*\d+\s*(?P=by)\s*\d+)"
NAME_FIRST = re.compile(rf"(?P<name>.*?\S)\s*[,;:\t ]\s*{RGB}\s*(?::[^:]*:[^:]*)?")
NAME_LAST = re.compile(rf"{RGB}\s*[,;:\t ]\s*(?P<name>\S.*)")


class ColourTable(NamedTuple):
    """The classes, from 1, and what each colour means: 0 background, 255 void, or a class.

    where     the table is from, for messages
    """

    names: list[str]
    numbers: dict[Colour, int]
    where: str


def voc_colours(names: list[str]) -> ColourTable:
    """VOC's colours, and beside them grey n, n, n for the number n: masks of numbers saved as RGB."""
    palette = voc_palette()
    numbers = range(len(names) + 1)
    table = {(n, n, n): n for n in (*numbers, VOID)}
    # VOC's win: above 55 classes there is a grey among them
    table |= {(palette[3 * n], palette[3 * n + 1], palette[3 * n + 2]): n for n in (*numbers, VOID)}
    return ColourTable(names, table, "VOC's colours")


def read_colours(path: Path) -> ColourTable:
    """The table in a file: a name and its r, g, b a line, in either order, or CVAT's labelmap.txt.

    The classes count in the order of the lines, those apart that are called background (0) or void (255), wherever
    they stand. Black is background if no line says otherwise. A line that begins with # counts for nothing.

    Raises    InputError for a line that is none, a name or a colour that occurs twice, numbers above 255
    """
    names: list[str] = []
    numbers: dict[Colour, int] = {}
    for line in read_lines(path):
        if line.startswith("#") or (not numbers and not re.search(r"\d", line)):  # the second: a header
            continue
        matches = [match for form in (NAME_FIRST, NAME_LAST) if (match := form.fullmatch(line))]
        match = matches[0] if len(matches) == 1 else None  # two: `1 2 3 4 5 6` may be read either way
        rgb = [int(value) for value in re.findall(r"\d+", match["rgb"])] if match else []
        if match is None or max(rgb) > 255:
            raise InputError(f"{path}: {line!r} is no colour, expected a name and r, g, b from 0 to 255")
        name, colour = match["name"].strip(), (rgb[0], rgb[1], rgb[2])
        if colour in numbers:
            raise InputError(f"{path}: {name!r} has the colour {_text(colour)} of another line: give it its own")
        if name.casefold() in BACKGROUND | VOID_NAMES:
            numbers[colour] = 0 if name.casefold() in BACKGROUND else VOID
        else:
            names.append(name)
            numbers[colour] = len(names)
    if not names:
        raise InputError(f"{path}: names no class, expected a name and r, g, b a line")
    return ColourTable(names, {(0, 0, 0): 0} | numbers, str(path))


def reordered(table: ColourTable, names: list[str], where: str) -> ColourTable:
    """The table with its classes in the order of `names`, which a file `where` lists."""
    number = {nfc(name): n for n, name in enumerate(names, start=1)}
    unlisted = [name for name in table.names if nfc(name) not in number]
    if unlisted or len(names) != len(table.names):
        missing = unlisted or [name for name in names if nfc(name) not in map(nfc, table.names)]
        raise InputError(f"{where} and {table.where} must list the same classes, but {missing[0]!r} is only in one")
    new = {0: 0, VOID: VOID} | {old: number[nfc(name)] for old, name in enumerate(table.names, start=1)}
    return ColourTable(names, {colour: new[old] for colour, old in table.numbers.items()}, table.where)


def class_numbers(image: Image.Image, table: ColourTable, path: Path) -> np.ndarray:
    """(H, W) uint8, the number that the colour of each pixel means; transparency is ignored.

    path      the mask's, for messages
    Raises    InputError for a colour that the table lacks
    """
    rgb = np.asarray(image.convert("RGB")).astype(np.uint32)
    codes = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    by_code = sorted((r << 16 | g << 8 | b, number) for (r, g, b), number in table.numbers.items())
    known = np.array([code for code, _ in by_code], np.uint32)
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    unknown = known[place] != codes
    if unknown.any():
        row, column = (int(at[0]) for at in unknown.nonzero())
        red, green, blue = (int(value) for value in rgb[row, column])
        raise InputError(
            f"{path}: {np.count_nonzero(unknown)} of {unknown.size} pixels have colours that no class has, such as "
            f"{_text((red, green, blue))} at row {row}, column {column} (classes: {table.where}): {remedy(path)}"
        )
    return np.array([number for _, number in by_code], np.uint8)[place]


def remedy(path: Path) -> str:
    """What to do about a value that no class has."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return "JPEG changes values, so make PNGs of the masks where they were drawn"
    return "add the class it belongs to, or correct the mask"


def _text(colour: Colour) -> str:
    return ",".join(map(str, colour))
