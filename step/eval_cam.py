"""Score the CAMs against the ground truth, at a fixed background threshold (SPEC 3) and over a range of them."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import Scores, counter
from misc.evaluation.sweep import ImageCounts, count_image
from misc.evaluation.sweep_lists import Sweeps
from misc.evaluation.tables import Result, report_paths, write_report
from misc.formats.images import read_label_map
from misc.method.masks import classes_of
from misc.run.distributed import is_first, share, summed_counts
from misc.run.parallel import parallel_map
from misc.run.preflight import Preflight
from step.shared.inputs import (
    DataSet,
    Labelled,
    cam_scores_json,
    check_cams,
    check_evaluation,
    image_cam,
    labelled,
    log_cams,
)
from voc12.image_set import merged


class Counted(NamedTuple):
    """What was counted on one image.

    confusion   (C+1, C+1) int64 at the set threshold
    counts      at all thresholds
    remarks     what is to be said of its CAM file
    """

    image_id: str
    confusion: np.ndarray
    counts: ImageCounts
    remarks: list[str]


def check(args: Config, preflight: Preflight) -> None:
    ids, sweep_ids = check_evaluation(args, preflight)
    check_cams(args, merged(ids, sweep_ids), preflight, image=DataSet(args).root.truth)
    preflight.judges(Path(args.cam_out_dir), merged(ids, sweep_ids))
    preflight.writes(report_paths(cam_scores_json(args)))


def run(args: Config) -> dict[str, float]:
    """Count over the evaluation list and sweep_list, print the tables, save them as JSON and CSV beside the maps."""
    data = DataSet(args)
    n_labels = len(data.class_names) + 1
    ids, sweep_ids = data.ids(data.evaluated_list), data.sweep_ids()
    evaluated, sweeps = frozenset(ids), Sweeps(ids, sweep_ids, n_labels)
    confusion, seen = np.zeros((n_labels, n_labels), np.int64), Counter[str]()
    count = partial(count_one, args=args, data=data)
    items = labelled(args, share(merged(ids, sweep_ids)))
    for counted in parallel_map(count, items, workers=args.workers, desc="eval_cam"):
        if counted.image_id in evaluated:
            confusion += counted.confusion
        sweeps.add(counted.image_id, counted.counts)
        seen.update(counted.remarks)
    log_cams(args, seen)
    scores = Scores(summed_counts(confusion))
    result = Result(scores, args.cam_eval_thres, sweeps.result())
    if is_first():
        write_report({"CAM": result}, data.class_names, cam_scores_json(args))
    return {"CAM": scores.miou}


def count_one(item: Labelled, *, args: Config, data: DataSet) -> Counted:
    """Count the pixels of one image."""
    n_classes = len(data.class_names)
    truth_path = data.root.truth(item.image_id)
    truth = read_label_map(truth_path)
    cam, remarks = image_cam(args, item, truth.shape, n_classes)
    prediction = classes_of(cam.cam_full, cam.keys, args.cam_eval_thres)
    try:
        confusion = counter(args.eval_backend)(truth, prediction, n_classes + 1)
        counts = count_image(truth, cam.cam_full, cam.keys, n_classes + 1)
    except ValueError as error:
        raise InputError(f"{truth_path}: {error}") from error
    return Counted(item.image_id, confusion, counts, remarks)
