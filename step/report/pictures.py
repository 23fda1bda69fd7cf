"""One image's row of pictures: what the chain read and what it made, for the report and for step.report.view."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import Scores, confusion_matrix
from misc.formats.images import read_image, read_label_map, read_saliency
from misc.method.masks import classes_of
from misc.report.panels import Panel, boundary_map, cam_overlay, coloured_boundary_label, coloured_mask, grey
from step.shared import paths
from step.shared.cams import read_cam_of
from step.shared.data import DataSet, Labelled

SCORED = ("CAM", "mask", "mask + CRF", "network", "network + CRF")  # panels that are predictions, in their order


class Source(NamedTuple):
    """Where a panel's picture comes from: a file, how it is drawn, what to do where there is none."""

    path: Path
    draw: Callable[[Path], np.ndarray]
    missing: str
    flat: bool = False


def made_paths(image_id: str, args: Config) -> dict[str, Path]:
    """The files that steps make of an image and that have a panel; those of the second stage if it has run."""
    network = {"network": paths.prediction(args, image_id), "network + CRF": paths.crf_prediction(args, image_id)}
    return {
        "CAM": paths.cam(args, image_id),
        "boundary label": paths.boundary_label(args, image_id),
        "predicted boundary": paths.edge(args, image_id),
        "mask": paths.mask(args, image_id),
        "mask + CRF": paths.crf_mask(args, image_id),
        **(network if has_second_stage(args) else {}),
    }


def has_second_stage(args: Config) -> bool:
    """Whether DeepLab-v2 has predicted masks, or is going to."""
    return bool(args.make_deeplab_seg_pass) or Path(args.deeplab_out_dir).is_dir()


def scored_kinds(args: Config) -> list[str]:
    """The kinds of prediction that have a panel; the last one is the end of the chain."""
    return [kind for kind in SCORED if kind in made_paths("", args)]


def panels_of(image: Labelled, *, args: Config, data: DataSet) -> list[Panel]:
    """All panels of an image, in order; without a picture where a file is not there.

    Raises    InputError if there is no such image, or a file cannot be read or does not fit the image.
    """
    image_id = image.image_id
    pixels = read_image(data.root.image(image_id))
    size = pixels.shape[:2]
    made = made_paths(image_id, args)

    def cam(path: Path) -> np.ndarray:
        return cam_overlay(pixels, read_cam_of(args, image, size, len(data.class_names)).cam.cam_full)

    def label_map(path: Path, coloured: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        try:
            return coloured(read_label_map(path))
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error

    mask = partial(label_map, coloured=coloured_mask)
    sources = {
        "ground truth": Source(data.root.truth(image_id), mask, "no ground truth", flat=True),
        "CAM": Source(made["CAM"], cam, "no CAM: run make_cam"),
        "saliency": Source(data.root.saliency(image_id), lambda p: grey(read_saliency(p, size)[0]), "no saliency map"),
        "boundary label": Source(
            made["boundary label"],
            partial(label_map, coloured=coloured_boundary_label),
            "no label: run make_boundary_label",
            flat=True,
        ),
        "predicted boundary": Source(
            made["predicted boundary"],
            partial(label_map, coloured=partial(boundary_map, size=size)),
            "no boundary: run make_sem_seg",
        ),
        "mask": Source(made["mask"], mask, "no mask: run make_sem_seg", flat=True),
        "mask + CRF": Source(made["mask + CRF"], mask, "no mask: run make_sem_seg", flat=True),
    }
    for name in ("network", "network + CRF"):
        if name in made:
            sources[name] = Source(made[name], mask, "not in deeplab_infer_list", flat=True)
    panels = [Panel("input", pixels)]
    for name, source in sources.items():
        there = source.path.is_file()
        panels.append(Panel(name, source.draw(source.path) if there else None, source.missing, source.flat))
    return panels


def image_iou(image: Labelled, kind: str, *, args: Config, data: DataSet) -> float | None:
    """IoU of one image's prediction, the mean over the labels that occur in it or in the ground truth.

    kind      one of scored_kinds
    Returns   a share in [0, 1], or None if prediction or ground truth is missing or all of it is void.
    """
    truth_path, path = data.root.truth(image.image_id), made_paths(image.image_id, args)[kind]
    if not (truth_path.is_file() and path.is_file()):
        return None
    truth = read_label_map(truth_path)
    if kind == "CAM":
        cam = read_cam_of(args, image, truth.shape, len(data.class_names)).cam
        prediction = classes_of(cam.cam_full, cam.keys, args.cam_eval_thres)
    else:
        prediction = read_label_map(path)
    try:
        miou = Scores(confusion_matrix(truth, prediction, data.n_labels)).miou
    except ValueError as error:
        raise InputError(f"{path} against {truth_path}: {error}") from error
    return None if np.isnan(miou) else miou
