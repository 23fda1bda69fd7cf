"""What the files of a step were made from, kept beside them, so that none is taken for what it is not.

A folder of outputs holds `manifest.json`, a checkpoint has `NAME.manifest.json` beside it: the settings and the inputs
they come from, those of earlier steps included, and the images whose files are the step's own. All of it can be told
before anything runs, since a step's files depend on nothing else. What no manifest mentions is somebody else's.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from misc.errors import InputError, reason
from misc.files import remove, remove_abandoned, replacing

FORMAT = 1  # to be raised when the same settings and inputs come to give other files
SHOWN = 3  # differences, or names of files, in one message
BLOCKS, BLOCK = 8, 64  # what is read of a file to tell it from another

log = logging.getLogger(__name__)


class Origin(NamedTuple):
    """What files were made from.

    steps     step → {"settings": {name: value}, "inputs": {name: digest}}, of all steps that had a part
    images    ID → digest of the inputs that only this image's files depend on
    """

    steps: dict[str, dict[str, dict[str, Any]]]
    images: dict[str, str]


class Product(NamedTuple):
    """What a step makes, and from what.

    step          its name
    places        the folders it writes into or, with `ids` None, the one file it writes
    settings      name → value, of those its files depend on
    ids           the images it reads
    image_inputs  ID → the files and texts that only its files depend on
    inputs        setting → a checkpoint that all files depend on, of an earlier step or of somebody else's, or a text
    folders       setting → a folder of such files, and ID → the file it reads there
    outputs       ID → its files; None: the images are all made into one file
    leftovers     files to be removed when all is made anew: an unfinished state, what was said of earlier files
    """

    step: str
    places: Sequence[Path]
    settings: dict[str, Any]
    ids: Sequence[str]
    image_inputs: Callable[[str], Iterable[Path | str]]
    outputs: Callable[[str], Sequence[Path]] | None = None
    inputs: dict[str, Path | str] = {}
    folders: dict[str, tuple[Path, Callable[[str], Path]]] = {}
    leftovers: Sequence[Path] = ()

    def files(self) -> list[Path]:
        return list(self.places) if self.outputs is None else [f for i in self.ids for f in self.outputs(i)]


class Manifest(NamedTuple):
    """A manifest as it is on disk. `file` is the digest of a finished checkpoint."""

    step: str
    origin: Origin
    file: str | None = None

    def is_file_at(self, path: Path) -> bool:
        """Whether the file at `path` is the finished checkpoint that this tells of."""
        return self.file is not None and path.is_file() and self.file == sampled(path)

    def write(self, path: Path) -> None:
        content = {
            "format": FORMAT,
            "made_by": self.step,
            "file": self.file,
            "steps": self.origin.steps,
            "images": self.origin.images,
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Manifest | None":
        """The manifest at `path`, None where there is none; InputError if it is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise InputError(f"{path}: of another version of this project; pass --overwrite to make its files anew")
            steps, images = dict(content["steps"]), dict(content["images"])
            for part in steps.values():
                if not (isinstance(part["settings"], dict) and isinstance(part["inputs"], dict)):
                    raise ValueError("no settings or no inputs")
            return cls(str(content["made_by"]), Origin(steps, images), content["file"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path}: not a manifest ({reason(error)}): pass --overwrite to make its files anew"
            ) from error


def manifest_path(place: Path, *, is_folder: bool) -> Path:
    return place / "manifest.json" if is_folder else place.with_name(f"{place.name}.manifest.json")


