"""Score the CAMs against the ground truth, at a set background threshold and over a range of them.

See docs/method.md, section 3.
"""

from collections import Counter
from functools import partial
from typing import NamedTuple

import numpy as np

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import Scores, confusion_counter
from misc.evaluation.sweep import ImageCounts, Sweeps, count_image
from misc.evaluation.tables import Result, table_paths, write_tables
from misc.formats.images import read_label_map
from misc.method.masks import classes_of
from misc.run.device import threads_beside
from misc.run.distributed import all_sum_counts, is_first
from misc.run.parallel import parallel_map
from misc.run.plan import Plan, Tables
from step.shared import paths
from step.shared.cams import Cams, log_cams, read_cam_of
from step.shared.data import DataSet, Labelled
from step.shared.inputs import GroundTruth, Labels


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


def plan(args: Config) -> Plan:
    data = DataSet(args)
    truth = GroundTruth(args, data)
    return Plan(
        ids=truth.ids,
        reads=[truth, Labels(data, truth.ids), Cams(args, data, truth.ids, data.root.truth)],
        makes=Tables(table_paths(paths.cam_scores_json(args))),
    )


def make(args: Config, ids: list[str]) -> dict[str, float]:
    """Count over the evaluation list and sweep_list, print the tables, save them as JSON and CSV beside the maps."""
    data = DataSet(args)
    truth = GroundTruth(args, data)
    evaluated, sweeps = frozenset(truth.evaluated), Sweeps(truth.evaluated, truth.swept, data.n_labels)
    confusion, seen = np.zeros((data.n_labels, data.n_labels), np.int64), Counter[str]()
    count = partial(count_one, args=args, data=data)
    with threads_beside(args.workers):
        for counted in parallel_map(count, data.labelled(ids), workers=args.workers, desc="eval_cam"):
            if counted.image_id in evaluated:
                confusion += counted.confusion
            sweeps.add(counted.image_id, counted.counts)
            seen.update(counted.remarks)
    log_cams(args, seen)
    scores = Scores(all_sum_counts(confusion))
    result = Result(scores, truth.counted, args.cam_eval_thres, sweeps.result())
    if is_first():
        write_tables({"CAM": result}, data.class_names, paths.cam_scores_json(args))
    return {"CAM": scores.miou}


def count_one(item: Labelled, *, args: Config, data: DataSet) -> Counted:
    """Count the pixels of one image."""
    truth_path = data.root.truth(item.image_id)
    truth = read_label_map(truth_path)
    cam, remarks = read_cam_of(args, item, truth.shape, len(data.class_names))
    prediction = classes_of(cam.cam_full, cam.keys, args.cam_eval_thres)
    try:
        confusion = confusion_counter(args.eval_backend)(truth, prediction, data.n_labels)
        counts = count_image(truth, cam.cam_full, cam.keys, data.n_labels)
    except ValueError as error:
        raise InputError(f"{truth_path}: {error}") from error
    return Counted(item.image_id, confusion, counts, remarks)
