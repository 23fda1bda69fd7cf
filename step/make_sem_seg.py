"""Propagate the CAMs within the predicted boundaries into pseudo masks (docs/method.md, section 6)."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.tables import table_paths
from misc.formats.checkpoint import load_network
from misc.formats.images import read_image, write_grey, write_mask
from misc.formats.score_file import at_full_size, write_scores
from misc.method.masks import class_numbers, strongest
from misc.method.random_walk import random_walk
from misc.pixels import normalised_pair
from misc.run.device import autocast, pick_device, to_device, workers_beside_network
from misc.run.distributed import all_gather
from misc.run.memory import first_that_fits
from misc.run.parallel import parallel_map
from misc.run.plan import PerImage, Plan
from misc.train.loading import load_each
from net.cpu.fast import fast_on_cpu
from net.resnet50_sbe import ResNet50SBE
from step.shared import paths
from step.shared.cams import Cams, log_cams, read_cam_of
from step.shared.crf import CRFBackend, dense_crf_of
from step.shared.data import DataSet
from step.shared.inputs import ImageList, Images, Labels, Network
from voc12.datasets import ScaledImages

MOST_LOADERS = 2  # decoding an image takes a fiftieth of what is done with it
CRF_REACH = 20  # sxy of the bilateral filter, pixels
NEEDS_LESS = "say --amp, make the image smaller, or say --device cpu"

log = logging.getLogger(__name__)


class Propagated(NamedTuple):
    """One image after its walk.

    winners   (H, W) uint8, index in [background, classes of keys…]
    keys      (K,) int64
    edge      (h, w) float32 in [0, 1]
    scores_s4 (K, h, w) float32, if they are to be saved
    remarks   what is to be said of its CAM file
    """

    image_id: str
    winners: np.ndarray
    keys: np.ndarray
    edge: np.ndarray
    scores_s4: np.ndarray | None = None
    remarks: Sequence[str] = ()


def plan(args: Config) -> Plan:
    data, images = DataSet(args), ImageList(args.infer_list_or_default)
    ids = images.ids
    network = Network("bes_weights_name", args.bes_weights_name, ResNet50SBE, "train_sbe_boundary")
    # scores of earlier masks would stay beside those that this run makes without any
    stale_scores = [] if args.save_scores else [paths.scores(args, image_id) for image_id in ids]
    return Plan(
        ids=ids,
        reads=[
            images,
            Images(data, ids),
            Labels(data, ids),
            Cams(args, data, ids, data.root.image),
            network,
            CRFBackend(args),
        ],
        makes=PerImage(
            partial(mask_paths, args), leftovers=[*table_paths(paths.mask_scores_json(args)), *stale_scores]
        ),
    )


def mask_paths(args: Config, image_id: str) -> list[Path]:
    """All that is to be written for an image: mask, mask after the CRF, boundary map, scores if they are kept."""
    kinds = [paths.mask, paths.crf_mask, paths.edge, *([paths.scores] if args.save_scores else [])]
    return [kind(args, image_id) for kind in kinds]


def make(args: Config, ids: list[str]) -> None:
    """Save a mask, a mask after CRF and a boundary map, if asked for the scores too, for each image."""
    data = DataSet(args)
    seen, sizes = Counter[str](), Counter[str]()
    finish = partial(refine_and_save, args=args, data=data)
    device = pick_device(args.device)
    workers = workers_beside_network(args.workers, device)
    walked = propagate(args, data, ids, device)
    for saved in parallel_map(finish, walked, workers=workers, desc="make_sem_seg", total=len(ids)):
        seen.update(saved.remarks)
        sizes.update(files=saved.score_bytes > 0, bytes=saved.score_bytes)
    log_cams(args, seen, made=[path for image_id in ids for path in mask_paths(args, image_id)])
    total = sum(all_gather(sizes), Counter[str]())
    if total["files"]:
        log.info("%d files of scores, %d bytes an image", total["files"], round(total["bytes"] / total["files"]))


def propagate(args: Config, data: DataSet, ids: list[str], device: torch.device) -> Iterator[Propagated]:
    """Predict the boundaries of each image and let its CAM walk within them."""
    model = load_network(ResNet50SBE, args.bes_weights_name)
    to_device(fast_on_cpu(model.eval()), device)
    images = load_each(ScaledImages(ids, data.root, (1.0,)), len(ids), workers=min(args.workers, MOST_LOADERS))
    for item, (image_id, size, (image,)) in zip(data.labelled(ids), images, strict=True):
        cam, remarks = read_cam_of(args, item, tuple(size), len(data.class_names))
        ways = [partial(edge_of, model, image, device, amp=args.amp, apart=apart) for apart in (False, True)]
        edge = first_that_fits(ways, what=image_id, remedy=NEEDS_LESS)
        if not edge.isfinite().all():
            raise InputError(f"{args.bes_weights_name}: this network's boundaries of {image_id} are not finite")
        cam_s4 = torch.from_numpy(cam.cam_s4).to(device)
        scores_s4, scores = propagated_scores(cam_s4, edge, tuple(size), beta=args.beta, exp_times=args.exp_times)
        winners = strongest(scores, args.sem_seg_bg_thres)
        kept = scores_s4 if args.save_scores else None
        yield Propagated(image_id, winners, cam.keys, edge.cpu().numpy(), kept, remarks)


@torch.inference_mode()
def edge_of(model: ResNet50SBE, image: torch.Tensor, device: torch.device, *, amp: bool, apart: bool) -> torch.Tensor:
    """The boundary probability (h, w) float32 of an image (H, W, 3) uint8; apart: see ResNet50SBE.edge."""
    with autocast(device, amp):
        return model.edge(normalised_pair(image, device), apart=apart).float()


@torch.inference_mode()
def propagated_scores(
    cam_s4: torch.Tensor, edge: torch.Tensor, size: tuple[int, int], *, beta: float, exp_times: int
) -> tuple[np.ndarray, np.ndarray]:
    """Class scores after the walk.

    cam_s4    (K, h, w) float32
    edge      (h, w) float32 in [0, 1]
    size      (H, W)
    Returns   at stride 4 (K, h, w) and at the size of the image (K, H, W), float32; the largest of the latter is 1.
    """
    if len(cam_s4) == 0:
        return np.zeros((0, *edge.shape), np.float32), np.zeros((0, *size), np.float32)
    walked = random_walk(cam_s4, edge, beta=beta, exp_times=exp_times)
    full = at_full_size(walked, size)
    # a CAM that is zero everywhere stays so, and its mask background
    largest = full.max().clamp_min(torch.finfo(full.dtype).tiny)
    return (walked / largest).cpu().numpy(), (full / largest).cpu().numpy()


class Saved(NamedTuple):
    """What is to be said of an image whose files are written: of its CAM file, and how large its scores are."""

    remarks: Sequence[str]
    score_bytes: int


def refine_and_save(item: Propagated, *, args: Config, data: DataSet) -> Saved:
    """Run the CRF on one image's winners and write its files."""
    numbers = class_numbers(item.keys)
    image = read_image(data.root.image(item.image_id))
    refined = dense_crf_of(args, image, len(numbers), sxy=CRF_REACH).refine(item.winners)
    write_mask(paths.mask(args, item.image_id), numbers[item.winners])
    write_mask(paths.crf_mask(args, item.image_id), numbers[refined])
    write_grey(paths.edge(args, item.image_id), (item.edge * 255).astype(np.uint8))
    score_bytes = 0
    if item.scores_s4 is not None:
        path = paths.scores(args, item.image_id)
        score_bytes = write_scores(path, item.keys, item.scores_s4, item.winners.shape)
    return Saved(item.remarks, score_bytes)
