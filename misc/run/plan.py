"""What a step says before it runs: which images it makes files of, what it reads, what it makes."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from misc.run.preflight import Preflight


class Folder(NamedTuple):
    """A folder whose files may be an earlier step's.

    setting   the setting that names it
    path      the folder
    file_of   ID → the file that is read there
    ids       the images whose files are read
    """

    setting: str
    path: Path
    file_of: Callable[[str], Path]
    ids: Sequence[str]


class Input:
    """Something that a step reads. A subclass overrides what applies to it."""

    def look(self, preflight: Preflight) -> None:
        """Tell the preflight what is wrong with it. Called before any step runs."""

    def parts(self, image_id: str) -> Iterable[Path | str]:
        """The files and texts that only this image's outputs depend on."""
        return ()

    def whole(self) -> Mapping[str, Path | str]:
        """Setting → a file, or a text, that all outputs depend on."""
        return {}

    def folder(self) -> Folder | None:
        """The folder it lies in, if an earlier step may have made that."""
        return None


class PerImage(NamedTuple):
    """Outputs that each image has for itself.

    files       ID → its files, as many and in the same folders for every image
    leftovers   files that are wrong once the outputs are made anew: tables about them
    """

    files: Callable[[str], Sequence[Path]]
    leftovers: Sequence[Path] = ()


class OneFile(NamedTuple):
    """One output that is made of all images: a checkpoint.

    leftovers   files that are wrong once it is finished, or is made anew: the state of an unfinished training
    """

    path: Path
    leftovers: Sequence[Path] = ()


class Tables(NamedTuple):
    """Outputs that are written anew by every run, and that no step reads: tables, pages."""

    paths: Sequence[Path]


class Plan(NamedTuple):
    """What a step is going to do.

    ids       the images it makes something of
    reads     its inputs
    makes     its outputs
    version   to be raised when the same settings and inputs come to give other files
    """

    ids: Sequence[str]
    reads: Sequence[Input]
    makes: PerImage | OneFile | Tables
    version: int = 1

    @property
    def has_folders(self) -> bool:
        """Whether its places are folders, not one file."""
        return isinstance(self.makes, PerImage)

    @property
    def leftovers(self) -> Sequence[Path]:
        return () if isinstance(self.makes, Tables) else self.makes.leftovers

    def places(self) -> list[Path]:
        """The folders, or the one file, that a manifest tells of."""
        if isinstance(self.makes, PerImage):
            return list(dict.fromkeys(path.parent for path in self.makes.files("ID")))
        return [self.makes.path] if isinstance(self.makes, OneFile) else []

    def files(self, ids: Sequence[str] | None = None) -> list[Path]:
        """All its outputs, or of those that each image has for itself the ones of `ids`."""
        if isinstance(self.makes, PerImage):
            return [path for image_id in (self.ids if ids is None else ids) for path in self.makes.files(image_id)]
        return [self.makes.path] if isinstance(self.makes, OneFile) else list(self.makes.paths)

    def files_at(self, place: Path) -> list[Path]:
        """Its outputs in one of its places."""
        return [path for path in self.files() if place in (path, path.parent)]

    def folders(self) -> list[Folder]:
        """The folders that it reads."""
        return [folder for item in self.reads if (folder := item.folder()) is not None]


class Step(NamedTuple):
    """A row in the table of steps. Its switch is the setting `<name>_pass`.

    name        of the step
    module      that has plan(args) and make(args, ids); default: `step.<name>`
    alone       one process makes it, before the others join in
    makes_data  it makes the data set that the plans of the others read: it has make(args) alone
    """

    name: str
    module: str = ""
    alone: bool = False
    makes_data: bool = False

    def load(self) -> ModuleType:
        return importlib.import_module(self.module or f"step.{self.name}")
