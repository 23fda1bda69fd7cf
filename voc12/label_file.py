"""Files of image-level labels: text of class numbers, as published, or CSV of class names.

Text, an image a line: `ID c c …`, split at blanks, classes from 0; an ID alone shows no class.

CSV (the file's ending says so): the header `image_id,classes`, then an image a line; names are separated by `;`.
IDs with blanks in them need this form.
"""

import csv
import io
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from misc.errors import InputError
from misc.files import replacing
from voc12.image_set import IMAGE_ENDINGS, nfc, read_text

CSV_HEADER = ["image_id", "classes"]
BLANKS_NEED_CSV = f"list IDs with blanks in a .csv ({','.join(CSV_HEADER)})"


class Row(NamedTuple):
    """One line of a label file."""

    line: int
    image_id: str
    classes: list[str]  # numbers or names, as written


class LabelFile:
    """The classes of each image that a label file lists.

    Raises    InputError if the file cannot be read or lists an image twice with different classes.
    """

    def __init__(self, path: str | Path, class_names: list[str]) -> None:
        self.path, self.class_names = path, class_names
        self._in_names = is_csv(path)
        self._number = {nfc(name): number for number, name in enumerate(class_names)}
        self._rows: dict[str, Row] = {}
        for row in _csv_rows(path) if self._in_names else _text_rows(path):
            before = self._rows.setdefault(nfc(row.image_id), row)
            if set(before.classes) != set(row.classes):
                raise InputError(
                    f"{path}, line {row.line}: {row.image_id!r} shows {_listing(row)} here, "
                    f"but {_listing(before)} in line {before.line}: keep one of them"
                    + ("" if self._in_names else f", or {BLANKS_NEED_CSV}")
                )

    def get(self, image_id: str) -> list[int] | None:
        """The class numbers of an image, from 0, as listed; None if the file has no line for it."""
        row = self._rows.get(nfc(image_id))
        return None if row is None else [self._class(text, row) for text in row.classes]

    def advice(self, image_id: str) -> str:
        """What to do about an image that the file does not list; empty if there is nothing to suggest."""
        names = (nfc(f"{image_id}{ending}") for ending in IMAGE_ENDINGS)
        with_ending = next((self._rows[name].image_id for name in names if name in self._rows), None)
        if with_ending:
            return f"the file lists {with_ending!r}, but IDs have no ending"
        return BLANKS_NEED_CSV if not self._in_names and _has_blanks(image_id) else ""

    def _class(self, text: str, row: Row) -> int:
        number = self._number.get(nfc(text)) if self._in_names else int(text)
        if number is not None and number < len(self.class_names):
            return number
        if not self._in_names:
            expected = f"(0 to {len(self.class_names) - 1})"
        elif _is_number(text):
            expected = "(names are expected in .csv, not numbers: see --class_names)"
        else:
            expected = did_you_mean(text, self.class_names)
        raise InputError(f"{self.path}, line {row.line}: {text!r} of {row.image_id} is no class {expected}")


def is_csv(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".csv"


def is_npy(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".npy"


def did_you_mean(name: str, class_names: list[str]) -> str:
    """A remark on a class name that does not exist: the closest one that does, or where the names are set."""
    folded = {known.casefold(): known for known in class_names}
    match = get_close_matches(name.casefold(), folded, n=1)
    return f"(did you mean {folded[match[0]]!r}?)" if match else "(see --class_names)"


def write_label_file(path: str | Path, labels: dict[str, list[int]], class_names: list[str]) -> None:
    """Write `label_text`, which raises an InputError if the form cannot hold the labels."""
    content = label_text(path, labels, class_names)
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="")


def label_text(path: str | Path, labels: dict[str, list[int]], class_names: list[str]) -> str:
    """The class numbers of each image, as text or, if the ending of the file is .csv, as names.

    Raises    InputError if the form cannot hold them: an ID with blanks in text, a class name with ; in CSV, or
              anything in .npy, which is only read.
    """
    content = io.StringIO()
    if is_npy(path):
        raise InputError(f"{path}: .npy is read, but not written: name a .txt or a .csv")
    if is_csv(path):
        unfit = [name for name in class_names if ";" in name]
        if unfit:
            raise InputError(f"{path}: {unfit[0]!r} cannot be listed, ';' separates names: write text, not .csv")
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        writer.writerows((i, ";".join(class_names[c] for c in classes)) for i, classes in labels.items())
    else:
        for image_id, classes in labels.items():
            if _has_blanks(image_id):
                raise InputError(f"{path}: {image_id!r} cannot be listed in text: {BLANKS_NEED_CSV}")
            content.write(" ".join([image_id, *map(str, classes)]) + "\n")
    return content.getvalue()


def _text_rows(path: str | Path) -> Iterator[Row]:
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        for word in words[1:]:
            if not _is_number(word):
                raise InputError(
                    f"{path}, line {line}: {word!r} is no class number, expected 'ID c c …': {BLANKS_NEED_CSV}"
                )
        if words:
            yield Row(line, words[0], words[1:])


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
            yield Row(reader.line_num, cells[0].strip(), names)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: cannot be read as CSV ({error})") from error


def _has_blanks(image_id: str) -> bool:
    return image_id.split() != [image_id]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10  # int() refuses thousands of digits


def _listing(row: Row) -> str:
    return " ".join(row.classes) or "no class"
