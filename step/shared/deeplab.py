"""What the steps of the second stage share: their inputs, and how a network's maps become labels."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import VOID
from misc.formats.images import image_size
from misc.formats.quick_look import image_fault
from misc.run.plan import Folder, Input
from misc.run.preflight import Preflight
from net.deeplab_v2 import DeepLabV2
from net.deeplab_weights import initial_network, trained_network
from step.shared import paths
from step.shared.data import DataSet
from step.shared.values import compare_with_labels, look_at_truth
from voc12.datasets import read_mask
from voc12.first_look import misplaced_mask, spread
from voc12.image_set import other_truth

LOOKED_AT = 64  # masks that are read before anything runs
NEARLY_ALL = 0.99  # share of the background from which on a set of masks is taken for a failure

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MasksToLearnFrom(Input):
    """The pseudo masks of the training images, ours or anybody's."""

    args: Config
    data: DataSet
    ids: list[str]

    def look(self, preflight: Preflight) -> None:
        files = {image_id: paths.deeplab_mask(self.args, image_id) for image_id in self.ids}
        preflight.reads("masks to learn from", files.values(), probe=image_fault, remedy=self._remedy_for)
        given = [image_id for image_id, file in files.items() if not preflight.is_to_come(file) and file.is_file()]
        looked_at = [i for i in spread(given, LOOKED_AT) if self.data.root.image(i).is_file()]
        if preflight.reads_each(
            "masks to learn from looked at", looked_at, partial(read_mask_of, self.args, self.data)
        ):
            preflight.attempt(partial(check_background, self.args, self.data, looked_at))
            compare_with_labels(preflight, self.data, looked_at, partial(paths.deeplab_mask, self.args))

    def _remedy_for(self, missing: Path) -> str:
        plain = missing.with_name(f"{missing.stem.removesuffix(self.args.deeplab_mask_suffix)}.png")
        made = any(paths.deeplab_mask(self.args, image_id).is_file() for image_id in self.ids)
        if plain != missing and plain.is_file() and not made:
            return f"{plain} is there: say --deeplab_mask_suffix none"
        return (
            f"make_sem_seg makes them for infer_list (--infer_list {self.args.train_aug_list}); others: "
            "--deeplab_mask_dir and --deeplab_mask_suffix, with a list of their images as --train_aug_list"
        )

    def folder(self) -> Folder:
        place = Path(self.args.deeplab_mask_dir_or_default)
        return Folder("deeplab_mask_dir", place, partial(paths.deeplab_mask, self.args), self.ids)


def read_mask_of(args: Config, data: DataSet, image_id: str) -> np.ndarray:
    """The mask to learn from, (H, W) uint8, of one image; InputError if it does not fit."""
    return read_mask(paths.deeplab_mask(args, image_id), image_size(data.root.image(image_id)), data.n_labels)


def check_background(args: Config, data: DataSet, ids: list[str]) -> None:
    """InputError if masks show next to nothing: the network would learn to say background, at a small loss."""
    counts = sum((np.bincount(read_mask_of(args, data, i).ravel(), minlength=256) for i in ids), np.zeros(256, int))
    known = counts[:VOID].sum()
    if len(ids) and counts[0] >= NEARLY_ALL * known:
        share = f"{100 * counts[0] / known:.2f} % of their pixels are background" if known else "all is void"
        if known and counts[VOID] > counts[1:VOID].sum():
            share += ", or 255, which is void, not a class (python -m voc12.convert masks with --binary makes it one)"
        raise InputError(
            f"{args.deeplab_mask_dir_or_default}: {len(ids)} masks looked at, {share}: nothing to learn from; look at "
            "them (--deeplab_mask_dir, --deeplab_mask_suffix), or lower --sem_seg_bg_thres and make them anew"
        )


@dataclass(frozen=True)
class InitialWeights(Input):
    """The weights that DeepLab-v2 starts from."""

    args: Config
    data: DataSet

    def look(self, preflight: Preflight) -> None:
        weights = self.args.deeplab_backbone_weights
        preflight.mentions(weights)
        if not preflight.is_to_come(Path(weights)):
            preflight.attempt(partial(start_network, self.args, self.data, preflight.notice))

    def whole(self) -> dict[str, Path | str]:
        weights = self.args.deeplab_backbone_weights
        named = weights if weights == "imagenet" else Path(weights)
        return {"deeplab_backbone_weights": named, "number of labels": str(self.data.n_labels)}


def start_network(args: Config, data: DataSet, notice: Callable[[str], None] = log.debug) -> DeepLabV2:
    weights = args.deeplab_backbone_weights
    return initial_network(weights, data.n_labels, depth=args.deeplab_depth, seed=args.seed, notice=notice)


@dataclass(frozen=True)
class DeepLabCheckpoint(Input):
    """A trained DeepLab-v2."""

    args: Config
    data: DataSet

    def look(self, preflight: Preflight) -> None:
        path = Path(self.args.deeplab_weights_name)
        remedy = "run train_deeplab first, or point --deeplab_weights_name at a checkpoint"
        preflight.reads("the checkpoint of train_deeplab", [path], remedy=remedy)
        if not preflight.is_to_come(path) and path.is_file():
            preflight.attempt(lambda: trained_network(path, self.data.n_labels, notice=preflight.notice))

    def whole(self) -> dict[str, Path | str]:
        return {"deeplab_weights_name": Path(self.args.deeplab_weights_name)}


@dataclass(frozen=True)
class ValidationTruth(Input):
    """Ground truth of the images on which a training is watched."""

    data: DataSet
    ids: list[str]

    def look(self, preflight: Preflight) -> None:
        remedy = "--deeplab_validate_every 0 watches the training without any"
        truths = [self.data.root.truth(image_id) for image_id in self.ids]
        preflight.reads(
            "ground truth masks",
            truths,
            probe=image_fault,
            remedy=lambda path: (other_truth(path) or misplaced_mask(path)) + remedy,
        )
        look_at_truth(preflight, self.data, self.ids)


@dataclass(frozen=True)
class Predictions(Input):
    """DeepLab-v2's masks, before and after the CRF."""

    args: Config
    ids: list[str]

    def look(self, preflight: Preflight) -> None:
        for kind in (paths.prediction, paths.crf_prediction):
            files = [kind(self.args, image_id) for image_id in self.ids]
            remedy = "run make_deeplab_seg on them first (--deeplab_infer_list)"
            preflight.reads("predictions", files, probe=image_fault, remedy=remedy)

    def folder(self) -> Folder:
        file_of = partial(paths.prediction, self.args)
        return Folder("deeplab_out_dir", Path(self.args.deeplab_out_dir), file_of, self.ids)


def probabilities_of(logits: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """The probability of each label at each pixel, averaged over the maps.

    logits    (1, C+1, h, w) each, of any sizes
    size      (H, W) of the image
    Returns   (C+1, H, W) float32
    """
    total = sum(
        F.interpolate(part.float(), size, mode="bilinear", align_corners=False)[0].softmax(dim=0) for part in logits
    )
    return torch.as_tensor(total) / len(logits)
