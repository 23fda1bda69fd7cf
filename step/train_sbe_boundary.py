"""Train the boundary network on the synthesised labels (SPEC 5)."""

from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from misc.config import Config
from misc.formats.checkpoint import load_backbone, save_weights
from misc.formats.quick_look import image_fault
from misc.method.boundary_loss import boundary_loss
from misc.run.device import loaders, pick_device, placed
from misc.run.distributed import is_first
from misc.run.ledger import Product
from misc.run.preflight import Preflight
from misc.train.loop import steps_per_epoch, train
from misc.train.optim import PolySGD
from misc.train.progress import unfinished_path
from net.resnet50_sbe import ResNet50SBE
from step.shared.inputs import (
    DataSet,
    backbone_origin,
    boundary_label_path,
    check_backbone,
    check_batch,
    check_images,
    check_saliency,
    chosen,
    progress_of,
    saliency_origin,
)
from voc12.datasets import BoundaryTraining

SETTINGS = ("method", "bes_crop_size", "bes_batch_size", "bes_num_epoches", "bes_learning_rate", "bes_weight_decay",
            "sgd_momentum", "seed", "amp")  # fmt: skip


def check(args: Config, preflight: Preflight) -> None:
    data = DataSet(args)
    ids = data.ids(args.train_aug_list, preflight)
    check_images(data, ids, preflight)
    if args.uses_saliency:
        check_saliency(data, ids, preflight)
    labels = [boundary_label_path(args, image_id) for image_id in ids]
    preflight.reads("boundary labels", labels, probe=image_fault, remedy="run make_boundary_label first")
    check_batch("bes_batch_size", args.bes_batch_size, ids, preflight)
    check_backbone(args, preflight)
    preflight.makes(
        Product(
            "train_sbe_boundary",
            places=[Path(args.bes_weights_name)],
            settings=chosen(args, *SETTINGS),
            ids=ids,
            image_inputs=lambda i: [data.root.image(i)],
            inputs=backbone_origin(args),
            folders={
                "boundary_label_dir": (Path(args.boundary_label_dir), partial(boundary_label_path, args)),
                **saliency_origin(args, data),
            },
            leftovers=[unfinished_path(args.bes_weights_name)],
        )
    )


def run(args: Config) -> None:
    """Train the heads on a frozen backbone and save the network."""
    data = DataSet(args)
    ids = data.ids(args.train_aug_list)
    dataset = BoundaryTraining(
        ids,
        data.root,
        Path(args.boundary_label_dir),
        crop=args.bes_crop_size,
        seed=args.seed,
        uses_saliency=args.uses_saliency,
    )
    torch.manual_seed(args.seed)  # the heads' first values
    device = pick_device(args.device)
    model = ResNet50SBE()
    load_backbone(model.resnet50, args.backbone_weights)
    unfolded = deepcopy(model.resnet50)  # the frozen backbone is folded while the heads learn, and saved as it came
    placed(model.for_inference(), device)
    steps = steps_per_epoch(len(ids), args.bes_batch_size) * args.bes_num_epoches
    optimizer = PolySGD(
        [{"params": model.trained_parameters(), "lr": args.bes_learning_rate, "weight_decay": args.bes_weight_decay}],
        max_step=steps,
        momentum=args.sgd_momentum,
    )

    def terms(
        network: nn.Module, images: torch.Tensor, labels: torch.Tensor, saliency: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        loss = boundary_loss(network(images).float(), labels, saliency if args.uses_saliency else None)
        return {"loss": loss.total, "ground": loss.ground, "boundary": loss.boundary}

    train(
        model,
        optimizer,
        dataset,
        terms,
        steps=steps,
        batch_size=args.bes_batch_size,
        seed=args.seed,
        workers=loaders(args.workers, device),
        device=device,
        amp=args.amp,
        desc="train_sbe_boundary",
        progress=progress_of(args, args.bes_weights_name),
    )
    if is_first():
        model.resnet50 = unfolded
        save_weights(model, args.bes_weights_name)
