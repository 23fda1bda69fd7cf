"""What one run is to make, against what lies there: kept if it is finished, refused if it is stale or foreign."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from misc.errors import InputError
from misc.files import remove, remove_abandoned
from misc.run.manifest import Manifest, Origin, difference, digest, manifest_path, sampled, some

log = logging.getLogger(__name__)


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


class Judged(NamedTuple):
    """A folder of an earlier step, and the images whose files a step measures there, making nothing of them."""

    folder: Path
    ids: Sequence[str]


class Ledger:
    """The products of one run: what is there already, what may be kept, what must not be touched.

    products   in the order of the steps
    settings   all settings of the run, by name
    overwrite  make anew whatever the run is to make
    judged     folders that are only measured
    fault      what is wrong with a file that a step wrote, if anything
    """

    def __init__(
        self,
        products: Sequence[Product],
        *,
        settings: dict[str, Any],
        overwrite: bool,
        judged: Sequence[Judged] = (),
        fault: Callable[[Path], str | None] = lambda path: None,
    ) -> None:
        self._products = {product.step: product for product in products}
        self._settings, self._overwrite, self._fault = settings, overwrite, fault
        self._makers: dict[Path, Manifest | None] = {}  # of the places that steps read
        self._origins: dict[str, Origin] = {}
        self.problems: list[str] = []
        differences: dict[str, list[str]] = {}  # what differs → the places it concerns
        for product in products:
            origin = self._origins[product.step] = self._origin(product)
            for place in product.places:
                before = self._compare(product, place, differences)
                claimed = before.origin.images if before and before.origin.steps == origin.steps else {}
                self._makers[place] = Manifest(product.step, Origin(origin.steps, claimed | origin.images), {})
        for folder, ids in judged:
            source = self._source(folder, is_folder=True)
            if source is not None:
                self._refuse_strays(folder, source, ids)
        for text, places in differences.items():
            self.problems.append(
                f"{', '.join(places)}: made from something else ({text}): pass --overwrite to make anew what "
                "this run makes, or name other outputs"
            )

    def start_anew(self) -> None:
        """With overwrite: remove what the run is to make and claim its places, before the first step runs.

        From then on nothing of another origin is in the way: interrupted, the run goes on without overwrite.
        """
        for product in self._products.values():
            self._tidy(product)
            gone = [*product.leftovers, *product.files()]
            for path in gone:
                remove(path)
            names = {path.name for path in gone}
            for place, path in self._manifests(product).items():
                before = self._read(path)
                same = before if before and before.origin.steps == self._origins[product.step].steps else None
                kept = {name: part for name, part in same.files.items() if name not in names} if same else {}
                self._claim(product, place, same, kept)
        self._overwrite = False

    def begin(self, step: str) -> bool:
        """Claim the step's outputs; returns whether there is anything left to make."""
        product = self._products.get(step)
        if product is None:
            return True
        self._tidy(product)
        for place, path in self._manifests(product).items():
            before = self._read(path)
            if product.outputs is None and before is not None and before.is_finished(place):
                for leftover in product.leftovers:
                    remove(leftover)
                return False
            # what is damaged or gone is made again
            folder = place if product.outputs is not None else place.parent
            names = before.files.items() if before else ()
            self._claim(product, place, before, {name: part for name, part in names if not self._fault(folder / name)})
        return True

    def end(self, step: str) -> None:
        """Note that the step has come to its end."""
        product = self._products.get(step)
        if product is None:
            return
        for place, path in self._manifests(product).items():
            before = self._read(path)
            here = [file for file in product.files() if place in (file, file.parent)]
            made = {file.name: sampled(file) for file in here}
            self._claim(product, place, before, (before.files if before else {}) | made)
        if product.outputs is None:
            for leftover in product.leftovers:
                remove(leftover)
        self._tidy(product)

    def _claim(self, product: Product, place: Path, before: Manifest | None, files: dict[str, str]) -> None:
        origin = self._origins[product.step]
        images = (before.origin.images if before else {}) | origin.images
        Manifest(product.step, Origin(origin.steps, images), files).write(self._manifests(product)[place])

    def _manifests(self, product: Product) -> dict[Path, Path]:
        return {place: manifest_path(place, is_folder=product.outputs is not None) for place in product.places}

    def _tidy(self, product: Product) -> None:
        for place in product.places:
            remove_abandoned(place if product.outputs is not None else place.parent)

    def _origin(self, product: Product) -> Origin:
        steps: dict[str, dict[str, dict[str, Any]]] = {}
        inputs: dict[str, str] = {}
        for setting, given in product.inputs.items():
            if isinstance(given, str):
                inputs[setting] = given
                continue
            source = self._source(given, is_folder=False)
            steps |= source.origin.steps if source else {}
            inputs[setting] = f"made by {source.step}" if source else sampled(given)
        parts: dict[str, list[str]] = {
            image_id: [part if isinstance(part, str) else sampled(part) for part in product.image_inputs(image_id)]
            for image_id in product.ids
        }
        for setting, (folder, file_of) in product.folders.items():
            source = self._source(folder, is_folder=True)
            steps |= source.origin.steps if source else {}
            inputs[setting] = f"made by {source.step}" if source else "not made by this project"
            if source is not None:
                self._refuse_strays(folder, source, product.ids)
            for image_id in product.ids:
                file = file_of(image_id)
                ours = source is not None and image_id in source.origin.images and not source.differs(file)
                parts[image_id].append(source.origin.images[image_id] if source and ours else _sampled_if_there(file))
        images = {image_id: digest(*parts[image_id]) for image_id in product.ids}
        if product.outputs is None:
            inputs["list of images"] = f"{len(images)} IDs ({digest(*images)})"
            inputs["images"] = digest(*images.values())
            images = {}
        settings = json.loads(json.dumps(product.settings))  # as a manifest gives them back: lists for tuples
        return Origin(steps | {product.step: {"settings": settings, "inputs": inputs}}, images)

    def _source(self, place: Path, *, is_folder: bool) -> Manifest | None:
        """Which step made a checkpoint or a folder, and from what; None if no manifest says so."""
        if place in self._makers:
            return self._makers[place]
        path = manifest_path(place, is_folder=is_folder)
        try:
            manifest = Manifest.read(path)
        except InputError as error:
            self.problems.append(f"{error}: remove it to take what it is about as somebody else's")
            manifest = None
        if manifest is None or (not is_folder and not manifest.is_finished(place)):
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

    def _refuse_strays(self, folder: Path, manifest: Manifest, ids: Sequence[str]) -> None:
        strays = [image_id for image_id in ids if image_id not in manifest.origin.images]
        text = (
            f"{folder}: its manifest says nothing of the files of {len(strays)} of {len(ids)} images "
            f"({some(strays)}): make them by {manifest.step}, or remove {manifest_path(folder, is_folder=True)} "
            "to take all files there as somebody else's"
        )
        if strays and text not in self.problems:
            self.problems.append(text)

    def _read(self, path: Path) -> Manifest | None:
        try:
            return Manifest.read(path)
        except InputError:
            if self._overwrite:
                return None
            raise

    def _compare(self, product: Product, place: Path, differences: dict[str, list[str]]) -> Manifest | None:
        """Add what stands against making `product` in a place where something is already; returns its manifest."""
        try:
            manifest = Manifest.read(self._manifests(product)[place])
        except InputError as error:
            if not self._overwrite:
                self.problems.append(f"{error}: pass --overwrite to make its files anew")
            return None
        if self._overwrite:
            return manifest
        text = difference(manifest.origin, self._origins[product.step], product.step) if manifest else ""
        if text:
            differences.setdefault(text, []).append(str(place))
            return manifest
        foreign = [str(path) for path in self._foreign(product, place, manifest)]
        if foreign:
            self.problems.append(
                f"{some(foreign)}: there already, and not as {product.step} left it, as far as a manifest tells: "
                f"pass --overwrite to replace it, --no_{product.step}_pass to use it, or name another output"
            )
        return manifest

    def _foreign(self, product: Product, place: Path, manifest: Manifest | None) -> list[Path]:
        """Files in the way that are somebody else's."""
        if manifest is None:
            here = [file for file in product.files() if place in (file, file.parent)]
            return [file for file in (*here, *product.leftovers) if os.path.isfile(file)]
        if product.outputs is None:
            return [place] if manifest.differs(place) else []
        found = []
        for image_id in product.ids:
            here = [file for file in product.outputs(image_id) if file.parent == place and os.path.isfile(file)]
            claimed = image_id in manifest.origin.images
            # a damaged one is made again, whoever damaged it
            found += [file for file in here if not claimed or (manifest.differs(file) and not self._fault(file))]
        return found


def _sampled_if_there(path: Path) -> str:
    return sampled(path) if os.path.isfile(path) else "missing"
