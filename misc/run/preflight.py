"""One look at everything the enabled steps will need, before the first of them runs.

Each step says, in the order they run, what it reads and what it writes. What an earlier step will
write need not be there yet. All problems are reported together.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from misc.errors import InputError
from misc.run.ledger import Judged, Product

log = logging.getLogger(__name__)

Item = TypeVar("Item")
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
        self.products: list[Product] = []
        self.judged: list[Judged] = []
        self._current = Traffic([], [])
        self._promised: set[Path] = set()
        self._told: set[str] = set()  # what one step has said, the steps after it need not say again
        self._probed: set[Path] = set()
        self._attempted: set[str] = set()

    def step(self, name: str) -> None:
        """What follows is said by the step `name`."""
        self._current = self.traffic[name] = Traffic([], [])

    def mentions(self, name: str | Path) -> None:
        """Something the step reads that is checked elsewhere."""
        if str(name) not in self._current.reads:
            self._current.reads.append(str(name))

    def problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    def notice(self, text: str) -> None:
        """Something the user should know, said once."""
        if text not in self._told:
            self._told.add(text)
            log.info("%s", text)

    def attempt(self, action: Callable[[], object], *, once: str | None = None) -> None:
        """Run a reader whose InputError is to be one of the problems; under the name `once` only once."""
        if once in self._attempted:
            return
        if once is not None:
            self._attempted.add(once)
        try:
            action()
        except InputError as error:
            self.problem(str(error))

    def folder(self, setting: str, path: str) -> None:
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
        wanted = [path for path in paths if path not in self._promised]
        missing = [path for path in wanted if str(path) not in self._told and not os.path.isfile(path)]
        self._told.update(map(str, missing))
        if missing:
            advice = remedy(missing[0]) if callable(remedy) else remedy
            self._report(f"{what} missing", [str(path) for path in missing], len(wanted), advice)
        if probe is None:
            return
        bad = []
        for path in wanted:
            if path not in self._probed and os.path.isfile(path):
                self._probed.add(path)
                fault = probe(path)
                if fault:
                    bad.append(f"{path} ({fault})")
        self._report(f"{what} unreadable", bad, len(wanted), "")

    def promised(self, path: Path) -> bool:
        """Whether an earlier step will have written this file."""
        return path in self._promised

    def tries(self, what: str, items: Sequence[Item], read: Callable[[Item], object]) -> bool:
        """What a step uses, read one by one; each InputError is told once. Returns whether there is none."""
        faults: list[str] = []
        for item in items:
            try:
                read(item)
            except InputError as error:
                faults.append(str(error))
        told = [fault for fault in dict.fromkeys(faults) if fault not in self._told]  # a missing file is one fault
        self._told.update(told)
        self._report(f"{what} unusable", told, len(items), "")
        return not faults

    def writes(self, paths: Iterable[Path]) -> None:
        """Files a step will have written when the next one starts."""
        paths = list(paths)
        self._current.add(self._current.writes, paths)
        twice = [path for path in paths if path in self._promised]
        self._report("output files are another step's as well", [str(path) for path in twice], len(paths), "")
        shared = [str(path) for path, count in Counter(paths).items() if count > 1]
        self._report("output files would be those of two images", shared, len(paths), "rename one")
        folders = [path for path in paths if os.path.isdir(path)]
        self._report("output files are folders", [str(path) for path in folders], len(paths), "")
        self._promised.update(paths)
        for folder in {path.parent for path in paths}:
            existing = next(parent for parent in (folder, *folder.absolute().parents) if os.path.exists(parent))
            if not existing.is_dir() or not _writable(existing):
                self.problem(f"cannot write into {folder}: {existing} is not a folder that may be written")

    def makes(self, product: Product) -> None:
        """What a step writes, and from what; a place belongs to one step."""
        taken = {place: other.step for other in self.products for place in other.places}
        files = product.files()
        for place in product.places:
            if place in taken:
                makers = f"{taken[place]}, {product.step}"
                self.problem(f"{place} is named as the place of two outputs ({makers}): each needs its own")
                files = list(dict.fromkeys(files))  # that they share names goes without saying
            taken[place] = product.step
        self.products.append(product)
        self.writes(files)

    def judges(self, folder: Path, ids: Sequence[str]) -> None:
        """A folder of an earlier step whose files of these images a step measures, making nothing of them."""
        self.judged.append(Judged(folder, ids))

    def finish(self) -> None:
        """Raise one InputError with all problems, if there are any."""
        if len(self.problems) == 1:
            raise InputError(self.problems[0])
        if self.problems:
            raise InputError(f"{len(self.problems)} problems\n" + "\n".join(f"  - {text}" for text in self.problems))

    def _report(self, what: str, names: list[str], total: int, remedy: str) -> None:
        if names:
            shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            count = f"{len(names)} of {total} " if total > 1 else ""
            self.problem(f"{count}{what}: {shown}" + (f": {remedy}" if remedy else ""))


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
