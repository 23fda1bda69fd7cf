"""What several steps say in the same words: the data set of a run, and checks of its parts."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import counter
from misc.files import remove
from misc.formats.cam_formats import EMPTY, FORMATS, FoundCAM, read_any_cam, says_format
from misc.formats.checkpoint import load_backbone, load_network
from misc.formats.images import image_size
from misc.formats.quick_look import cam_fault, file_fault, image_fault
from misc.run.distributed import gathered, is_first, launched, on_first, share
from misc.run.preflight import Preflight
from misc.train.progress import Progress
from voc12.image_labels import VOC_LABELS, VOC_NAMES, ImageLabels, read_class_names
from voc12.image_set import VOCRoot, merged, near_miss, read_list

LOOKED_AT = 16  # CAM files that are read before anything runs: reading all takes minutes

log = logging.getLogger(__name__)


class DataSet:
    """The VOC root, class names and image labels that the settings name; read when first asked for."""

    def __init__(self, args: Config) -> None:
        self._args = args
        self.root = VOCRoot(Path(args.voc12_root), Path(args.saliency_dir) if args.saliency_dir else None)

    @cached_property
    def class_names(self) -> list[str]:
        return read_class_names(self._args.class_names)

    @cached_property
    def labels(self) -> ImageLabels:
        path = self._args.cls_labels or (VOC_LABELS if self.class_names == read_class_names(VOC_NAMES) else None)
        return ImageLabels(path, self.root, self.class_names)

    def ids(self, path: str | Path, preflight: Preflight | None = None) -> list[str]:
        """The IDs of a list; with `preflight`, what is wrong with the list becomes one of its problems."""
        if preflight is not None:
            preflight.mentions(path)
        try:
            # what there is to notice is said when everything is looked at, not by every step again
            return read_list(path, notice=preflight.notice if preflight is not None else lambda text: None)
        except InputError as error:
            if preflight is None:
                raise
            preflight.problem(str(error))
            return []

    def label_text(self, image_id: str) -> str:
        """The classes of an image, for a manifest."""
        return f"{self.labels[image_id].tolist()} of {len(self.class_names)}"

    @property
    def evaluated_list(self) -> Path:
        return self.root.image_set(self._args.chainer_eval_set)

    def sweep_ids(self, preflight: Preflight | None = None) -> list[str]:
        """The IDs of sweep_list, none if it is not set."""
        return self.ids(self._args.sweep_list, preflight) if self._args.sweep_list else []


class Labelled(NamedTuple):
    """An image and the classes it shows, (K,) int64, for a worker process."""

    image_id: str
    labels: np.ndarray


def labelled(args: Config, ids: list[str]) -> list[Labelled]:
    """Look up the labels here: a worker would read all of them for every image."""
    labels = DataSet(args).labels
    return [Labelled(image_id, labels[image_id]) for image_id in ids]


def cam_path(args: Config, image_id: str) -> Path:
    return Path(args.cam_out_dir) / f"{image_id}.npy"


def image_cam(args: Config, image: Labelled, size: tuple[int, int], n_classes: int) -> FoundCAM:
    """The maps of an image of `size`, from a file in whatever format the settings say or it tells."""
    return read_any_cam(
        cam_path(args, image.image_id),
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
    remarks = sum(gathered(seen), Counter[str]())
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


def boundary_label_path(args: Config, image_id: str) -> Path:
    return Path(args.boundary_label_dir) / f"{image_id}.png"


def cam_scores_json(args: Config) -> Path:
    """What eval_cam says of the maps."""
    return Path(args.cam_out_dir) / "eval_cam.json"


def mask_scores_json(args: Config) -> Path:
    """What eval_sem_seg says of the masks."""
    return Path(args.sem_seg_out_dir) / "eval_sem_seg.json"


def scores_path(args: Config, image_id: str) -> Path:
    """The scores that the mask of an image was made of."""
    return Path(args.sem_seg_out_dir) / f"{image_id}_scores.npz"


def chosen(args: Config, *names: str) -> dict[str, Any]:
    """The settings that a step's files depend on, by name."""
    return {name: getattr(args, name) for name in names}


def unfinished(ids: list[str], outputs: Callable[[str], Sequence[Path]]) -> list[str]:
    """This process's share of the images some of whose files are missing or damaged, in order."""
    left = on_first(lambda: [i for i in ids if any(file_fault(path) for path in outputs(i))])
    if len(left) < len(ids):
        log.info("%d of %d images are finished already", len(ids) - len(left), len(ids))
    return share(left)


def progress_of(args: Config, checkpoint: str) -> Progress:
    """Where the training of a checkpoint keeps what it needs to go on."""
    return Progress(checkpoint, minutes=args.checkpoint_minutes, tensorboard=args.tensorboard)


def backbone_origin(args: Config) -> dict[str, Path | str]:
    """The backbone's weights as an input of a product: a name or a file."""
    by_name = args.backbone_weights in ("imagenet", "none")
    return {"backbone_weights": args.backbone_weights if by_name else Path(args.backbone_weights)}


