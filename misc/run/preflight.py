"""One look at everything the enabled steps will need, before the first of them runs.

In the order the steps run, each step's inputs say what is read; then its outputs are noted. What an earlier step will
write need not be there yet. All problems are reported together.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from misc.errors import InputError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Thing = TypeVar("Thing", bound=Hashable)
SHOWN = 5  # names of missing files in one problem


class Traffic(NamedTuple):
    """The files and folders one step reads and writes, for a line of the log."""

    reads: list[str]
    writes: list[str]

    def __str__(self) -> str:
        return f"reads {', '.join(self.reads)}; writes {', '.join(self.writes)}"

    @staticmethod
    def add(names: list[str], paths: list[Path]) -> None:
        places = [str(paths[0])] if len(paths) == 1 else dict.fromkeys(f"{path.parent}/" for path in paths)
        names.extend(place for place in places if place not in names)


class Preflight:
    """Collects what is wrong; `finish` raises it all at once."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.traffic: dict[str, Traffic] = {}
        self._current = Traffic([], [])
        # by real paths: a folder may be named in several ways
        self._to_come: set[str] = set()  # files that an earlier step will have written
        self._given: set[str] = set()  # files that are read as they lie there
        self._makers: dict[str, str] = {}  # place → the step that writes there
        self._real_folders: dict[Path, str] = {}
        self._seen: set[Hashable] = set()  # what has been said or looked at, for one step or another

    def step(self, name: str) -> None:
        """What follows is about the step `name`."""
        self._current = self.traffic[name] = Traffic([], [])

    def mentions(self, name: str | Path) -> None:
        """Something the step reads that is checked elsewhere."""
        if not self.is_to_come(Path(name)):
            self._given.add(self._real(Path(name)))
        if str(name) not in self._current.reads:
            self._current.reads.append(str(name))

    def problem(self, text: str) -> None:
        self.problems += self._unseen([text])

    def notice(self, text: str) -> None:
        """Something the user should know."""
        for new in self._unseen([text]):
            log.info("%s", new)

    def warning(self, text: str) -> None:
        """Something that may be meant, but looks wrong."""
        for new in self._unseen([text]):
            log.warning("%s", new)

    def attempt(self, action: Callable[[], object], *, once: str | None = None) -> None:
        """Run a reader whose InputError is to be one of the problems.

        once      a name under which it is run for the first step only
        """
        if once is not None and not self._unseen([once]):
            return
        try:
            action()
        except InputError as error:
            self.problem(str(error))

    def needs_folder(self, setting: str, path: str) -> None:
        """A folder that a setting names must be there."""
        if not path:
            self.problem(f"{setting} is not set: pass --{setting} PATH")
        elif not os.path.isdir(path):  # False as well where a name is too long or a folder closed
            self.problem(f"{setting}: there is no folder {path}")

    def reads(
        self,
        what: str,
        paths: Iterable[Path],
        *,
        remedy: str | Callable[[Path], str] = "",
        probe: Callable[[Path], str | None] | None = None,
    ) -> None:
        """Files a step reads: they must exist, or be written by an earlier step, and pass `probe`,
        a quick look that returns what is wrong with a file.

        remedy    what to do about missing ones, or a function that is asked about the first of them
        """
        paths = list(paths)
        self._current.add(self._current.reads, paths)
        needed = [path for path in paths if not self.is_to_come(path)]
        self._given.update(map(self._real, needed))
        there = {path: os.path.isfile(path) for path in self._unseen(needed)}
        missing = [path for path, found in there.items() if not found]
        if missing:
            advice = remedy(missing[0]) if callable(remedy) else remedy
            self._report(f"{what} missing", missing, len(needed), advice)
        if probe is not None:
            faults = {path: probe(path) for path, found in there.items() if found}
            self._report(f"{what} unreadable", [f"{p} ({fault})" for p, fault in faults.items() if fault], len(needed))

    def is_to_come(self, path: Path) -> bool:
        """Whether an earlier step will have written this file."""
        return self._real(path) in self._to_come

    def reads_each(self, what: str, items: Sequence[Item], read: Callable[[Item], object]) -> bool:
        """Read what a step uses, item by item, and report each InputError. Returns whether there is none."""
        faults: list[str] = []
        for item in items:
            try:
                read(item)
            except InputError as error:
                faults.append(str(error))
        self._report(f"{what} unusable", self._unseen(faults), len(items))
        return not faults

    def writes(self, paths: Iterable[Path]) -> None:
        """Files a step will have written when the next one starts."""
        paths = list(paths)
        self._current.add(self._current.writes, paths)
        real = {path: self._real(path) for path in paths}
        given = [path for path in paths if real[path] in self._given]
        self._report("output files are what this run reads", given, len(paths), "name another folder or file")
        twice = [path for path in paths if real[path] in self._to_come]
        self._report("output files are another step's as well", twice, len(paths))
        counts = Counter(real[path] for path in paths)
        shared = [path for path in real if counts[real[path]] > 1]
        remedy = "rename an image, or name another folder"
        self._report("output files would be written twice", shared, len(paths), remedy)
        self._report("output files are folders", [path for path in paths if os.path.isdir(path)], len(paths))
        self._to_come.update(real.values())
        for folder in {path.parent for path in paths}:
            existing = next(parent for parent in (folder, *folder.absolute().parents) if os.path.exists(parent))
            if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
                self.problem(f"cannot write into {folder}: {existing} is not a folder that may be written")

    def makes(self, step: str, places: Sequence[Path], files: Sequence[Path]) -> None:
        """What a step will have written, and the folders or the file that are its own."""
        for place in places:
            maker = self._makers.setdefault(self._real(place), step)
            if maker != step:
                self.problem(f"{place} is where {maker} and {step} both write: each needs a place of its own")
        self.writes(files)

    def finish(self) -> None:
        """Raise one InputError with all problems, if there are any."""
        if len(self.problems) == 1:
            raise InputError(self.problems[0])
        if self.problems:
            raise InputError(f"{len(self.problems)} problems\n" + "\n".join(f"  - {text}" for text in self.problems))

    def _real(self, path: Path) -> str:
        """The path with the links and dots of its folder resolved; as text, which compares faster than a Path."""
        folder = self._real_folders.get(path.parent)
        if folder is None:
            folder = self._real_folders[path.parent] = os.path.realpath(path.parent)
        return os.path.join(folder, path.name)

    def _unseen(self, things: Iterable[Thing]) -> list[Thing]:
        """Those that are here for the first time; what one step has said, the others need not say again."""
        new = [thing for thing in dict.fromkeys(things) if thing not in self._seen]
        self._seen.update(new)
        return new

    def _report(self, what: str, names: Sequence[str | Path], total: int, remedy: str = "") -> None:
        if names:
            shown = ", ".join(map(str, names[:SHOWN])) + (", …" if len(names) > SHOWN else "")
            count = f"{len(names)} of {total} " if total > 1 else ""
            self.problem(f"{count}{what}: {shown}" + (f": {remedy}" if remedy else ""))
