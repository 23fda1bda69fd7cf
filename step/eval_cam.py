"""Score the CAMs against the ground truth at a fixed background threshold (SPEC 3)."""

from functools import partial
from pathlib import Path

import numpy as np

from misc.cam_file import read_cam
from misc.config import Config
from misc.distributed import is_first, share, summed_counts
from misc.errors import InputError
from misc.evaluation import Scores, counter
from misc.image_io import read_label_map
from misc.parallel import parallel_map
from misc.preflight import Preflight
from misc.report import write_report
from step.common import DataSet, cam_path, check_cams, check_evaluation
from step.masks import classes_of


def check(args: Config, preflight: Preflight) -> None:
    ids = check_evaluation(args, preflight)
    check_cams(args, ids, preflight)
    preflight.writes([Path(args.cam_out_dir) / "eval_cam.json"])


def run(args: Config) -> dict[str, float]:
    """Count over the evaluation list, print the table, save it as JSON beside the maps."""
    data = DataSet(args)
    ids = share(data.ids(data.evaluated_list))
    confusions = parallel_map(partial(count_one, args=args, data=data), ids, workers=args.workers, desc="eval_cam")
    n_labels = len(data.class_names) + 1
    scores = Scores(summed_counts(sum(confusions, start=np.zeros((n_labels, n_labels), np.int64))))
    if is_first():
        write_report({"CAM": scores}, data.class_names, Path(args.cam_out_dir) / "eval_cam.json")
    return {"CAM": scores.miou}


def count_one(image_id: str, *, args: Config, data: DataSet) -> np.ndarray:
    """Confusion matrix (C+1, C+1) int64 of one image."""
    truth = read_label_map(data.root.truth(image_id))
    cam = read_cam(cam_path(args, image_id), size=truth.shape, n_classes=len(data.class_names))
    prediction = classes_of(cam.cam_full, cam.keys, args.cam_eval_thres)
    try:
        return counter(args.eval_backend)(truth, prediction, len(data.class_names) + 1)
    except ValueError as error:
        raise InputError(f"{data.root.truth(image_id)}: {error}") from error