class Ledger:
    """The products of one run: what is there already, what may be kept, what must not be touched.

    products   in the order of the steps
    looked_at  folders that are only read; what they were made with is told if it is not what is set
    settings   all settings of the run, by name
    overwrite  make anew whatever the run is to make
    """

    def __init__(
        self,
        products: Sequence[Product],
        *,
        settings: dict[str, Any],
        overwrite: bool,
        looked_at: Sequence[Path] = (),
    ) -> None:
        self._products = {product.step: product for product in products}
        self._settings, self._overwrite = settings, overwrite
        self._makers: dict[Path, Manifest | None] = {}  # of the places that steps read
        self._origins: dict[str, Origin] = {}
        self.problems: list[str] = []
        differences: dict[str, list[str]] = {}  # what differs → the places it concerns
        for product in products:
            origin = self._origins[product.step] = self._origin(product)
            self._makers |= {place: Manifest(product.step, origin) for place in product.places}
            if not overwrite:
                for place in product.places:
                    self._compare(product, place, differences)
        for folder in looked_at:
            self._source(folder, is_folder=True)
        for text, places in differences.items():
            self.problems.append(
                f"{', '.join(places)}: made from something else ({text}): pass --overwrite to make anew what "
                "this run makes, or name other outputs"
            )

    def begin(self, step: str) -> bool:
        """Claim the step's outputs; returns whether there is anything left to make.

        Files that are to be made anew are removed first, then the manifests are written: whenever this is
        interrupted, no manifest claims a file of another origin.
        """
        product = self._products.get(step)
        if product is None:
            return True
        origin, is_folder = self._origins[step], product.outputs is not None
        self._tidy(product)
        manifests = {place: manifest_path(place, is_folder=is_folder) for place in product.places}
        before = {place: self._read(path) for place, path in manifests.items()}
        same = {place: found for place, found in before.items() if found and found.origin.steps == origin.steps}
        if not self._overwrite and all(place in same and same[place].is_file_at(place) for place in product.places):
            return False
        if self._overwrite or not same:
            for path in (*product.leftovers, *(product.files() if self._overwrite else [])):
                remove(path)
        for place, path in manifests.items():
            kept = same[place].origin.images if place in same else {}
            Manifest(step, Origin(origin.steps, kept | origin.images)).write(path)
        return True

    def end(self, step: str) -> None:
        """Note that the step has come to its end."""
        product = self._products.get(step)
        if product is None:
            return
        if product.outputs is None:
            for place in product.places:
                path = manifest_path(place, is_folder=False)
                Manifest(step, self._origins[step], sampled(place)).write(path)
            for leftover in product.leftovers:
                remove(leftover)
        self._tidy(product)

    def _tidy(self, product: Product) -> None:
        is_folder = product.outputs is not None
        for folder in {place if is_folder else place.parent for place in product.places}:
            remove_abandoned(folder)

    def _origin(self, product: Product) -> Origin:
        steps: dict[str, dict[str, dict[str, Any]]] = {}
        inputs: dict[str, str] = {}
        for setting, given in product.inputs.items():
            source = self._source(given, is_folder=False) if isinstance(given, Path) else None
            steps |= source.origin.steps if source else {}
            inputs[setting] = (
                f"made by {source.step}" if source else sampled(given) if isinstance(given, Path) else given
            )
        parts: dict[str, list[str]] = {
            image_id: [part if isinstance(part, str) else sampled(part) for part in product.image_inputs(image_id)]
            for image_id in product.ids
        }
        for setting, (folder, file_of) in product.folders.items():
            source = self._source(folder, is_folder=True)
            steps |= source.origin.steps if source else {}
            inputs[setting] = f"made by {source.step}" if source else "not made by this project"
            claimed = source.origin.images if source else {}
            for image_id in product.ids:
                parts[image_id].append(claimed.get(image_id) or sampled(file_of(image_id)))
        images = {image_id: digest(*parts[image_id]) for image_id in product.ids}
        if product.outputs is None:
            inputs["images"] = digest(*(text for pair in images.items() for text in pair))
            images = {}
        settings = json.loads(json.dumps(product.settings))  # as a manifest gives them back: lists for tuples
        return Origin(steps | {product.step: {"settings": settings, "inputs": inputs}}, images)

    def _source(self, place: Path, *, is_folder: bool) -> Manifest | None:
        """Which step made a checkpoint or a folder, and from what; None if no manifest says so."""
        if place in self._makers:
            return self._makers[place]
        manifest = Manifest.read(manifest_path(place, is_folder=is_folder))
        if manifest is None or (not is_folder and not manifest.is_file_at(place)):
            log.info("%s: no manifest tells what it was made from: taken as it is", place)
            manifest = None
        self._makers[place] = manifest
        if manifest is None:
            return None
        made_with = manifest.origin.steps.get(manifest.step, {"settings": {}})["settings"]
        for name, value in made_with.items():
            now = json.loads(json.dumps(self._settings.get(name, value)))
            if now != value:
                log.warning("%s: made with %s %s; now it is %s, but %s is off", place, name, value, now, manifest.step)
        return manifest

    def _read(self, path: Path) -> Manifest | None:
        try:
            return Manifest.read(path)
        except InputError:
            if self._overwrite:
                return None
            raise

    def _compare(self, product: Product, place: Path, differences: dict[str, list[str]]) -> None:
        """Add what stands against making `product` in a place where something is already."""
        is_folder = product.outputs is not None
        try:
            manifest = Manifest.read(manifest_path(place, is_folder=is_folder))
        except InputError as error:
            self.problems.append(str(error))
            return
        origin = self._origins[product.step]
        if manifest is not None:
            text = difference(manifest.origin, origin, product.step)
            if text:
                differences.setdefault(text, []).append(str(place))
                return
        if product.outputs is None:
            ours = manifest is not None and (manifest.file is None or manifest.is_file_at(place))
            foreign = [place] if place.is_file() and not ours else []
        else:
            claimed = manifest.origin.images if manifest is not None else {}
            unclaimed = [path for i in product.ids if i not in claimed for path in product.outputs(i)]
            foreign = [path for path in unclaimed if path.parent == place and path.is_file()]
        if foreign:
            self.problems.append(
                f"{_some([str(path) for path in foreign])}: there already, and no manifest says that {product.step} "
                f"made it: pass --overwrite to replace it, --no_{product.step}_pass to use it, or name another output"
            )


