"""What steps read: how each kind of input is looked at before a run, and what a step's files depend on in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import confusion_counter
from misc.evaluation.tables import Evaluated
from misc.formats.checkpoint import load_backbone, load_network
from misc.formats.quick_look import image_fault, photograph_fault
from misc.run.distributed import launched
from misc.run.plan import Folder, Input
from misc.run.preflight import Preflight
from misc.train.history import check_tensorboard
from misc.train.progress import Progress
from net.resnet50 import resnet50_stride16
from step.shared import paths
from step.shared.data import DataSet
from step.shared.values import look_at_range, look_at_saliency_maps, look_at_truth
from voc12.first_look import misplaced_mask
from voc12.image_set import merged, near_miss, other_lists, other_truth, read_list

NO_TRUTH = "without ground truth, say --no_eval_cam_pass --no_eval_sem_seg_pass"
NO_TRUTH_OF_DEEPLAB = "without ground truth, say --no_eval_deeplab_seg_pass"


class ImageList(Input):
    """A list of image IDs. What is wrong with it becomes a problem when it is looked at; until then it is empty."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    @cached_property
    def ids(self) -> list[str]:
        try:
            return read_list(self.path, notice=lambda text: None)
        except InputError:
            return []

    def look(self, preflight: Preflight) -> None:
        preflight.mentions(self.path)
        preflight.attempt(lambda: read_list(self.path, notice=preflight.notice))


@dataclass(frozen=True)
class Images(Input):
    data: DataSet
    ids: list[str]

    def look(self, preflight: Preflight) -> None:
        paths = [self.data.root.image(image_id) for image_id in self.ids]
        preflight.reads("images", paths, probe=photograph_fault, remedy=near_miss)
        preflight.attempt(partial(look_at_range, preflight, paths), once=f"range of images {hash(tuple(self.ids))}")

    def parts(self, image_id: str) -> list[Path]:
        return [self.data.root.image(image_id)]


@dataclass(frozen=True)
class Labels(Input):
    """The image-level labels.

    learnt    the images that a classifier learns from
    """

    data: DataSet
    ids: list[str]
    learnt: Sequence[str] = ()

    def look(self, preflight: Preflight) -> None:
        try:
            read = self.data.labels.__getitem__
        except InputError as error:  # the label file itself, not the label of each image
            preflight.problem(str(error))
        else:
            if preflight.reads_each("image labels", self.ids, read):
                self._look_for_classes(preflight)

    def _look_for_classes(self, preflight: Preflight) -> None:
        """Images without a class are counter-examples, but of what, if no image has one?"""
        where = self.data.labels.path or "the annotations"
        if self.learnt and not any(self.data.labels[image_id].size for image_id in self.learnt):
            preflight.problem(f"{where}: none of {len(self.learnt)} training images has a class: nothing to learn from")
        elif self.ids and not any(self.data.labels[image_id].size for image_id in self.ids):
            preflight.warning(f"{where}: none of {len(self.ids)} images has a class")

    def parts(self, image_id: str) -> list[str]:
        return [f"{self.data.labels[image_id].tolist()} of {len(self.data.class_names)}"]


@dataclass(frozen=True)
class SaliencyMaps(Input):
    data: DataSet
    ids: list[str]

    def look(self, preflight: Preflight) -> None:
        remedy = (
            "run any saliency detector over JPEGImages (--saliency_dir says where its maps are), let this program make "
            "them (--make_saliency_pass true), or use --method bes, which needs none"
        )
        preflight.reads("saliency maps", map(self.data.root.saliency, self.ids), probe=image_fault, remedy=remedy)
        look_at_saliency_maps(preflight, self.data, self.ids)

    def folder(self) -> Folder:
        root = self.data.root
        return Folder("saliency_dir", root.saliency_folder, root.saliency, self.ids)


@dataclass(frozen=True)
class BoundaryLabels(Input):
    args: Config
    ids: list[str]

    def look(self, preflight: Preflight) -> None:
        files = [paths.boundary_label(self.args, image_id) for image_id in self.ids]
        preflight.reads("boundary labels", files, probe=image_fault, remedy="run make_boundary_label first")

    def folder(self) -> Folder:
        file_of = partial(paths.boundary_label, self.args)
        return Folder("boundary_label_dir", Path(self.args.boundary_label_dir), file_of, self.ids)


@dataclass(frozen=True)
class Masks(Input):
    """Pseudo masks, before and after the CRF."""

    args: Config
    ids: list[str]

    def look(self, preflight: Preflight) -> None:
        for kind in (paths.mask, paths.crf_mask):
            files = [kind(self.args, image_id) for image_id in self.ids]
            remedy = "run make_sem_seg on them first (--infer_list)"
            preflight.reads("pseudo masks", files, probe=image_fault, remedy=remedy)

    def folder(self) -> Folder:
        return Folder("sem_seg_out_dir", Path(self.args.sem_seg_out_dir), partial(paths.mask, self.args), self.ids)


