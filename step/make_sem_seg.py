"""Propagate the CAMs within the predicted boundaries into pseudo masks (SPEC 6)."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from misc.cam_file import read_cam
from misc.checkpoint import load_weights
from misc.config import Config
from misc.crf import DenseCRF
from misc.device import autocast, pick_device, placed, threads_beside, workers_beside_network
from misc.errors import InputError
from misc.image_io import normalised_pair, read_image, write_grey, write_mask
from misc.loading import load_each
from misc.manifest import Product
from misc.parallel import parallel_map
from misc.preflight import Preflight
from misc.random_walk import random_walk
from net.resnet50_sbe import ResNet50SBE
from step.common import DataSet, cam_path, check_cams, check_images, check_network, chosen, unfinished
from step.masks import class_numbers, strongest
from voc12.datasets import ScaledImages

MOST_LOADERS = 2  # decoding an image takes a fiftieth of what is done with it
CRF_REACH = 20  # sxy of the bilateral filter, pixels


class Propagated(NamedTuple):
    """One image after its walk.

    winners   (H, W) uint8, index in [background, classes of keys…]
    keys      (K,) int64
    edge      (h, w) float32 in [0, 1]
    """

    image_id: str
    winners: np.ndarray
    keys: np.ndarray
    edge: np.ndarray


def check(args: Config, preflight: Preflight) -> None:
    data = DataSet(args)
    ids = data.ids(args.infer_list_or_default, preflight)
    check_images(data, ids, preflight)
    check_cams(args, ids, preflight)
    remedy = "run train_sbe_boundary first, or point --bes_weights_name at a checkpoint"
    checkpoint = Path(args.bes_weights_name)
    check_network("the boundary network's checkpoint", checkpoint, ResNet50SBE, preflight, remedy)
    preflight.makes(
        Product(
            "make_sem_seg",
            places=[Path(args.sem_seg_out_dir)],
            settings=chosen(args, "beta", "exp_times", "sem_seg_bg_thres", "amp"),
            ids=ids,
            image_inputs=lambda i: [data.root.image(i)],
            inputs={"bes_weights_name": checkpoint},
            folders={"cam_out_dir": (Path(args.cam_out_dir), partial(cam_path, args))},
            outputs=partial(mask_paths, args),
        )
    )


def mask_paths(args: Config, image_id: str) -> tuple[Path, Path, Path]:
    """The mask, the mask after the CRF, and the boundary map of an image."""
    folder = Path(args.sem_seg_out_dir)
    return folder / f"{image_id}.png", folder / f"{image_id}_crf.png", folder / f"{image_id}_edge.png"


def run(args: Config) -> None:
    """Save a mask, a mask after CRF and a boundary map for every image of infer_list."""
    data = DataSet(args)
    ids = unfinished(data.ids(args.infer_list_or_default), partial(mask_paths, args))
    if not ids:
        return
    finish = partial(refine_and_save, args=args, data=data)
    device = pick_device(args.device)
    workers = workers_beside_network(args.workers, device)
    with threads_beside(workers):
        walked = propagate(args, data, ids, device)
        for _ in parallel_map(finish, walked, workers=workers, desc="make_sem_seg", total=len(ids)):
            pass


def propagate(args: Config, data: DataSet, ids: list[str], device: torch.device) -> Iterator[Propagated]:
    """Predict the boundaries of each image and let its CAM walk within them."""
    model = ResNet50SBE()
    load_weights(model, args.bes_weights_name)
    placed(model.for_inference(), device)
    images = load_each(ScaledImages(ids, data.root, (1.0,)), len(ids), workers=min(args.workers, MOST_LOADERS))
    for image_id, size, (image,) in images:
        cam = read_cam(cam_path(args, image_id), size=tuple(size), n_classes=len(data.class_names))
        with torch.inference_mode(), autocast(device, args.amp):
            edge = model.edge(normalised_pair(image, device)).float()
        if not edge.isfinite().all():
            raise InputError(f"{args.bes_weights_name}: this network's boundaries of {image_id} are not finite")
        cam_s4 = torch.from_numpy(cam.cam_s4).to(device)
        scores = propagated_scores(cam_s4, edge, tuple(size), beta=args.beta, exp_times=args.exp_times)
        winners = strongest(scores, args.sem_seg_bg_thres).astype(np.uint8)
        yield Propagated(image_id, winners, cam.keys, edge.cpu().numpy())


@torch.inference_mode()
def propagated_scores(
    cam_s4: torch.Tensor, edge: torch.Tensor, size: tuple[int, int], *, beta: float, exp_times: int
) -> np.ndarray:
    """Class scores after the walk, at the size of the image.

    cam_s4    (K, h, w) float32
    edge      (h, w) float32 in [0, 1]
    size      (H, W)
    Returns   (K, H, W) float32; the largest of them all is 1.
    """
    if len(cam_s4) == 0:
        return np.zeros((0, *size), np.float32)
    walked = random_walk(cam_s4, edge, beta=beta, exp_times=exp_times)
    full = F.interpolate(walked[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    full = full[:, : size[0], : size[1]]
    # a CAM that is zero everywhere stays so, and its mask background
    return (full / full.max().clamp_min(torch.finfo(full.dtype).tiny)).cpu().numpy()


def refine_and_save(item: Propagated, *, args: Config, data: DataSet) -> None:
    """Run the CRF on one image's winners and write its three files."""
    mask_path, crf_path, edge_path = mask_paths(args, item.image_id)
    numbers = class_numbers(item.keys)
    image = read_image(data.root.image(item.image_id))
    refined = DenseCRF(image, len(numbers), sxy=CRF_REACH).refine(item.winners)
    write_mask(mask_path, numbers[item.winners])
    write_mask(crf_path, numbers[refined])
    write_grey(edge_path, (item.edge * 255).astype(np.uint8))
