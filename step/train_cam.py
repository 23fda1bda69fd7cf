"""Train the attention-pooling classifier on image-level labels (docs/method.md, section 1)."""

import logging
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from misc.config import Config
from misc.formats.checkpoint import load_backbone, save_weights
from misc.run.device import loading_threads, pick_device, to_device
from misc.run.distributed import all_sum, is_first, own_part
from misc.run.log import progress_bar
from misc.run.plan import OneFile, Plan
from misc.train.loading import batches_of
from misc.train.loop import Recipe, steps_per_epoch, train
from misc.train.optim import PolySGD
from misc.train.progress import unfinished_path
from misc.train.transfer import batches_on
from net.cpu.fast import fast_on_cpu
from net.resnet50_cam import ResNet50CAM
from step.shared.data import DataSet
from step.shared.inputs import Backbone, ImageList, Images, Labels, Training, progress_of
from voc12.datasets import ClassifierTraining, ClassifierValidation
from voc12.image_set import merged, read_list

NEEDS_LESS = "lower --cam_batch_size, or say --amp"

log = logging.getLogger(__name__)


def plan(args: Config) -> Plan:
    data, trained, validated = DataSet(args), ImageList(args.train_aug_list), ImageList(args.val_list)
    shown = merged(trained.ids, validated.ids)
    return Plan(
        ids=trained.ids,
        reads=[
            trained,
            validated,
            Images(data, shown),
            Labels(data, shown, learnt=trained.ids),
            Training("cam_batch_size", args.cam_batch_size, trained.ids, args.tensorboard),
            Backbone(args.backbone_weights),
        ],
        makes=OneFile(Path(args.cam_weights_name), leftovers=[unfinished_path(args.cam_weights_name)]),
        version=2,  # 1 took photographs as stored, whatever their EXIF orientation says
    )


def make(args: Config, ids: list[str]) -> None:
    """Fine-tune layer3, layer4 and the classifier; validate after each epoch; save the network."""
    data = DataSet(args)
    training = ClassifierTraining(
        ids, data.root, data.labels, crop=args.cam_crop_size, long_side=args.cam_resize_long, seed=args.seed
    )
    val_ids = read_list(args.val_list, notice=log.debug)  # said when everything was looked at
    validation = ClassifierValidation(val_ids, data.root, data.labels, crop=args.cam_crop_size)

    torch.manual_seed(args.seed)  # the classifier's first values
    device = pick_device(args.device)
    model = ResNet50CAM(len(data.class_names))
    load_backbone(model.resnet50, args.backbone_weights)
    to_device(fast_on_cpu(model), device)
    recipe = Recipe(
        steps_per_epoch(len(ids), args.cam_batch_size) * args.cam_num_epoches,
        args.cam_batch_size,
        args.seed,
        workers=loading_threads(args.workers, device),
        device=device,
        amp=args.amp,
    )
    backbone, classifier = model.trained_parameters()
    optimizer = PolySGD(
        [
            {"params": backbone, "lr": args.cam_learning_rate, "weight_decay": args.cam_weight_decay},
            {"params": classifier, "lr": 10 * args.cam_learning_rate, "weight_decay": args.cam_weight_decay},
        ],
        max_step=recipe.steps,
        momentum=args.sgd_momentum,
    )

    def terms(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        part = len(images) / args.cam_batch_size
        return {"loss": part * F.multilabel_soft_margin_loss(network(images).float(), labels)}

    def validate() -> dict[str, float]:
        loss = validation_loss(model, validation, args.cam_batch_size, workers=recipe.workers, device=device)
        return {"validation_loss": loss}

    progress = progress_of(args, args.cam_weights_name)
    train(
        model,
        optimizer,
        training,
        terms,
        recipe,
        desc="train_cam",
        progress=progress,
        validate=validate,
        needs_less=NEEDS_LESS,
    )
    if is_first():
        save_weights(model, args.cam_weights_name)


@torch.inference_mode()
def validation_loss(
    model: ResNet50CAM, dataset: ClassifierValidation, batch_size: int, *, workers: int, device: torch.device
) -> float:
    """Mean soft-margin loss over all validation images, the last batch included. The model is left as it is."""
    network = to_device(fast_on_cpu(deepcopy(model).eval()), device)
    losses = []  # of a card, which need not wait after each of them
    batches = own_part(batches_of(len(dataset), batch_size))
    with progress_bar(len(batches) * batch_size, "validate") as bar:
        for images, labels in batches_on(device, dataset, batches, workers=workers):
            losses.append(F.multilabel_soft_margin_loss(network(images), labels))
            bar.update(len(images))
    total = torch.zeros((), dtype=torch.float64)
    for loss, batch in zip(losses, batches, strict=True):
        total += len(batch) * loss.item()
    return float(all_sum(total)) / len(dataset)
