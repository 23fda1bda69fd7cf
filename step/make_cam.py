"""Multi-scale class activation maps (SPEC 2)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.tables import report_paths
from misc.formats.cam_file import CAM, write_cam
from misc.formats.checkpoint import load_network
from misc.pixels import normalised_pair, stride4
from misc.run.device import autocast, loaders, pick_device, placed
from misc.run.ledger import Product
from misc.run.parallel import parallel_map
from misc.run.preflight import Preflight
from misc.train.loading import load_each
from net.resnet50_cam import ResNet50CAM
from step.shared.inputs import (
    DataSet,
    cam_path,
    cam_scores_json,
    check_images,
    check_labels,
    check_network,
    chosen,
    unfinished,
)
from voc12.datasets import ScaledImages
from voc12.image_set import merged

MAX_FLOOR = 1e-5  # published: added to the maximum a map is divided by


def check(args: Config, preflight: Preflight) -> None:
    data = DataSet(args)
    ids = merged(*(data.ids(path, preflight) for path in (args.train_aug_list, args.infer_list_or_default)))
    check_images(data, ids, preflight)
    check_labels(data, ids, preflight)
    remedy = "run train_cam first, or point --cam_weights_name at a checkpoint"
    checkpoint = Path(args.cam_weights_name)
    check_network(
        "the classifier's checkpoint", checkpoint, lambda: ResNet50CAM(len(data.class_names)), preflight, remedy
    )
    preflight.makes(
        Product(
            "make_cam",
            places=[Path(args.cam_out_dir)],
            settings=chosen(args, "cam_scales", "amp"),
            ids=ids,
            image_inputs=lambda i: (data.root.image(i), data.label_text(i)),
            inputs={"cam_weights_name": checkpoint},
            outputs=lambda i: [cam_path(args, i)],
            leftovers=report_paths(cam_scores_json(args)),
        )
    )


def run(args: Config) -> None:
    """Save the maps of every image that later steps use: those of train_aug_list and of infer_list."""
    data = DataSet(args)
    ids = merged(data.ids(args.train_aug_list), data.ids(args.infer_list_or_default))
    ids = unfinished(ids, lambda i: [cam_path(args, i)])
    if not ids:
        return
    device = pick_device(args.device)
    model = load_network(lambda: ResNet50CAM(len(data.class_names)), args.cam_weights_name)
    placed(model.for_inference(), device)
    images = load_each(ScaledImages(ids, data.root, args.cam_scales), len(ids), workers=loaders(args.workers, device))

    def cams() -> Iterator[tuple[str, CAM]]:
        for image_id, size, scaled in images:
            keys = data.labels[image_id]
            with autocast(device, args.amp):
                cam = CAM(keys, *multi_scale_cam(model, scaled, keys, size, device))
            if not np.isfinite(cam.cam_full).all():
                raise InputError(f"{args.cam_weights_name}: this network's maps of {image_id} are not finite")
            yield image_id, cam

    def save(item: tuple[str, CAM]) -> None:
        write_cam(cam_path(args, item[0]), item[1])

    for _ in parallel_map(save, cams(), workers=1, threads=True, desc="make_cam", total=len(ids)):
        pass


@torch.inference_mode()
def multi_scale_cam(
    model: ResNet50CAM,
    scaled: Sequence[torch.Tensor],
    keys: np.ndarray,
    size: tuple[int, int],
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Add up the maps of an image over its scales and divide each class by its maximum.

    scaled    for each scale (H·s, W·s, 3) uint8 RGB
    keys      (K,) int64, the classes of the image
    size      (H, W) of the image
    Returns   maps at stride 4 (K, h, w) and at full size (K, H, W), float32 in [0, 1].
    """
    height, width = size
    grid = stride4(height), stride4(width)
    padded = -(-height // 16) * 16, -(-width // 16) * 16
    if len(keys) == 0:
        return np.zeros((0, *grid), np.float32), np.zeros((0, *size), np.float32)
    classes = torch.from_numpy(keys).to(device)
    cam_s4 = torch.zeros((), device=device)
    cam_full = torch.zeros((), device=device)
    for image in scaled:
        cam = model.cam(normalised_pair(image, device), classes)[None].float()
        cam_s4 = cam_s4 + F.interpolate(cam, grid, mode="bilinear", align_corners=False)[0]
        cam_full = cam_full + F.interpolate(cam, padded, mode="bilinear", align_corners=False)[0]
    cam_full = cam_full[:, :height, :width]
    return _over_maximum(cam_s4), _over_maximum(cam_full)


def _over_maximum(cam: torch.Tensor) -> np.ndarray:
    return (cam / (cam.amax(dim=(1, 2), keepdim=True) + MAX_FLOOR)).cpu().numpy()
