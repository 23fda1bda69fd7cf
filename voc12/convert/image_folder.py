"""Finds the images that an instances file names, however its tool writes the names."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from misc.errors import InputError
from voc12.convert.source import TEST, TRAIN, VAL, flat_id, list_name, refuse_collisions
from voc12.image_set import nfc

PLACES = {"images", "jpegimages", "default", "data", TRAIN, VAL, TEST}  # folders that say nothing about an image
UPLOAD_MARK = re.compile(r"[0-9a-f]{8}-")  # that Label Studio puts before the name of an uploaded file
YEAR = re.compile(r"(?<=[a-z])(19|20)\d\d$")
NO_IMAGES = {".json", ".txt", ".xml", ".yaml", ".csv"}


class Fit(NamedTuple):
    """How well the place of a file goes with the name in an instances file."""

    folders: int  # in front of the file's name that are the same
    is_beside: bool  # below the folder of the instances file
    is_of_set: bool  # in a folder of the name of its list


class Claim(NamedTuple):
    """A name in an instances file that a file was found for."""

    beside: Path  # the instances file
    file_name: str
    fit: Fit


class ImageFolder:
    """The images below a folder; InputError if there is no such folder."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder: see --images")
        self.folder = folder
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        seen: set[str] = set()
        for place, folders, files in os.walk(folder, followlinks=True):
            if (real := os.path.realpath(place)) in seen:  # links may lead round in a circle
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            for file in sorted(files):
                if not file.startswith(".") and os.path.splitext(file)[1].lower() not in NO_IMAGES:
                    self._by_name[nfc(file)].append(Path(place, file))

    def find(self, file_name: str, *, beside: Path, set_name: str) -> Path | None:
        """The file that an instances file means; None if there is none.

        Of several files of that name, the one whose folders fit the name best counts, then one below the folder of the
        instances file, then one in a folder of the name of its list.

        file_name     a path, in Windows' spelling too, a URL, or what Label Studio makes of an upload
        beside        the instances file
        set_name      the list that it is of
        Raises        InputError if several files fit equally well
        """
        name = nfc(plain_name(file_name))
        base = name.rpartition("/")[2]
        candidates = self._by_name.get(base) or self._by_name.get(UPLOAD_MARK.sub("", base, count=1), [])
        if len(candidates) < 2:
            return candidates[0] if candidates else None

        fits = {path: self.fit(path, file_name, beside=beside, set_name=set_name) for path in candidates}
        best = max(fits.values())
        first, *others = [path for path, fit in fits.items() if fit == best]
        if others:
            raise InputError(
                f"{beside}: {file_name!r} may be {first} or {others[0]}: say --images FOLDER, or rename one"
            )
        return first

    def fit(self, path: Path, file_name: str, *, beside: Path, set_name: str) -> "Fit":
        """How well a file goes with a name, see `find`."""
        places = [place_name(part) for part in path.relative_to(self.folder).parts[:-1]]
        return Fit(_common_tail(nfc(plain_name(file_name)), path), beside.parent in path.parents, set_name in places)

    def ids(self, paths: list[Path]) -> dict[Path, str]:
        """The ID of each file: its name, with the folders in front that are no mere places such as images/train.

        Where two files would get one ID, all keep all folders: train_1 and val_1.
        """
        whole = {path: path.relative_to(self.folder).with_suffix("").as_posix() for path in paths}
        short = {path: _without_places(name) for path, name in whole.items()}
        names = short if _all_differ(short.values()) else whole
        refuse_collisions(names.values())
        return {path: flat_id(name) for path, name in names.items()}


def which_mean(path: Path, claims: list[Claim]) -> list[bool]:
    """Which of the names that a file was found for mean it; what others mean is missing.

    A name means another file if its own folders fit worse than another name's do, or if nothing speaks for it, while
    the other one's list or instances file lies where the file does.

    Raises    InputError if it is several images of one instances file all the same, or of names that are not alike
    """
    most = max(claim.fit.folders for claim in claims)
    near = any(any(claim.fit[1:]) for claim in claims)
    found = [
        claim.fit.folders >= min(most, plain_name(claim.file_name).count("/")) and (any(claim.fit) or not near)
        for claim in claims
    ]
    left = [claim for claim, means in zip(claims, found, strict=True) if means]
    longest = max(left, key=lambda claim: len(plain_name(claim.file_name)))
    for number, claim in enumerate(left):
        again = next((other for other in left[:number] if other.beside == claim.beside), None)
        if again or not _is_tail(plain_name(claim.file_name), plain_name(longest.file_name)):
            other = again or longest
            raise InputError(
                f"{other.beside}: {other.file_name!r}, and {claim.file_name!r} of {claim.beside} would be one, {path}: "
                "complete the images, or take out what is not there"
            )
    return found


def plain_name(file_name: str) -> str:
    """A file name with / between folders, of a path or URL."""
    name = file_name.replace("\\", "/")
    try:
        if "?d=" in name:  # Label Studio's /data/local-files/?d=folder/a.jpg
            return parse_qs(urlsplit(name).query)["d"][0]
        return unquote(urlsplit(name).path) if "://" in name else name
    except (KeyError, ValueError):  # no address after all
        return name


def place_name(word: str) -> str:
    """TRAIN, VAL or TEST for a folder or word that means them, train2017 and valid among them; others as they are."""
    return list_name(YEAR.sub("", word))


def _common_tail(name: str, path: Path) -> int:
    """How many folders before the file's name are the same."""
    pairs = zip(reversed(name.split("/")[:-1]), reversed(path.parts[:-1]), strict=False)
    count = 0
    for one, other in pairs:
        if one != nfc(other):
            break
        count += 1
    return count


def _is_tail(name: str, of: str) -> bool:
    return f"/{nfc(of)}".endswith(f"/{nfc(name)}")


def _without_places(name: str) -> str:
    *folders, base = name.split("/")
    while folders and place_name(folders[0]).casefold() in PLACES:
        folders = folders[1:]
    return "/".join([*folders, base])


def _all_differ(names: Iterable[str]) -> bool:
    ids = [nfc(flat_id(name)) for name in names]
    return len(set(ids)) == len(ids)
