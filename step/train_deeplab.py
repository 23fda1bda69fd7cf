"""Train DeepLab-v2 on the pseudo masks (docs/method.md, section 10)."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import Scores, confusion_matrix
from misc.formats.images import read_label_map
from misc.run.device import autocast, loading_threads, pick_device, to_device
from misc.run.distributed import all_sum_counts, is_first, on_first, own_part
from misc.run.plan import OneFile, Plan
from misc.train.loading import load_each
from misc.train.loop import Recipe, train
from misc.train.optim import DeepLabSGD, deeplab_groups
from misc.train.progress import unfinished_path
from misc.train.segmentation_loss import segmentation_losses
from net.deeplab_v2 import DeepLabV2, training_layout
from net.deeplab_weights import save_network
from step.shared import paths
from step.shared.cams import spread
from step.shared.data import DataSet
from step.shared.deeplab import (
    LOOKED_AT,
    InitialWeights,
    MasksToLearnFrom,
    ValidationTruth,
    check_background,
    probabilities_of,
    start_network,
)
from step.shared.inputs import ImageList, Images, Training, progress_of
from voc12.datasets import PreparedImages, SegmentationTraining
from voc12.image_set import merged, read_list

REMEDY = "lower --deeplab_learning_rate, or try --deeplab_loss balanced, with --overwrite and the other steps off"
NEEDS_LESS = "say --deeplab_checkpointing or --amp, or lower --deeplab_batch_size and raise --deeplab_iter_size as much"

log = logging.getLogger(__name__)


def plan(args: Config) -> Plan:
    data, trained = DataSet(args), ImageList(args.train_aug_list)
    ids = trained.ids
    watched, watched_ids = [], []  # the checkpoint does not depend on these
    if args.deeplab_validate_every:
        validated = ImageList(args.val_list)
        watched_ids = spread(validated.ids, args.deeplab_validate_images)
        watched = [validated, ValidationTruth(data, watched_ids)]
    return Plan(
        ids=ids,
        reads=[
            trained,
            Images(data, merged(ids, watched_ids)),
            MasksToLearnFrom(args, data, ids),
            Training("deeplab_batch_size", args.deeplab_batch_size, ids, args.tensorboard, args.deeplab_iter_size),
            InitialWeights(args, data),
            *watched,
        ],
        makes=OneFile(Path(args.deeplab_weights_name), leftovers=[unfinished_path(args.deeplab_weights_name)]),
        version=2,  # 1 took photographs as stored, whatever their EXIF orientation says
    )


def make(args: Config, ids: list[str]) -> None:
    """Fine-tune all convolutions; validate on the way if asked to; save the network."""
    data = DataSet(args)
    on_first(partial(check_background, args, data, spread(ids, LOOKED_AT)))  # masks that this run has made
    device = pick_device(args.device)
    model = start_network(args, data)
    log.info("starts from %s: a ResNet-%d as %s", args.deeplab_backbone_weights, model.depth, model.family)
    model.checkpointing = args.deeplab_checkpointing
    layout = training_layout(device)
    to_device(model, device, layout)
    dataset = SegmentationTraining(
        ids,
        data.root,
        partial(paths.deeplab_mask, args),
        n_labels=data.n_labels,
        scales=args.deeplab_scales,
        crop=args.deeplab_crop_size,
        pixels=model.family.pixels,
        seed=args.seed,
    )
    recipe = Recipe(
        args.deeplab_steps,
        args.deeplab_batch_size,
        args.seed,
        workers=loading_threads(args.workers, device),
        device=device,
        amp=args.amp,
        iter_size=args.deeplab_iter_size,
    )
    optimizer = DeepLabSGD(
        deeplab_groups(model.parameter_groups(), args.deeplab_learning_rate, args.deeplab_weight_decay),
        max_step=recipe.steps,
        momentum=args.deeplab_momentum,
    )

    def terms(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = [logits.float() for logits in network(images.contiguous(memory_format=layout))]
        return {"loss": segmentation_losses(maps, labels, balanced=args.deeplab_loss == "balanced").sum()}

    train(
        model,
        optimizer,
        dataset,
        terms,
        recipe,
        desc="train_deeplab",
        progress=progress_of(args, args.deeplab_weights_name),
        validate=partial(validate, model, args, data) if args.deeplab_validate_every else None,
        validate_every=args.deeplab_validate_every,
        remedy=REMEDY,
        needs_less=NEEDS_LESS,
        saves_epochs=False,  # of a small set there are thousands
    )
    if is_first():
        save_network(model, args.deeplab_weights_name)


@torch.inference_mode()
def validate(model: DeepLabV2, args: Config, data: DataSet) -> dict[str, float]:
    """How well the network does on images of val_list, without CRF; says so at once if it predicts one class only."""
    device = pick_device(args.device)
    ids = own_part(spread(read_list(args.val_list, notice=log.debug), args.deeplab_validate_images))
    images = PreparedImages(ids, data.root, (1.0,), model.family.pixels)
    confusion = np.zeros((data.n_labels, data.n_labels), np.int64)
    for image_id, size, (pixels,) in load_each(images, len(ids), workers=loading_threads(args.workers, device)):
        with autocast(device, args.amp):
            logits = model.predict(pixels[None].to(device, memory_format=training_layout(device)))
        labels = probabilities_of([logits], tuple(size)).argmax(dim=0).cpu().numpy()
        path = data.root.truth(image_id)
        try:
            confusion += confusion_matrix(read_label_map(path), labels, data.n_labels)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
    scores = Scores(all_sum_counts(confusion))
    predicted = np.flatnonzero(scores.predicted)
    if len(predicted) == 1:
        name = ["background", *data.class_names][predicted[0]]
        log.warning("the network predicts %s everywhere: if that stays so, look at the masks, %s", name, REMEDY)
    return {"validation_miou": scores.miou, "validation_accuracy": scores.pixel_accuracy}
