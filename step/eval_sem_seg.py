"""Score the pseudo masks, raw and after the CRF, against the ground truth (SPEC 7), the raw ones at many thresholds."""

import logging
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
from misc.formats.quick_look import image_fault, scores_fault
from misc.formats.score_file import read_scores
from misc.method.masks import classes_of
from misc.run.distributed import is_first, on_first, share, summed_counts
from misc.run.parallel import parallel_map
from misc.run.preflight import Preflight
from step.shared.inputs import DataSet, check_evaluation, mask_scores_json, scores_path
from voc12.image_set import merged

KINDS = {"mask": "", "mask + CRF": "_crf"}  # name in the tables, ending of the file
ROUNDING = 0.005  # share of the pixels that scores in float16 may give other labels, far above what was seen

log = logging.getLogger(__name__)


class Task(NamedTuple):
    """What to count on an image: its masks, if it is on the evaluation list, its scores, if there are any."""

    image_id: str
    masks: bool
    scores: bool


class Counted(NamedTuple):
    """What was counted on one image.

    confusions  (2, C+1, C+1) int64 of its mask and its mask after CRF, zeros if they were not asked for
    counts      of its scores at all thresholds, if they were asked for
    pixels      (2,) int64: of its mask, and those that the scores at the set threshold would label otherwise
    """

    image_id: str
    confusions: np.ndarray
    counts: ImageCounts | None
    pixels: np.ndarray


def check(args: Config, preflight: Preflight) -> None:
    ids, sweep_ids = check_evaluation(args, preflight)
    remedy = "run make_sem_seg on them first (--infer_list)"
    for ending in KINDS.values():
        masks = [mask_path(args, image_id, ending) for image_id in ids]
        preflight.reads("pseudo masks", masks, probe=image_fault, remedy=remedy)
    scores = [scores_path(args, image_id) for image_id in merged(ids, sweep_ids)]
    if sweep_ids or all(preflight.promised(path) or path.is_file() for path in scores):
        remedy = "a sweep needs them, and make_sem_seg writes them for infer_list with --save_scores"
        preflight.reads("scores", scores, probe=scores_fault, remedy=remedy)
    preflight.judges(Path(args.sem_seg_out_dir), ids)
    preflight.writes(report_paths(mask_scores_json(args)))


def mask_path(args: Config, image_id: str, ending: str) -> Path:
    return Path(args.sem_seg_out_dir) / f"{image_id}{ending}.png"


def run(args: Config) -> dict[str, float]:
    """Count over the evaluation list and sweep_list, print the tables, save them as JSON and CSV beside the masks."""
    data = DataSet(args)
    n_labels = len(data.class_names) + 1
    ids, sweep_ids = data.ids(data.evaluated_list), data.sweep_ids()
    visited = merged(ids, sweep_ids)
    without = on_first(lambda: [i for i in visited if not scores_path(args, i).is_file()])
    evaluated, sweeps = frozenset(ids), Sweeps(ids, sweep_ids, n_labels)
    tasks = [Task(image_id, image_id in evaluated, not without) for image_id in share(visited)]
    confusions, pixels = np.zeros((len(KINDS), n_labels, n_labels), np.int64), np.zeros(2, np.int64)
    count = partial(count_one, args=args, data=data)
    for counted in parallel_map(count, tasks, workers=args.workers, desc="eval_sem_seg"):
        confusions += counted.confusions
        pixels += counted.pixels
        if counted.counts is not None:
            sweeps.add(counted.image_id, counted.counts)
    scores = {kind: Scores(confusion) for kind, confusion in zip(KINDS, summed_counts(confusions), strict=True)}
    results = {kind: Result(score, args.sem_seg_bg_thres) for kind, score in scores.items()}
    if without:
        log.info(
            "no sweep: %d of %d images lack scores, which make_sem_seg --save_scores keeps", len(without), len(visited)
        )
    else:
        results["mask"] = results["mask"]._replace(sweep=sweeps.result())
        log_difference(*summed_counts(pixels), threshold=args.sem_seg_bg_thres)
    if is_first():
        write_report(results, data.class_names, mask_scores_json(args))
    return {kind: score.miou for kind, score in scores.items()}


def count_one(task: Task, *, args: Config, data: DataSet) -> Counted:
    """Count the pixels of one image."""
    n_labels = len(data.class_names) + 1
    truth_path = data.root.truth(task.image_id)
    truth = read_label_map(truth_path)
    confusions, counts, pixels = np.zeros((len(KINDS), n_labels, n_labels), np.int64), None, np.zeros(2, np.int64)
    masks = []
    for number, ending in enumerate(KINDS.values() if task.masks else ()):
        path = mask_path(args, task.image_id, ending)
        masks.append(read_label_map(path))
        try:
            confusions[number] = counter(args.eval_backend)(truth, masks[number], n_labels)
        except ValueError as error:
            raise InputError(f"{path} against {truth_path}: {error}") from error
    if task.scores:
        keys, scores = read_scores(scores_path(args, task.image_id), size=truth.shape, n_classes=n_labels - 1)
        try:
            counts = count_image(truth, scores, keys, n_labels)
        except ValueError as error:
            raise InputError(f"{truth_path}: {error}") from error
        if task.masks:
            pixels[:] = truth.size, np.count_nonzero(classes_of(scores, keys, args.sem_seg_bg_thres) != masks[0])
    return Counted(task.image_id, confusions, counts, pixels)


def log_difference(pixels: int, differing: int, *, threshold: float) -> None:
    """Say what the sweep is of, and how well the scores give the masks: those of another run would not."""
    different = differing / max(pixels, 1)
    log.info("the sweep is of the masks before the CRF, which is not swept")
    log.info("scores at %g and masks differ in %.3f %% of the pixels", threshold, 100 * different)
    if different > ROUNDING:
        log.warning("that is more than rounding: the masks were made at another sem_seg_bg_thres or of other scores")
