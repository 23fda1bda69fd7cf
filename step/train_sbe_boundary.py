"""Train the boundary network on the synthesised labels (docs/method.md, section 5)."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from misc.config import Config
from misc.formats.checkpoint import load_backbone, save_weights
from misc.method.boundary_loss import boundary_loss
from misc.run.device import loading_threads, pick_device, to_device
from misc.run.distributed import is_first
from misc.run.plan import OneFile, Plan
from misc.train.loop import Recipe, steps_per_epoch, train
from misc.train.optim import PolySGD
from misc.train.progress import unfinished_path
from net.cpu.fast import fast_on_cpu
from net.resnet50_sbe import ResNet50SBE
from step.shared.data import DataSet
from step.shared.inputs import Backbone, BoundaryLabels, ImageList, Images, SaliencyMaps, Training, progress_of
from voc12.datasets import BoundaryTraining

NEEDS_LESS = "lower --bes_batch_size, or say --amp"


def plan(args: Config) -> Plan:
    data, images = DataSet(args), ImageList(args.train_aug_list)
    ids = images.ids
    saliency = [SaliencyMaps(data, ids)] if args.uses_saliency else []
    return Plan(
        ids=ids,
        reads=[
            images,
            Images(data, ids),
            BoundaryLabels(args, ids),
            *saliency,
            Training("bes_batch_size", args.bes_batch_size, ids, args.tensorboard),
            Backbone(args.backbone_weights),
        ],
        makes=OneFile(Path(args.bes_weights_name), leftovers=[unfinished_path(args.bes_weights_name)]),
    )


def make(args: Config, ids: list[str]) -> None:
    """Train the heads on a frozen backbone and save the network."""
    data = DataSet(args)
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
    to_device(fast_on_cpu(model.eval()), device)
    recipe = Recipe(
        steps_per_epoch(len(ids), args.bes_batch_size) * args.bes_num_epoches,
        args.bes_batch_size,
        args.seed,
        workers=loading_threads(args.workers, device),
        device=device,
        amp=args.amp,
    )
    optimizer = PolySGD(
        [{"params": model.trained_parameters(), "lr": args.bes_learning_rate, "weight_decay": args.bes_weight_decay}],
        max_step=recipe.steps,
        momentum=args.sgd_momentum,
    )

    def terms(
        network: nn.Module, images: torch.Tensor, labels: torch.Tensor, saliency: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        loss = boundary_loss(network(images).float(), labels, saliency if args.uses_saliency else None)
        return {"loss": loss.total, "ground": loss.ground, "boundary": loss.boundary}

    progress = progress_of(args, args.bes_weights_name)
    train(
        model,
        optimizer,
        dataset,
        terms,
        recipe,
        desc="train_sbe_boundary",
        progress=progress,
        needs_less=NEEDS_LESS,
    )
    if is_first():
        model.resnet50 = unfolded
        save_weights(model, args.bes_weights_name)
