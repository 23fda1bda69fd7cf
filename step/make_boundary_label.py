"""Synthesise boundary labels from CAMs and saliency maps (docs/method.md, section 4)."""

import logging
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from misc.config import Config
from misc.crf.dense_crf import DenseCRF
from misc.formats.cam_file import CAM
from misc.formats.images import read_image, read_saliency, write_grey
from misc.method.boundary_labels import boundary_label, confidence_map
from misc.method.masks import class_numbers, strongest
from misc.run.device import threads_beside
from misc.run.distributed import all_gather
from misc.run.parallel import parallel_map
from misc.run.plan import PerImage, Plan
from step.shared import paths
from step.shared.cams import Cams, log_cams, read_cam_of
from step.shared.crf import CRFBackend, dense_crf_of
from step.shared.data import DataSet, Labelled
from step.shared.inputs import ImageList, Images, Labels, SaliencyMaps

CRF_REACH = 50  # sxy of the bilateral filter, pixels

log = logging.getLogger(__name__)


def plan(args: Config) -> Plan:
    data, images = DataSet(args), ImageList(args.train_aug_list)
    ids = images.ids
    saliency = [SaliencyMaps(data, ids)] if args.uses_saliency else []
    return Plan(
        ids=ids,
        reads=[
            images,
            Images(data, ids),
            Labels(data, ids),
            Cams(args, data, ids, data.root.image),
            *saliency,
            CRFBackend(args),
        ],
        makes=PerImage(partial(label_paths, args)),
    )


def label_paths(args: Config, image_id: str) -> tuple[Path, Path]:
    """The confidence map and the boundary label of an image."""
    return paths.confidence_map(args, image_id), paths.boundary_label(args, image_id)


def make(args: Config, ids: list[str]) -> None:
    """Save a confidence map and a boundary label for each image."""
    data = DataSet(args)
    label = partial(label_one, args=args, data=data)
    seen, seen_cams = Counter[str](), Counter[str]()
    with threads_beside(args.workers):
        for remarks, cam_remarks in parallel_map(
            label, data.labelled(ids), workers=args.workers, desc="make_boundary_label"
        ):
            seen.update(remarks)
            seen_cams.update(cam_remarks)
    log_cams(args, seen_cams, made=[path for image_id in ids for path in label_paths(args, image_id)])
    for remark, count in sum(all_gather(seen), Counter()).items():
        log.info("%d saliency maps %s", count, remark)


def label_one(item: Labelled, *, args: Config, data: DataSet) -> tuple[list[str], list[str]]:
    """Write both maps of one image; return what is to be said of its saliency map and of its CAM file."""
    image_id = item.image_id
    image = read_image(data.root.image(image_id))
    size = image.shape[:2]
    cam, cam_remarks = read_cam_of(args, item, size, len(data.class_names))
    saliency, remarks = None, []
    if args.uses_saliency:
        saliency, converted = read_saliency(data.root.saliency(image_id), size)
        if converted:
            remarks.append("were converted to grey or resized to their image")
        if not saliency.any():
            remarks.append("are blank: those images got the BES rules")
    crf = dense_crf_of(args, image, len(cam.keys) + 1, sxy=CRF_REACH)
    conf = confident_classes(crf, cam, foreground=args.conf_fg_thres, background=args.conf_bg_thres)
    label = boundary_label(
        conf,
        saliency,
        window=args.window_size,
        theta_scale=args.theta_scale,
        theta_diff=args.theta_diff,
        salient_threshold=args.salbound_thres,
    )
    for path, content in zip(label_paths(args, image_id), (conf, label), strict=True):
        write_grey(path, content)
    return remarks, cam_remarks


def confident_classes(crf: DenseCRF, cam: CAM, *, foreground: float, background: float) -> np.ndarray:
    """Where the refined CAMs agree under a high and a low background score.

    crf       of the image, with K + 1 labels
    Returns   (H, W) uint8: class number, 0 background, 255 not confident.
    """
    winners = np.stack([strongest(cam.cam_full, score) for score in (foreground, background)])
    return confidence_map(*class_numbers(cam.keys)[crf.refine(winners)])