class GroundTruth(Input):
    """The lists of an evaluation and the masks of their images.

    evaluated_list   default: chainer_eval_set's, and sweep_list beside it
    evaluated   the IDs that are evaluated
    swept       the IDs of sweep_list, none if it is not set
    ids         the IDs of both
    """

    def __init__(self, args: Config, data: DataSet, evaluated_list: Path | None = None) -> None:
        self._args, self._data = args, data
        swept = [ImageList(args.sweep_list)] if args.sweep_list and evaluated_list is None else []
        self._path = evaluated_list or data.evaluated_list
        self._remedy = NO_TRUTH if evaluated_list is None else NO_TRUTH_OF_DEEPLAB
        self._lists = [ImageList(self._path), *swept]
        self.evaluated, self.swept = self._lists[0].ids, [image_id for more in self._lists[1:] for image_id in more.ids]
        self.ids = merged(self.evaluated, self.swept)

    @property
    def counted(self) -> Evaluated:
        """What the tables say of the images."""
        return Evaluated(self._path.stem, len(self.evaluated))

    def look(self, preflight: Preflight) -> None:
        preflight.reads("list of ground truth", [self._path], remedy=lambda path: other_lists(path) + self._remedy)
        for each in self._lists if self._path.is_file() else self._lists[1:]:
            each.look(preflight)
        truths = [self._data.root.truth(image_id) for image_id in self.ids]
        preflight.reads("ground truth masks", truths, probe=image_fault, remedy=self._remedy_for)
        written_over = [path for path in truths if preflight.is_to_come(path)]
        if written_over:
            preflight.problem(
                f"{written_over[0].parent} holds the ground truth, and a step is to write there: name another"
            )
        preflight.attempt(lambda: self._data.class_names)
        look_at_truth(preflight, self._data, self.ids)
        preflight.attempt(partial(confusion_counter, self._args.eval_backend))

    def _remedy_for(self, missing: Path) -> str:
        where = self._args.truth_dir
        given = f"--truth_dir {where} says where they are; " if where else ""
        return (other_truth(missing) or misplaced_mask(missing) or given) + self._remedy


@dataclass(frozen=True)
class Network(Input):
    """A checkpoint of a whole network.

    setting   that names it
    path      of the checkpoint
    build     makes such a network, with any weights
    maker     the step that trains it
    """

    setting: str
    path: str
    build: Callable[[], nn.Module]
    maker: str

    def look(self, preflight: Preflight) -> None:
        path = Path(self.path)
        remedy = f"run {self.maker} first, or point --{self.setting} at a checkpoint"
        preflight.reads(f"the checkpoint of {self.maker}", [path], remedy=remedy)
        if not preflight.is_to_come(path) and path.is_file():
            preflight.attempt(lambda: load_network(self.build, path, notice=preflight.notice))

    def whole(self) -> dict[str, Path | str]:
        return {self.setting: Path(self.path)}


@dataclass(frozen=True)
class Backbone(Input):
    """The weights that a training starts from.

    weights   `imagenet`, `none`, or a file
    """

    weights: str

    def look(self, preflight: Preflight) -> None:
        preflight.mentions(self.weights)
        if not preflight.is_to_come(Path(self.weights)):
            with torch.device("meta"):
                empty = resnet50_stride16()
            look = partial(load_backbone, empty, self.weights, notice=preflight.notice)
            preflight.attempt(look, once="backbone")

    def whole(self) -> dict[str, Path | str]:
        by_name = self.weights in ("imagenet", "none")
        return {"backbone_weights": self.weights if by_name else Path(self.weights)}


@dataclass(frozen=True)
class Training(Input):
    """What a training needs of its surroundings: images for a batch, a part of it for each process, TensorBoard.

    setting      that gives the batch size
    batch_size   of all processes together
    ids          the training images
    iter_size    such batches a step
    alone        one process trains, whatever torchrun started
    """

    setting: str
    batch_size: int
    ids: list[str]
    tensorboard: bool
    iter_size: int = 1
    alone: bool = False

    def look(self, preflight: Preflight) -> None:
        if 0 < len(self.ids) < self.batch_size * self.iter_size:
            size = str(self.batch_size) if self.iter_size == 1 else f"{self.batch_size} × {self.iter_size}"
            preflight.problem(f"{len(self.ids)} training images make no batch of {size}: lower --{self.setting}")
        if self.batch_size < launched() and not self.alone:
            preflight.problem(
                f"a batch of {self.batch_size} cannot be shared by {launched()} processes: raise --{self.setting}"
            )
        if self.tensorboard:
            preflight.attempt(check_tensorboard)


def progress_of(args: Config, checkpoint: str) -> Progress:
    """Where the training of a checkpoint keeps what it needs to go on."""
    return Progress(checkpoint, minutes=args.checkpoint_minutes, tensorboard=args.tensorboard)