def difference(then: Origin, now: Origin, step: str) -> str:
    """In what two origins of files of `step` differ, in words; empty if one run could have made both."""
    found = []
    for name in sorted(then.steps.keys() | now.steps.keys()):
        ours = f" of {name}" if name != step else ""
        if name not in then.steps or name not in now.steps:
            found.append(f"{name} had {'no' if name not in then.steps else 'a'} part in it then")
            continue
        for kind in ("settings", "inputs"):
            old, new = then.steps[name][kind], now.steps[name][kind]
            for key in sorted(old.keys() | new.keys()):
                if old.get(key) != new.get(key):
                    values = f"{old.get(key)} then, {new.get(key)} now" if kind == "settings" else "another content"
                    found.append(f"{key}{ours}: {values}")
    changed = [image_id for image_id, part in now.images.items() if then.images.get(image_id, part) != part]
    if changed:
        found.append(f"inputs of {len(changed)} of {len(now.images)} images: {_some(changed)}")
    return "; ".join(found[:SHOWN]) + ("; …" if len(found) > SHOWN else "")


def digest(*parts: bytes | str) -> str:
    """16 hexadecimal digits that tell one sequence of contents from another."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        content = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        state.update(len(content).to_bytes(8, "little") + content)
    return state.hexdigest()


def sampled(path: Path) -> str:
    """A digest of a file's length and of a few blocks spread over it, the ends included.

    Reading a data set to its last byte takes minutes. An image, a map or a checkpoint that is computed
    anew differs everywhere, and in a PNG the last block holds the checksum of its pixels.
    Raises    InputError if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= BLOCKS * BLOCK:
                return digest(str(size), file.read())
            parts = []
            for number in range(BLOCKS):
                file.seek((size - BLOCK) * number // (BLOCKS - 1))
                parts.append(file.read(BLOCK))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest(str(size), *parts)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
