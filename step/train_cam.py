"""Train the attention-pooling classifier on image-level labels (SPEC 1)."""

import logging
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from misc.config import Config
from misc.formats.checkpoint import load_backbone, save_weights
from misc.run.device import loaders, pick_device, placed
from misc.run.distributed import is_first, share, summed
from misc.run.ledger import Product
from misc.run.log import progress_bar
from misc.run.preflight import Preflight
from misc.train.loading import batches_of, load_batches
from misc.train.loop import steps_per_epoch, train
from misc.train.optim import PolySGD
from misc.train.progress import unfinished_path
from net.resnet50_cam import ResNet50CAM
from step.shared.inputs import (
    DataSet,
    backbone_origin,
    check_backbone,
    check_batch,
    check_images,
    check_labels,
    chosen,
    progress_of,
)
from voc12.datasets import ClassifierTraining, ClassifierValidation
from voc12.image_set import merged

SETTINGS = ("cam_crop_size", "cam_resize_long", "cam_batch_size", "cam_num_epoches", "cam_learning_rate",
            "cam_weight_decay", "sgd_momentum", "seed", "amp")  # fmt: skip

log = logging.getLogger(__name__)


def check(args: Config, preflight: Preflight) -> None:
    data = DataSet(args)
    train_ids, val_ids = data.ids(args.train_aug_list, preflight), data.ids(args.val_list, preflight)
    check_images(data, merged(train_ids, val_ids), preflight)
    check_labels(data, merged(train_ids, val_ids), preflight)
    check_batch("cam_batch_size", args.cam_batch_size, train_ids, preflight)
    check_backbone(args, preflight)
    preflight.makes(
        Product(
            "train_cam",
            places=[Path(args.cam_weights_name)],
            settings=chosen(args, *SETTINGS),
            ids=train_ids,
            image_inputs=lambda i: (data.root.image(i), data.label_text(i)),
            inputs=backbone_origin(args),
            leftovers=[unfinished_path(args.cam_weights_name)],
        )
    )


def run(args: Config) -> None:
    """Fine-tune layer3, layer4 and the classifier; validate after each epoch; save the network."""
    data = DataSet(args)
    ids, val_ids = data.ids(args.train_aug_list), data.ids(args.val_list)
    training = ClassifierTraining(
        ids, data.root, data.labels, crop=args.cam_crop_size, long_side=args.cam_resize_long, seed=args.seed
    )
    validation = ClassifierValidation(val_ids, data.root, data.labels, crop=args.cam_crop_size)

    torch.manual_seed(args.seed)  # the classifier's first values
    device = pick_device(args.device)
    model = ResNet50CAM(len(data.class_names))
    load_backbone(model.resnet50, args.backbone_weights)
    placed(model, device)
    steps = steps_per_epoch(len(ids), args.cam_batch_size) * args.cam_num_epoches
    backbone, classifier = model.trained_parameters()
    optimizer = PolySGD(
        [
            {"params": backbone, "lr": args.cam_learning_rate, "weight_decay": args.cam_weight_decay},
            {"params": classifier, "lr": 10 * args.cam_learning_rate, "weight_decay": args.cam_weight_decay},
        ],
        max_step=steps,
        momentum=args.sgd_momentum,
    )

    def terms(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        part = len(images) / args.cam_batch_size
        return {"loss": part * F.multilabel_soft_margin_loss(network(images).float(), labels)}

    def validate(epoch: int) -> dict[str, float]:
        loss = validation_loss(
            model, validation, args.cam_batch_size, workers=loaders(args.workers, device), device=device
        )
        log.info("epoch %d/%d: validation loss %.4f", epoch, args.cam_num_epoches, loss)
        return {"validation_loss": loss}

    train(
        model,
        optimizer,
        training,
        terms,
        steps=steps,
        batch_size=args.cam_batch_size,
        seed=args.seed,
        workers=loaders(args.workers, device),
        device=device,
        amp=args.amp,
        desc="train_cam",
        progress=progress_of(args, args.cam_weights_name),
        after_epoch=validate,
    )
    if is_first():
        save_weights(model, args.cam_weights_name)


@torch.inference_mode()
def validation_loss(
    model: ResNet50CAM, dataset: ClassifierValidation, batch_size: int, *, workers: int, device: torch.device
) -> float:
    """Mean soft-margin loss over all validation images, the last batch included. The model is left as it is."""
    network = placed(deepcopy(model).for_inference(), device)
    total = torch.zeros((), dtype=torch.float64)
    batches = share(batches_of(len(dataset), batch_size))
    with progress_bar(len(batches) * batch_size, "validate") as bar:
        for images, labels in load_batches(dataset, batches, workers=workers):
            images = images.to(device, memory_format=torch.channels_last)
            total += len(images) * F.multilabel_soft_margin_loss(network(images), labels.to(device)).item()
            bar.update(len(images))
    return float(summed(total)) / len(dataset)
