"""The files that a conversion has written into its target, and what each of them was made of."""

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from misc.errors import InputError
from misc.files import remove, replacing
from misc.run.process import say

LEDGER = "conversion_files.jsonl"
OF_TEXT = "text "  # marks of texts begin so


class OwnFiles:
    """The files of conversions in a folder, each with a mark of what it was made of. Others there are the user's.

    They are listed in LEDGER, a line [name, mark] each; the last one of a name counts. A name is noted, without a mark,
    before an image or mask is written: after a kill, none is taken for finished, and none for the user's.
    Every conversion puts a ledger of its own in the place of the last one, which tells that one that it has to end.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._path = root / LEDGER
        self._marks = _read(self._path)
        self._used: set[str] = set()  # in this conversion
        self._lock = threading.Lock()  # workers note what they finish
        self._replace_ledger()
        self._file = self._path.open("a", encoding="ascii")

    def __enter__(self) -> "OwnFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def holds(self, name: str, mark: str) -> bool:
        """Whether a file, given by its path below the folder, was finished of what has this mark."""
        self._used.add(name)
        return self._marks.get(name) == mark

    def knows(self, name: str) -> bool:
        """Whether a conversion wrote the file."""
        return name in self._marks

    def note(self, name: str, mark: str = "") -> None:
        """Note a file that is finished or, without a mark, about to be written.

        Raises    InputError if another conversion has begun to write into the folder
        """
        with self._lock:
            self._refuse_another()
            self._used.add(name)
            self._marks[name] = mark
            self._file.write(_line(name, mark))
            self._file.flush()

    def write_text(self, name: str, content: str) -> None:
        """Write a text. One of its name that somebody else wrote or changed is kept beside it."""
        mark = _text_mark(content.encode())
        self.set_aside(name, unless=mark)
        self.note(name, mark)
        with replacing(self.root / name) as temporary:
            temporary.write_bytes(content.encode())

    def set_aside(self, name: str, *, unless: str = "") -> None:
        """Rename a text that is not as a conversion wrote it to NAME.bak, and say so.

        unless    the mark of one that may stay
        """
        path = self.root / name
        if not path.is_file() or _text_mark(path.read_bytes()) in (self._marks.get(name), unless):
            return
        kept = path.with_name(f"{path.name}.bak")
        try:
            os.replace(path, kept)
        except OSError as error:
            raise InputError(f"cannot rename {path} to {kept}: {error.strerror}") from error
        say(f"{path} is not as it was written, but changed: it is kept as {kept.name}")

    def remove_unused(self) -> None:
        """Remove what earlier conversions wrote and this one has not: nothing is left of what SOURCE has no more."""
        self._refuse_another()
        for name, mark in self._marks.items():
            if name not in self._used:
                if mark.startswith(OF_TEXT):
                    self.set_aside(name)
                remove(self.root / name)
        self._marks = {name: self._marks[name] for name in sorted(self._marks) if name in self._used}
        self._file.close()
        self._replace_ledger()
        self._file = self._path.open("a", encoding="ascii")

    def _replace_ledger(self) -> None:
        with replacing(self._path) as temporary:
            temporary.write_text("".join(_line(*entry) for entry in self._marks.items()), encoding="ascii", newline="")

    def _refuse_another(self) -> None:
        try:
            is_ours = os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except OSError:
            is_ours = False
        if not is_ours:
            raise InputError(f"{self.root}: another conversion has begun to write there: wait until it has ended")


def source_mark(paths: Iterable[Path]) -> str:
    """A mark of files, which another one in the place of one of them does not have, nor one that has been changed."""
    parts: list[tuple[str | int, ...]] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        times = (status.st_mtime_ns, status.st_ctime_ns)
        parts.append((os.path.realpath(path), status.st_ino, status.st_size, *times))
    return hashlib.blake2b(ascii(parts).encode(), digest_size=8).hexdigest()


def _text_mark(content: bytes) -> str:
    return OF_TEXT + hashlib.blake2b(content, digest_size=8).hexdigest()


def _line(name: str, mark: str) -> str:
    return json.dumps([name, mark]) + "\n"


def _read(path: Path) -> dict[str, str]:
    """Name → mark. A line that a kill or a crash of the machine left incomplete does not count."""
    marks: dict[str, str] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            name, mark = json.loads(line)
        except (ValueError, TypeError):
            continue
        marks[str(name)] = str(mark)
    return marks