def saliency_origin(args: Config, data: DataSet) -> dict[str, tuple[Path, Callable[[str], Path]]]:
    """The saliency maps, where they are used, as a folder that a product depends on."""
    return {"saliency_dir": (data.root.saliency_folder, data.root.saliency)} if args.uses_saliency else {}


def check_images(data: DataSet, ids: list[str], preflight: Preflight) -> None:
    preflight.reads("images", map(data.root.image, ids), probe=image_fault, remedy=near_miss)


def check_labels(data: DataSet, ids: list[str], preflight: Preflight) -> bool:
    """Look at the labels of images; returns whether all can be read."""
    try:
        read = data.labels.__getitem__
    except InputError as error:  # the file itself: told once, not for every image
        preflight.problem(str(error))
        return False
    return preflight.tries("image labels", ids, read)


def check_saliency(data: DataSet, ids: list[str], preflight: Preflight) -> None:
    remedy = (
        "run any saliency detector over JPEGImages (--saliency_dir says where its maps are), let this program make "
        "them (--make_saliency_pass true), or use --method bes, which needs none"
    )
    preflight.reads("saliency maps", map(data.root.saliency, ids), probe=image_fault, remedy=remedy)


def check_cams(args: Config, ids: list[str], preflight: Preflight, *, image: Callable[[str], Path]) -> None:
    """The CAMs of a step and the labels they are read by.

    image     ID → the file that tells the size of the maps
    """
    data = DataSet(args)
    given = [i for i in ids if not preflight.promised(cam_path(args, i))]
    if len(given) < len(ids) and args.cam_format not in ("auto", "sbe"):
        preflight.problem(f"--cam_format {args.cam_format}, but make_cam writes sbe: leave it at auto")
    remedy = "make_cam makes them for train_aug_list and infer_list; or point --cam_out_dir at your CAMs"
    preflight.reads("CAMs", [cam_path(args, i) for i in ids], probe=cam_fault, remedy=remedy)
    check_labels(data, ids, preflight)
    seen = Counter[str]()

    def read(item: tuple[Labelled, tuple[int, int]]) -> None:
        seen.update(image_cam(args, *item, len(data.class_names)).remarks)

    preflight.tries("CAMs looked at", _readable(args, data, _spread(given), image), read)
    preflight.attempt(partial(check_one_reading, args, seen))


def _spread(ids: list[str]) -> list[str]:
    """At most LOOKED_AT of a list, the first and the last among them."""
    return [ids[place] for place in np.linspace(0, len(ids) - 1, min(len(ids), LOOKED_AT)).astype(int)]


def _readable(
    args: Config, data: DataSet, ids: list[str], image: Callable[[str], Path]
) -> list[tuple[Labelled, tuple[int, int]]]:
    """The images with a CAM, labels and a size; what others lack, has been said."""
    found = []
    for image_id in ids:
        if cam_fault(cam_path(args, image_id)) is None:
            with suppress(InputError):
                found.append((Labelled(image_id, data.labels[image_id]), image_size(image(image_id))))
    return found


def check_evaluation(args: Config, preflight: Preflight) -> tuple[list[str], list[str]]:
    """What both evaluations read beside the predictions; returns the IDs of the evaluation list and of sweep_list."""
    data = DataSet(args)
    remedy = "without ground truth, say --no_eval_cam_pass --no_eval_sem_seg_pass"
    preflight.reads("list of ground truth", [data.evaluated_list], remedy=remedy)
    ids = data.ids(data.evaluated_list, preflight) if data.evaluated_list.is_file() else []
    sweep_ids = data.sweep_ids(preflight)
    truths = map(data.root.truth, merged(ids, sweep_ids))
    preflight.reads("ground truth masks", truths, probe=image_fault, remedy=remedy)
    preflight.attempt(lambda: data.class_names)
    preflight.attempt(partial(counter, args.eval_backend))
    return ids, sweep_ids


def check_batch(setting: str, batch_size: int, ids: list[str], preflight: Preflight) -> None:
    if 0 < len(ids) < batch_size:
        preflight.problem(f"{len(ids)} training images make no batch of {batch_size}: lower --{setting}")
    if batch_size < launched():
        preflight.problem(f"a batch of {batch_size} cannot be shared by {launched()} processes: raise --{setting}")


def check_network(what: str, path: Path, network: Callable[[], nn.Module], preflight: Preflight, remedy: str) -> None:
    """Read a network's checkpoint, unless an earlier step is to make it."""
    preflight.reads(what, [path], remedy=remedy)
    if not preflight.promised(path) and path.is_file():
        preflight.attempt(lambda: load_network(network, path))


def check_backbone(args: Config, preflight: Preflight) -> None:
    """Read the backbone's weights, unless an earlier step is to make them."""
    from net.resnet50 import resnet50_stride16

    preflight.mentions(args.backbone_weights)
    if not preflight.promised(Path(args.backbone_weights)):
        with torch.device("meta"):
            empty = resnet50_stride16()
        preflight.attempt(partial(load_backbone, empty, args.backbone_weights), once="backbone")
