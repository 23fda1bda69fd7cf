"""The CAMs that steps read, of make_cam or of another method: looking at them, reading them, saying what was seen."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from misc.config import Config
from misc.errors import InputError
from misc.files import remove
from misc.formats.cam_formats import DROPPED, EMPTY, FORMATS, FoundCAM, read_any_cam, says_format
from misc.formats.images import image_size
from misc.formats.quick_look import cam_fault
from misc.run.distributed import all_gather, is_first
from misc.run.plan import Folder, Input
from misc.run.preflight import Preflight
from step.shared import paths
from step.shared.data import DataSet, Labelled
from voc12.first_look import spread

NOTHING_LEFT = "no map is left"  # a remark of the first look alone, which no log shows
LOOKED_AT = 16  # CAM files that are read before anything runs: reading all takes minutes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cams(Input):
    """The CAM files of images.

    image     ID → the file that tells the size of the maps
    """

    args: Config
    data: DataSet
    ids: list[str]
    image: Callable[[str], Path]

    def look(self, preflight: Preflight) -> None:
        args, files = self.args, [paths.cam(self.args, image_id) for image_id in self.ids]
        given = [i for i, file in zip(self.ids, files, strict=True) if not preflight.is_to_come(file)]
        if len(given) < len(self.ids) and args.cam_format not in ("auto", "sbe"):
            preflight.problem(f"--cam_format {args.cam_format}, but make_cam writes sbe: leave it at auto")
        remedy = "make_cam makes them for train_aug_list and infer_list; or point --cam_out_dir at your CAMs"
        preflight.reads("CAMs", files, probe=cam_fault, remedy=remedy)
        seen, looked_at = Counter[str](), self._readable(spread(given, LOOKED_AT))

        def read(item: tuple[Labelled, tuple[int, int]]) -> None:
            found = read_cam_of(args, *item, len(self.data.class_names))
            seen.update(found.remarks)
            seen[NOTHING_LEFT] += DROPPED in found.remarks and len(found.cam.keys) == 0

        preflight.reads_each("CAMs looked at", looked_at, read)
        preflight.attempt(partial(check_one_reading, args, seen))
        if looked_at and seen[NOTHING_LEFT] == len(looked_at):
            preflight.problem(
                f"{args.cam_out_dir}: none of the {len(looked_at)} CAM files looked at has a map of a class that its "
                "image shows, so that --drop_extra_cams leaves nothing: do the labels count from 1?"
            )

    def folder(self) -> Folder:
        return Folder("cam_out_dir", Path(self.args.cam_out_dir), partial(paths.cam, self.args), self.ids)

    def _readable(self, ids: list[str]) -> list[tuple[Labelled, tuple[int, int]]]:
        """The images with a CAM, labels and a size. Other inputs report what the rest lacks."""
        found = []
        for image_id in ids:
            if cam_fault(paths.cam(self.args, image_id)) is None:
                with suppress(InputError):
                    found.append((Labelled(image_id, self.data.labels[image_id]), image_size(self.image(image_id))))
        return found


def read_cam_of(args: Config, image: Labelled, size: tuple[int, int], n_classes: int) -> FoundCAM:
    """The maps of an image of `size`, from a file in whatever format the settings say or it tells."""
    return read_any_cam(
        paths.cam(args, image.image_id),
        size=size,
        labels=image.labels,
        n_classes=n_classes,
        cam_format=args.cam_format,
        drop_extra=args.drop_extra_cams,
    )


def log_cams(args: Config, seen: Counter[str], made: Sequence[Path] = ()) -> None:
    """Say how many CAM files had which format, and what else was seen in them, in all processes.

    made      what this process made of them
    Raises    InputError if the labels told two ways to read one kind of file, which cannot both be right; then
              `made` is removed, lest it be kept as finished by a run that sees only the rest
    """
    remarks = sum(all_gather(seen), Counter[str]())
    formats = [remark for remark in map(says_format, FORMATS) if remark in remarks]
    files = sum(remarks[remark] for remark in (*formats, EMPTY))
    for remark in sorted(remarks):
        log.info("%d of %d CAM files %s", remarks[remark], files, remark)
    if len(formats) > 1:
        log.warning("CAM files of several formats: if all are of one method, say --cam_format")
    try:
        check_one_reading(args, remarks)
    except InputError:
        for path in made:
            remove(path)
        if is_first():
            raise
        raise SystemExit(2) from None  # the first process says it


def check_one_reading(args: Config, seen: Counter[str]) -> None:
    """InputError if some CAM files were read as classes and some as crf: those look alike, and a method writes one."""
    by_class, crf = (seen[says_format(name)] for name in ("classes", "crf"))
    if by_class and crf:
        raise InputError(
            f"{args.cam_out_dir}: by the labels of their images, {by_class} CAM files look like classes and {crf} like "
            "crf, but a method writes one of the two: say --cam_format"
        )
