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
from misc.method.masks import class_numbers, strongest, strongest_by_torch
from misc.method.random_walk import random_walk
from misc.pixels import normalised_pair
from misc.run.device import autocast, loading_threads, pick_device, to_device, workers_beside_network
from misc.run.distributed import all_gather
from misc.run.memory import first_that_fits
from misc.run.parallel import MOST_BYTES, ordered_map, parallel_map
from misc.run.pinned import Download, Packed, all_on, packed_for
from misc.run.plan import PerImage, Plan
from net.cpu.fast import fast_on_cpu
from net.resnet50_sbe import ResNet50SBE
from step.shared import paths
from step.shared.cams import Cams, log_cams, read_cam_of
from step.shared.crf import CRFBackend, dense_crf_of
from step.shared.data import DataSet, Labelled
from step.shared.inputs import ImageList, Images, Labels, Network

CRF_REACH = 20  # sxy of the bilateral filter, pixels
NEEDS_LESS = "say --amp, make the image smaller, or say --device cpu"

log = logging.getLogger(__name__)


class Read(NamedTuple):
    """One image as the loading threads read it, on its way to the device.

    image     (H, W, 3) uint8 RGB
    cam_s4    (K, h, w) float32
    keys      (K,) int64
    remarks   what is to be said of its CAM file
    """

    image_id: str
    image: "Packed | Sequence[torch.Tensor]"
    cam_s4: "Packed | Sequence[torch.Tensor]"
    size: tuple[int, int]
    keys: np.ndarray
    remarks: Sequence[str]


class Walked(NamedTuple):
    """One image whose walk is under way. Its edge, winners and, if they are kept, scores come down; see Propagated."""

    image_id: str
    download: Download
    keys: np.ndarray
    remarks: Sequence[str]


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
    device = pick_device(args.device)
    workers = workers_beside_network(args.workers, device)
    walked = propagate(args, data, ids, device)
    for saved in parallel_map(
        partial(finish, args=args, data=data), walked, workers=workers, desc="make_sem_seg", total=len(ids)
    ):
        seen.update(saved.remarks)
        sizes.update(files=saved.score_bytes > 0, bytes=saved.score_bytes)
    log_cams(args, seen, made=[path for image_id in ids for path in mask_paths(args, image_id)])
    total = sum(all_gather(sizes), Counter[str]())
    if total["files"]:
        log.info("%d files of scores, %d bytes an image", total["files"], round(total["bytes"] / total["files"]))


def propagate(args: Config, data: DataSet, ids: list[str], device: torch.device) -> Iterator[Walked]:
    """Predict the boundaries of each image and let its CAM walk within them."""
    model = load_network(ResNet50SBE, args.bes_weights_name)
    to_device(fast_on_cpu(model.eval()), device)
    read = partial(read_one, args=args, data=data, device=device)
    loaders = loading_threads(args.workers, device)
    for item in ordered_map(read, data.labelled(ids), workers=loaders, most_bytes=MOST_BYTES):
        (image,) = all_on(device, item.image)
        ways = [partial(edge_of, model, image, device, amp=args.amp, apart=apart) for apart in (False, True)]
        edge = first_that_fits(ways, what=item.image_id, remedy=NEEDS_LESS)
        (cam_s4,) = all_on(device, item.cam_s4)
        scores_s4, scores = walked_scores(cam_s4, edge, item.size, beta=args.beta, exp_times=args.exp_times)
        winners = winners_of(scores, args.sem_seg_bg_thres)
        kept = [scores_s4] if args.save_scores else []
        yield Walked(item.image_id, Download(edge, winners, *kept), item.keys, item.remarks)


def read_one(item: Labelled, *, args: Config, data: DataSet, device: torch.device) -> Read:
    image = read_image(data.root.image(item.image_id))
    size = image.shape[0], image.shape[1]
    cam, remarks = read_cam_of(args, item, size, len(data.class_names))
    on_their_way = packed_for(device, [image]), packed_for(device, [cam.cam_s4])
    return Read(item.image_id, *on_their_way, size, cam.keys, remarks)


@torch.inference_mode()
def edge_of(model: ResNet50SBE, image: torch.Tensor, device: torch.device, *, amp: bool, apart: bool) -> torch.Tensor:
    """The boundary probability (h, w) float32 of an image (H, W, 3) uint8; apart: see ResNet50SBE.edge."""
    with autocast(device, amp):
        return model.edge(normalised_pair(image, device), apart=apart).float()


def propagated_scores(
    cam_s4: torch.Tensor, edge: torch.Tensor, size: tuple[int, int], *, beta: float, exp_times: int
) -> tuple[np.ndarray, np.ndarray]:
    """`walked_scores` as arrays, once they are there."""
    scores_s4, scores = Download(*walked_scores(cam_s4, edge, size, beta=beta, exp_times=exp_times)).arrays()
    return scores_s4, scores


@torch.inference_mode()
def walked_scores(
    cam_s4: torch.Tensor, edge: torch.Tensor, size: tuple[int, int], *, beta: float, exp_times: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class scores after the walk, on the device.

    cam_s4    (K, h, w) float32
    edge      (h, w) float32 in [0, 1]
    size      (H, W)
    Returns   at stride 4 (K, h, w) and at the size of the image (K, H, W), float32; the largest of the latter is 1.
    """
    if len(cam_s4) == 0:
        return edge.new_zeros((0, *edge.shape)), edge.new_zeros((0, *size))
    walked = random_walk(cam_s4, edge, beta=beta, exp_times=exp_times)
    full = at_full_size(walked, size)
    # a CAM that is zero everywhere stays so, and its mask background
    largest = full.max().clamp_min(torch.finfo(full.dtype).tiny)
    return walked / largest, full / largest


@torch.inference_mode()
def winners_of(scores: torch.Tensor, background: float) -> torch.Tensor:
    """(H, W) uint8, the strongest of background and (K, H, W) scores, on the device: a byte of a pixel comes down."""
    if scores.device.type == "cpu":
        return torch.from_numpy(strongest(scores.numpy(), background))
    return strongest_by_torch(scores, background)


class Saved(NamedTuple):
    """What is to be said of an image whose files are written: of its CAM file, and how large its scores are."""

    remarks: Sequence[str]
    score_bytes: int


def finish(item: Walked, *, args: Config, data: DataSet) -> Saved:
    """Wait for one image's walk, run the CRF and write its files."""
    edge, winners, *kept = item.download.arrays()
    if not np.isfinite(edge).all():
        raise InputError(f"{args.bes_weights_name}: this network's boundaries of {item.image_id} are not finite")
    scores_s4 = kept[0] if kept else None
    propagated = Propagated(item.image_id, winners, item.keys, edge, scores_s4, item.remarks)
    return refine_and_save(propagated, args=args, data=data)


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
