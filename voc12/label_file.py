"""Files of image-level labels: text of class numbers, as published, or CSV of class names.

Text, an image a line: `ID c c …`, classes from 0; an ID alone shows no class. The ID ends where all that
follows are class numbers, or at a tab: an ID with blanks in it is best followed by one. A line that could
belong to two images is refused when either of them is asked for.

CSV (the file's ending says so): the header `image_id,classes`, then an image a line; names are separated by `;`.
"""

import csv
import io
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from misc.errors import InputError
from misc.files import replacing
from voc12.image_set import IMAGE_ENDINGS, composed, read_text

CSV_HEADER = ["image_id", "classes"]


class Row(NamedTuple):
    """One line of a label file."""

    line: int
    text: str
    image_id: str
    classes: list[str]  # numbers or names, as written

    @property
    def may_be_longer(self) -> bool:
        """Whether what a line of text has for classes may belong to its ID."""
        return bool(self.classes) and "\t" not in self.text


class LabelFile:
    """The classes of each image that a label file lists.

    Raises    InputError if the file cannot be read or lists an image twice with different classes.
    """

    def __init__(self, path: str | Path, class_names: list[str]) -> None:
        self.path, self.class_names = path, class_names
        self._in_names = is_csv(path)
        self._number = {composed(name): number for number, name in enumerate(class_names)}
        self._rows: dict[str, Row] = {}
        for row in _csv_rows(path) if self._in_names else _text_rows(path):
            before = self._rows.setdefault(composed(row.image_id), row)
            if before is not row and set(before.classes) != set(row.classes):
                may_be_longer = not self._in_names and any(each.may_be_longer for each in (before, row))
                raise InputError(
                    f"{path}, line {row.line}: {row.image_id!r} shows {_listing(row)} here, "
                    f"but {_listing(before)} in line {before.line}: keep one of them"
                    + (", or, if the ID has blanks, put a tab behind it" if may_be_longer else "")
                )

    def get(self, image_id: str) -> list[int] | None:
        """The class numbers of an image, from 0, as listed; None if the file has no line for it."""
        row = self._rows.get(composed(image_id))
        if row is not None:
            return [self._class(text, row) for text in row.classes]
        row = self._other_readings.get(composed(image_id))
        if row is not None:
            raise InputError(
                f"{self.path}, line {row.line}: {row.text!r} is read as image {row.image_id!r}, "
                f"but may be meant for {image_id!r}: put a tab behind the ID"
            )
        return None

    def with_ending(self, image_id: str) -> str | None:
        """The ID followed by the ending of an image, if the file lists that."""
        names = (composed(f"{image_id}{ending}") for ending in IMAGE_ENDINGS)
        return next((self._rows[name].image_id for name in names if name in self._rows), None)

    @cached_property
    def _other_readings(self) -> dict[str, Row]:
        """The lines without a tab by what else their ID could be: any words they begin with."""
        readings: dict[str, Row] = {}
        for row in self._rows.values():
            if not self._in_names and "\t" not in row.text:
                ends = [at for at, letter in enumerate(row.text) if letter == " "]
                for end in [*ends, len(row.text)]:
                    readings.setdefault(composed(row.text[:end]), row)
        return readings

    def _class(self, text: str, row: Row) -> int:
        if self._in_names and composed(text) in self._number:
            return self._number[composed(text)]
        if not self._in_names and _is_number(text) and int(text) < len(self.class_names):
            return int(text)
        if not self._in_names:
            expected = f"(0 to {len(self.class_names) - 1})"
        elif _is_number(text):
            expected = "(names are expected in .csv, not numbers: see --class_names)"
        else:
            expected = closest(text, self.class_names)
        raise InputError(f"{self.path}, line {row.line}: {text!r} of {row.image_id} is no class {expected}")


def is_csv(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".csv"


def closest(name: str, class_names: list[str]) -> str:
    """What to say behind a class name that does not exist."""
    folded = {known.casefold(): known for known in class_names}
    match = get_close_matches(name.casefold(), folded, n=1)
    return f"(did you mean {folded[match[0]]!r}?)" if match else "(see --class_names)"


def write_label_file(path: str | Path, labels: dict[str, list[int]], class_names: list[str]) -> None:
    """Write the class numbers of each image, as text or, if the ending is .csv, as names."""
    content = io.StringIO()
    if is_csv(path):
        unfit = [name for name in class_names if ";" in name]
        if unfit:
            raise InputError(f"{path}: {unfit[0]!r} cannot be listed, ';' separates names: write text, not .csv")
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        writer.writerows((i, ";".join(class_names[c] for c in classes)) for i, classes in labels.items())
    else:
        for image_id, classes in labels.items():
            separator = "\t" if " " in image_id else " "
            content.write(separator.join([image_id, " ".join(map(str, classes))]).rstrip(" ") + "\n")
    with replacing(path) as temporary:
        temporary.write_text(content.getvalue(), encoding="utf-8", newline="")


def _text_rows(path: str | Path) -> Iterator[Row]:
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        text = text.lstrip(" \t").rstrip(" ")  # a tab at the end says: no class
        if text:
            yield Row(line, text, *_id_and_classes(text))


def _id_and_classes(text: str) -> tuple[str, list[str]]:
    image_id, tab, rest = text.partition("\t")
    if tab:
        return image_id.rstrip(" "), rest.split()
    words = [word for word in text.split(" ") if word]  # other blanks, as the ideographic space, are part of a name
    count = 0
    while count < len(words) - 1 and _is_number(words[-1 - count]):
        count += 1
    if count == 0:  # more than one word: something that is no class, which is told when its image is asked for
        return words[0], words[1:]
    return text.rsplit(maxsplit=count)[0], words[-count:]


def _csv_rows(path: str | Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        if header != CSV_HEADER:
            raise InputError(f"{path}: the header is {','.join(header)!r}, expected {','.join(CSV_HEADER)!r}")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(CSV_HEADER):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} columns, expected {','.join(CSV_HEADER)} "
                    "with the names separated by ';'"
                )
            if not cells[0].strip():
                raise InputError(f"{path}, line {reader.line_num}: the image ID is empty")
            names = [name.strip() for name in cells[1].split(";") if name.strip()]
            yield Row(reader.line_num, ",".join(cells), cells[0].strip(), names)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: cannot be read as CSV ({error})") from error


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10  # int() refuses thousands of digits


def _listing(row: Row) -> str:
    return " ".join(row.classes) or "no class"
