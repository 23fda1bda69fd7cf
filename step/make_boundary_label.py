"""Synthesise boundary labels from CAMs and saliency maps (SPEC 4)."""

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
from misc.run.distributed import gathered
from misc.run.ledger import Product
from misc.run.parallel import parallel_map
from misc.run.preflight import Preflight
from step.shared.inputs import (
    DataSet,
    Labelled,
    boundary_label_path,
    cam_path,
    check_cams,
    check_images,
    check_saliency,
    chosen,
    image_cam,
    labelled,
    log_cams,
    saliency_origin,
    unfinished,
)

CRF_REACH = 50  # sxy of the bilateral filter, pixels
SETTINGS = (
    "method",
    "cam_format",
    "conf_fg_thres",
    "conf_bg_thres",
    "window_size",
    "theta_scale",
    "theta_diff",
    "salbound_thres",
)

log = logging.getLogger(__name__)


def check(args: Config, preflight: Preflight) -> None:
    data = DataSet(args)
    ids = data.ids(args.train_aug_list, preflight)
    check_images(data, ids, preflight)
    check_cams(args, ids, preflight, image=data.root.image)
    if args.uses_saliency:
        check_saliency(data, ids, preflight)
    preflight.makes(
        Product(
            "make_boundary_label",
            places=[Path(args.cam_vis_dir), Path(args.boundary_label_dir)],
            settings=chosen(args, *SETTINGS),
            ids=ids,
            image_inputs=lambda i: [data.root.image(i), data.label_text(i)],
            folders={"cam_out_dir": (Path(args.cam_out_dir), partial(cam_path, args)), **saliency_origin(args, data)},
            outputs=partial(label_paths, args),
        )
    )


def label_paths(args: Config, image_id: str) -> tuple[Path, Path]:
    """The confidence map and the boundary label of an image."""
    return Path(args.cam_vis_dir) / f"{image_id}.png", boundary_label_path(args, image_id)


def run(args: Config) -> None:
    """Save a confidence map and a boundary label for every image of train_aug_list."""
    data = DataSet(args)
    ids = unfinished(data.ids(args.train_aug_list), partial(label_paths, args))
    label = partial(label_one, args=args, data=data)
    seen, seen_cams = Counter[str](), Counter[str]()
    for remarks, cam_remarks in parallel_map(
        label, labelled(args, ids), workers=args.workers, desc="make_boundary_label"
    ):
        seen.update(remarks)
        seen_cams.update(cam_remarks)
    log_cams(args, seen_cams, made=[path for image_id in ids for path in label_paths(args, image_id)])
    for remark, count in sum(gathered(seen), Counter()).items():
        log.info("%d saliency maps %s", count, remark)


def label_one(item: Labelled, *, args: Config, data: DataSet) -> tuple[list[str], list[str]]:
    """Write both maps of one image; return what is to be said of its saliency map and of its CAM file."""
    image_id = item.image_id
    image = read_image(data.root.image(image_id))
    size = image.shape[:2]
    cam, cam_remarks = image_cam(args, item, size, len(data.class_names))
    saliency, remarks = None, []
    if args.uses_saliency:
        saliency, converted = read_saliency(data.root.saliency(image_id), size)
        if converted:
            remarks.append("were converted to grey or resized to their image")
        if not saliency.any():
            remarks.append("are blank: those images got the BES rules")
    conf = confident_classes(image, cam, foreground=args.conf_fg_thres, background=args.conf_bg_thres)
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


def confident_classes(image: np.ndarray, cam: CAM, *, foreground: float, background: float) -> np.ndarray:
    """Where the refined CAMs agree under a high and a low background score.

    image     (H, W, 3) uint8
    Returns   (H, W) uint8: class number, 0 background, 255 not confident.
    """
    crf = DenseCRF(image, len(cam.keys) + 1, sxy=CRF_REACH)
    numbers = class_numbers(cam.keys)
    fg, bg = (numbers[crf.refine(strongest(cam.cam_full, score))] for score in (foreground, background))
    return confidence_map(fg, bg)
