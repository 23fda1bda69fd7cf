"""Fit a ResNet-50 on the image labels of a small set, where the ImageNet weights are not at hand.

An ordinary training: batch norm with batch statistics, all layers, AdamW with a one-cycle rate. One process
does it, where there are several: the statistics are those of a whole batch. The
result is a torchvision state dict that the chain reads through `backbone_weights` as any other.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from misc.config import Config
from misc.formats.checkpoint import save_weights
from misc.run.device import loading_threads, pick_device, to_device
from misc.run.plan import OneFile, Plan
from misc.train.loop import Recipe, train
from misc.train.optim import OneCycleAdamW
from misc.train.progress import unfinished_path
from net.cpu.fast import fast_on_cpu
from net.resnet50 import resnet50_stride16, stem
from step.shared.data import DataSet
from step.shared.inputs import ImageList, Images, Labels, Training, progress_of
from voc12.datasets import ClassifierTraining

WEIGHT_DECAY = 0.05


def plan(args: Config) -> Plan:
    data, images = DataSet(args), ImageList(args.train_aug_list)
    ids = images.ids
    training = Training("backbone_batch_size", args.backbone_batch_size, ids, args.tensorboard, alone=True)
    return Plan(
        ids=ids,
        reads=[images, Images(data, ids), Labels(data, ids, learnt=ids), training],
        makes=OneFile(Path(args.backbone_out), leftovers=[unfinished_path(args.backbone_out)]),
    )


def make(args: Config, ids: list[str]) -> None:
    """Train for backbone_steps batches and save the network as backbone_out."""
    data = DataSet(args)
    crop = args.backbone_crop_size
    dataset = ClassifierTraining(
        ids, data.root, data.labels, crop=crop, long_side=(crop * 7 // 8, crop * 9 // 8), seed=args.seed
    )
    torch.manual_seed(args.seed)
    device = pick_device(args.device)
    model = Classifier(len(data.class_names))
    to_device(fast_on_cpu(model), device)
    optimizer = OneCycleAdamW(
        model.parameters(), max_rate=args.backbone_learning_rate, steps=args.backbone_steps, weight_decay=WEIGHT_DECAY
    )

    def terms(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": F.multilabel_soft_margin_loss(network(images), labels)}

    train(
        model,
        optimizer,
        dataset,
        terms,
        Recipe(
            args.backbone_steps,
            args.backbone_batch_size,
            args.seed,
            workers=loading_threads(args.workers, device),
            device=device,
        ),
        desc="train_backbone",
        progress=progress_of(args, args.backbone_out),
        needs_less="lower --backbone_batch_size",
    )
    save_weights(model.backbone, args.backbone_out)


class Classifier(nn.Module):
    """The backbone of the chain with global average pooling and a linear classifier."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.backbone = resnet50_stride16()
        # without a bias a class must be seen somewhere, it cannot be told from what is absent
        self.backbone.fc = nn.Linear(2048, n_classes, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class logits (N, C) of normalised images (N, 3, H, W)."""
        b = self.backbone
        features = b.layer4(b.layer3(b.layer2(b.layer1(stem(b, images)))))
        return b.fc(features.mean(dim=(2, 3)))
