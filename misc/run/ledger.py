"""What one run is to make, against what lies there: kept if it is finished, refused if it is stale or foreign.

A finished file is opened once, when the ledger is made: its digest is compared with the manifest's. Where a killed run
had no time to note the digest, a quick look tells whether the file is whole.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from misc.errors import InputError
from misc.files import remove, remove_abandoned
from misc.run.manifest import Manifest, Origin, difference, digest, manifest_path, sampled, some
from misc.run.plan import Folder, OneFile, PerImage, Plan, Tables

log = logging.getLogger(__name__)


class Ledger:
    """The outputs of one run: what is there already, what may be kept, what must not be touched.

    plans      step → plan, in the order of the steps
    settings   step → the settings that name it; for steps that do not run, too
    overwrite  make anew whatever the run is to make
    fault      what is wrong with a file that a step wrote, if anything
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        *,
        settings: Callable[[str], dict[str, Any]],
        overwrite: bool,
        fault: Callable[[Path], str | None] = lambda path: None,
    ) -> None:
        self._plans, self._settings, self._overwrite, self._fault = plans, settings, overwrite, fault
        self._makers: dict[str, Manifest | None] = {}  # by the real path of each place that steps read
        self._origins: dict[str, Origin] = {}
        self._finished: dict[str, dict[Path, set[str]]] = {}
        self._digests: dict[str, str] = {}  # of what is read, by path: several steps read the images
        self.problems: list[str] = []
        differences: dict[str, list[str]] = {}  # what differs → the places it concerns
        for step, plan in plans.items():
            for folder in plan.folders():
                self._refuse_strays(folder)
            if isinstance(plan.makes, Tables):
                continue
            origin = self._origins[step] = self._origin(step, plan)
            self._finished[step] = {}
            for place in plan.places():
                before = self._compare(step, place, differences)
                claimed = before.origin.images if before and before.origin.steps == origin.steps else {}
                made = Manifest(step, Origin(origin.steps, claimed | origin.images), {})
                self._makers[os.path.realpath(place)] = made
        self._digests.clear()
        for text, places in differences.items():
            self.problems.append(
                f"{', '.join(places)}: made from something else ({text}): pass --overwrite to make anew what "
                "this run makes, or name other outputs"
            )

    def start_anew(self) -> None:
        """With overwrite: remove what the run is to make and claim its places, before the first step runs.

        From then on nothing of another origin is in the way: interrupted, the run goes on without overwrite.
        """
        for step, origin in self._origins.items():
            self._tidy(step)
            gone = [*self._plans[step].leftovers, *self._plans[step].files()]
            for path in gone:
                remove(path)
            names = {path.name for path in gone}
            for place in self._plans[step].places():
                before = self._read(step, place)
                same = before if before and before.origin.steps == origin.steps else None
                kept = {name: part for name, part in same.files.items() if name not in names} if same else {}
                self._claim(step, place, same, kept)
            self._finished[step] = {}
        self._overwrite = False

    def begin(self, step: str) -> list[str]:
        """Claim the step's outputs; returns the images that are left to make, all of them for one file or tables."""
        plan = self._plans[step]
        if isinstance(plan.makes, Tables):
            return list(plan.ids)
        self._tidy(step)
        left = self._left(plan, self._finished[step])
        to_make = set(plan.files(left)) if left else set()
        for place in plan.places():
            before = self._read(step, place)
            names = {path.name for path in to_make if place in (path, path.parent)}
            known = before.files.items() if before else ()
            # make writes all files of an image that is left; their digests are noted at the end
            self._claim(step, place, before, {name: part for name, part in known if name not in names})
        return left

    @staticmethod
    def _left(plan: Plan, finished: dict[Path, set[str]]) -> list[str]:
        """The images some of whose files are missing or damaged; all of them where one file is made of all."""
        if isinstance(plan.makes, OneFile):
            return [] if plan.makes.path.name in finished.get(plan.makes.path, ()) else list(plan.ids)
        assert isinstance(plan.makes, PerImage)
        files = plan.makes.files
        return [i for i in plan.ids if any(path.name not in finished.get(path.parent, ()) for path in files(i))]

    def end(self, step: str) -> None:
        """Note what the step has made."""
        plan = self._plans[step]
        if isinstance(plan.makes, Tables):
            return
        for place in plan.places():
            before = self._read(step, place)
            known = before.files if before else {}
            new = {path.name: sampled(path) for path in plan.files_at(place) if path.name not in known}
            self._claim(step, place, before, known | new)
        if isinstance(plan.makes, OneFile):
            for leftover in plan.makes.leftovers:
                remove(leftover)
        self._tidy(step)

    def _claim(self, step: str, place: Path, before: Manifest | None, files: dict[str, str]) -> None:
        origin = self._origins[step]
        images = (before.origin.images if before else {}) | origin.images
        Manifest(step, Origin(origin.steps, images), files).write(self._manifest_path(step, place))

    def _manifest_path(self, step: str, place: Path) -> Path:
        return manifest_path(place, is_folder=self._plans[step].has_folders)

    def _tidy(self, step: str) -> None:
        plan = self._plans[step]
        for place in plan.places():
            remove_abandoned(place if plan.has_folders else place.parent)

    def _origin(self, step: str, plan: Plan) -> Origin:
        steps: dict[str, dict[str, Any]] = {}
        inputs: dict[str, str] = {}
        histories: dict[str, str] = {}  # of each input by itself: two may come from different runs of one step
        for setting, given in [pair for item in plan.reads for pair in item.whole().items()]:
            if isinstance(given, str):
                inputs[setting] = given
                continue
            source = self._source(given, is_folder=False)
            if source is not None:
                steps |= source.origin.steps
                histories[setting] = _history(source)
            inputs[setting] = f"made by {source.step}" if source else self._digest(given)
        parts: dict[str, list[str]] = {
            image_id: [
                part if isinstance(part, str) else self._digest(part)
                for item in plan.reads
                for part in item.parts(image_id)
            ]
            for image_id in plan.ids
        }
        for folder in plan.folders():
            source = self._source(folder.path, is_folder=True)
            if source is not None:
                steps |= source.origin.steps
                histories[folder.setting] = _history(source)
            inputs[folder.setting] = f"made by {source.step}" if source else "not made by this project"
            for image_id in plan.ids:
                file = folder.file_of(image_id)
                if source and image_id in source.origin.images and not source.differs(file, self._digest):
                    parts[image_id].append(source.origin.images[image_id])
                else:
                    parts[image_id].append(self._digest(file) if os.path.isfile(file) else "missing")
        images = {image_id: digest(*parts[image_id]) for image_id in plan.ids}
        if isinstance(plan.makes, OneFile):
            inputs["list of images"] = f"{len(images)} IDs ({digest(*images)})"
            inputs["images"] = digest(*images.values())
            images = {}
        settings = _as_in_json(self._settings(step))
        own = {"version": plan.version, "settings": settings, "inputs": inputs, "histories": histories}
        return Origin(steps | {step: own}, images)

    def _digest(self, path: Path) -> str:
        """`sampled`, once a file."""
        name = os.fspath(path)
        if name not in self._digests:
            self._digests[name] = sampled(path)
        return self._digests[name]

    def _source(self, place: Path, *, is_folder: bool) -> Manifest | None:
        """Which step made a checkpoint or a folder, and from what; None if no manifest says so."""
        key = os.path.realpath(place)
        if key in self._makers:
            return self._makers[key]
        path = manifest_path(place, is_folder=is_folder)
        try:
            manifest = Manifest.read(path)
        except InputError as error:
            self.problems.append(f"{error}: remove it to take what it is about as somebody else's")
            manifest = None
        if manifest is None or (not is_folder and not manifest.is_finished(place)):
            log.info("%s: no manifest tells what it was made from: taken as it is", place)
            manifest = None
        self._makers[key] = manifest
        if manifest is None or manifest.step in self._plans:
            return manifest
        then = manifest.origin.steps.get(manifest.step, {"settings": {}})["settings"]
        now = _as_in_json(self._settings(manifest.step))
        for name, value in then.items():
            if now.get(name, value) != value:
                log.warning(
                    "%s: made with %s %s; now it is %s, but %s is off", place, name, value, now[name], manifest.step
                )
        return manifest

    def _refuse_strays(self, folder: Folder) -> None:
        """Refuse files that lie in an earlier step's folder but are not among those that its manifest tells of."""
        manifest = self._source(folder.path, is_folder=True)
        if manifest is None:
            return
        strays = [image_id for image_id in folder.ids if image_id not in manifest.origin.images]
        text = (
            f"{folder.path}: its manifest says nothing of the files of {len(strays)} of {len(folder.ids)} images "
            f"({some(strays)}): make them by {manifest.step}, or remove {manifest_path(folder.path, is_folder=True)} "
            "to take all files there as somebody else's"
        )
        if strays and text not in self.problems:
            self.problems.append(text)

    def _read(self, step: str, place: Path) -> Manifest | None:
        try:
            return Manifest.read(self._manifest_path(step, place))
        except InputError:
            if self._overwrite:
                return None
            raise

    def _compare(self, step: str, place: Path, differences: dict[str, list[str]]) -> Manifest | None:
        """Add what stands against writing into a place where something is already; returns its manifest."""
        try:
            manifest = Manifest.read(self._manifest_path(step, place))
        except InputError as error:
            if not self._overwrite:
                self.problems.append(f"{error}: pass --overwrite to make its files anew")
            return None
        if self._overwrite:
            return manifest
        text = difference(manifest.origin, self._origins[step], step) if manifest else ""
        if text:
            differences.setdefault(text, []).append(str(place))
            return manifest
        finished, foreign = self._look(step, place, manifest)
        self._finished[step][place] = finished
        if foreign:
            self.problems.append(
                f"{some([str(path) for path in foreign])}: there already, and not as {step} left it, as far as a "
                f"manifest tells: pass --overwrite to replace it, --no_{step}_pass to use it, or name another output"
            )
        return manifest

    def _look(self, step: str, place: Path, manifest: Manifest | None) -> tuple[set[str], list[Path]]:
        """The names of the step's finished files in a place, and the files that are somebody else's."""
        plan = self._plans[step]
        if manifest is None:
            return set(), [path for path in (*plan.files_at(place), *plan.leftovers) if os.path.isfile(path)]
        if isinstance(plan.makes, OneFile):
            return ({place.name} if manifest.is_finished(place) else set()), [place] if manifest.differs(place) else []
        assert isinstance(plan.makes, PerImage)
        finished: set[str] = set()
        foreign: list[Path] = []
        for image_id in plan.ids:
            claimed = image_id in manifest.origin.images
            for path in plan.makes.files(image_id):
                if path.parent != place or not os.path.isfile(path):
                    continue
                noted = manifest.files.get(path.name)
                if not claimed:
                    foreign.append(path)
                elif noted is not None and noted == sampled(path):
                    finished.add(path.name)
                elif not self._fault(path):  # a damaged one is made again, whoever damaged it
                    if noted is not None:
                        foreign.append(path)
                    else:  # the run was killed before it noted the digest
                        finished.add(path.name)
        return finished, foreign


def _history(source: Manifest) -> str:
    """What the files of a place come from, as a digest."""
    return digest(json.dumps(source.origin.steps, sort_keys=True))


def _as_in_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as a manifest gives them back: lists for tuples."""
    return json.loads(json.dumps(settings))
