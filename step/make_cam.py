"""Multi-scale class activation maps (docs/method.md, section 2)."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.tables import table_paths
from misc.formats.cam_file import CAM, write_cam
from misc.formats.checkpoint import load_network
from misc.pixels import normalised_pair, stride4
from misc.run.device import autocast, loading_threads, pick_device, to_device
from misc.run.parallel import parallel_map
from misc.run.plan import PerImage, Plan
from misc.train.loading import load_each
from net.cpu.fast import fast_on_cpu
from net.resnet50_cam import ResNet50CAM
from step.shared import paths
from step.shared.data import DataSet
from step.shared.inputs import ImageList, Images, Labels, Network
from voc12.datasets import ScaledImages
from voc12.image_set import merged

EPSILON = 1e-5  # published: added to the maximum that a map is divided by


def plan(args: Config) -> Plan:
    data = DataSet(args)
    lists = ImageList(args.train_aug_list), ImageList(args.infer_list_or_default)
    ids = merged(*(each.ids for each in lists))
    network = Network(
        "cam_weights_name", args.cam_weights_name, lambda: ResNet50CAM(len(data.class_names)), "train_cam"
    )
    return Plan(
        ids=ids,
        reads=[*lists, Images(data, ids), Labels(data, ids), network],
        makes=PerImage(lambda i: [paths.cam(args, i)], leftovers=table_paths(paths.cam_scores_json(args))),
    )


def make(args: Config, ids: list[str]) -> None:
    """Save the maps of images: later steps use those of train_aug_list and of infer_list."""
    data = DataSet(args)
    device = pick_device(args.device)
    model = load_network(lambda: ResNet50CAM(len(data.class_names)), args.cam_weights_name)
    to_device(fast_on_cpu(model.eval()), device)
    workers = loading_threads(args.workers, device)
    images = load_each(ScaledImages(ids, data.root, args.cam_scales), len(ids), workers=workers)

    def cams() -> Iterator[tuple[str, CAM]]:
        for image_id, size, scaled in images:
            keys = data.labels[image_id]
            with autocast(device, args.amp):
                cam = CAM(keys, *multi_scale_cam(model, scaled, keys, size, device))
            if not np.isfinite(cam.cam_full).all():
                raise InputError(f"{args.cam_weights_name}: this network's maps of {image_id} are not finite")
            yield image_id, cam

    def save(item: tuple[str, CAM]) -> None:
        write_cam(paths.cam(args, item[0]), item[1])

    for _ in parallel_map(save, cams(), workers=1, desc="make_cam", total=len(ids)):
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
    return divide_by_maximum(cam_s4), divide_by_maximum(cam_full)


def divide_by_maximum(cam: torch.Tensor) -> np.ndarray:
    return (cam / (cam.amax(dim=(1, 2), keepdim=True) + EPSILON)).cpu().numpy()
