"""Train the attention-pooling classifier on image-level labels (SPEC 1)."""

import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from misc.checkpoint import load_backbone, save_weights
from misc.config import Config
from misc.device import loaders, pick_device, placed
from misc.loading import batches_of, load_batches
from misc.optim import PolySGD
from misc.preflight import Preflight
from misc.training import steps_per_epoch, train
from net.resnet50_cam import ResNet50CAM
from step.common import DataSet, check_backbone, check_batch, check_images
from voc12.datasets import ClassifierTraining, ClassifierValidation

log = logging.getLogger(__name__)


def check(args: Config, preflight: Preflight) -> None:
    data = DataSet(args)
    train_ids, val_ids = data.ids(args.train_aug_list, preflight), data.ids(args.val_list, preflight)
    check_images(data, train_ids + val_ids, preflight)
    preflight.labels(train_ids + val_ids, data.labels.__getitem__)
    check_batch("cam_batch_size", args.cam_batch_size, train_ids, preflight)
    check_backbone(args, preflight)
    preflight.writes([Path(args.cam_weights_name)])


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
    backbone, classifier = model.trained_parameters()
    optimizer = PolySGD(
        [
            {"params": backbone, "lr": args.cam_learning_rate, "weight_decay": args.cam_weight_decay},
            {"params": classifier, "lr": 10 * args.cam_learning_rate, "weight_decay": args.cam_weight_decay},
        ],
        max_step=steps_per_epoch(len(ids), args.cam_batch_size) * args.cam_num_epoches,
        momentum=args.sgd_momentum,
    )

    def terms(images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": F.multilabel_soft_margin_loss(model(images).float(), labels)}

    def validate(epoch: int) -> None:
        loss = validation_loss(
            model, validation, args.cam_batch_size, workers=loaders(args.workers, device), device=device
        )
        log.info("epoch %d/%d: validation loss %.4f", epoch, args.cam_num_epoches, loss)

    train(
        model,
        optimizer,
        training,
        terms,
        batch_size=args.cam_batch_size,
        epochs=args.cam_num_epoches,
        seed=args.seed,
        workers=loaders(args.workers, device),
        device=device,
        amp=args.amp,
        desc="train_cam",
        after_epoch=validate,
    )
    save_weights(model, args.cam_weights_name)


@torch.inference_mode()
def validation_loss(
    model: ResNet50CAM, dataset: ClassifierValidation, batch_size: int, *, workers: int, device: torch.device
) -> float:
    """Mean soft-margin loss over all validation images, the last batch included."""
    model.eval()
    total = 0.0
    batches = batches_of(len(dataset), batch_size)
    for images, labels in tqdm(load_batches(dataset, batches, workers=workers), total=len(batches), desc="validate"):
        images = images.to(device, memory_format=torch.channels_last)
        total += len(images) * F.multilabel_soft_margin_loss(model(images), labels.to(device)).item()
    return total / len(dataset)
