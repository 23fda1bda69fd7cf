"""Multi-scale class activation maps (SPEC 2)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from misc.cam_file import CAM, stride4, write_cam
from misc.checkpoint import load_weights
from misc.config import Config
from misc.device import pick_device, placed
from misc.loading import load_each
from misc.preflight import Preflight
from net.resnet50_cam import ResNet50CAM
from step.common import DataSet, cam_path, check_images
from voc12.datasets import ScaledPairs
from voc12.image_set import merged

MAX_FLOOR = 1e-5  # published: added to the maximum a map is divided by


def check(args: Config, preflight: Preflight) -> None:
    data = DataSet(args)
    ids = merged(*(data.ids(path, preflight) for path in (args.train_aug_list, args.infer_list_or_default)))
    check_images(data, ids, preflight)
    preflight.labels(ids, data.labels.__getitem__)
    remedy = "run train_cam first, or point --cam_weights_name at a checkpoint"
    preflight.reads("the classifier's checkpoint", [Path(args.cam_weights_name)], remedy=remedy)
    preflight.writes(cam_path(args, image_id) for image_id in ids)


def run(args: Config) -> None:
    """Save the maps of every image that later steps use: those of train_aug_list and of infer_list."""
    data = DataSet(args)
    ids = merged(data.ids(args.train_aug_list), data.ids(args.infer_list_or_default))
    device = pick_device(args.device)
    model = ResNet50CAM(len(data.class_names))
    load_weights(model, args.cam_weights_name)
    placed(model.for_inference(), device)
    images = load_each(ScaledPairs(ids, data.root, args.cam_scales), len(ids), workers=args.workers)
    for image_id, size, pairs in tqdm(images, total=len(ids), desc="make_cam", unit="image"):
        keys = data.labels[image_id]
        cam_s4, cam_full = multi_scale_cam(model, pairs, keys, size, device)
        write_cam(cam_path(args, image_id), CAM(keys, cam_s4, cam_full))


@torch.inference_mode()
def multi_scale_cam(
    model: ResNet50CAM,
    pairs: Sequence[torch.Tensor],
    keys: np.ndarray,
    size: tuple[int, int],
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Add up the maps of an image over its scales and divide each class by its maximum.

    pairs     for each scale (2, 3, H·s, W·s) float32, normalised: the image, its mirror image
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
    for pair in pairs:
        cam = model.cam(pair.to(device, memory_format=torch.channels_last), classes)[None]
        cam_s4 = cam_s4 + F.interpolate(cam, grid, mode="bilinear", align_corners=False)[0]
        cam_full = cam_full + F.interpolate(cam, padded, mode="bilinear", align_corners=False)[0]
    cam_full = cam_full[:, :height, :width]
    return _over_maximum(cam_s4), _over_maximum(cam_full)


def _over_maximum(cam: torch.Tensor) -> np.ndarray:
    return (cam / (cam.amax(dim=(1, 2), keepdim=True) + MAX_FLOOR)).cpu().numpy()
