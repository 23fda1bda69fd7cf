"""Score the pseudo masks, raw and after the CRF, against the ground truth, the raw ones at many thresholds.

See docs/method.md, section 7.
"""

import logging
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import Scores, confusion_counter
from misc.evaluation.sweep import ImageCounts, Sweeps, count_image
from misc.evaluation.tables import Result, table_paths, write_tables
from misc.formats.images import read_label_map
from misc.formats.quick_look import scores_fault
from misc.formats.score_file import read_scores
from misc.method.masks import classes_of
from misc.run.device import threads_beside
from misc.run.distributed import all_sum_counts, is_first, on_first
from misc.run.parallel import parallel_map
from misc.run.plan import Input, Plan, Tables
from misc.run.preflight import Preflight
from step.shared import paths
from step.shared.data import DataSet
from step.shared.inputs import GroundTruth, Masks

KINDS = {"mask": paths.mask, "mask + CRF": paths.crf_mask}  # name in the tables, place of the file
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


@dataclass(frozen=True)
class SavedScores(Input):
    """The scores of masks, which a sweep of thresholds needs."""

    args: Config
    truth: GroundTruth

    def look(self, preflight: Preflight) -> None:
        files = [paths.scores(self.args, image_id) for image_id in self.truth.ids]
        if self.truth.swept or all(preflight.is_to_come(path) or path.is_file() for path in files):
            remedy = "a sweep needs them, and make_sem_seg writes them for infer_list with --save_scores"
            preflight.reads("scores", files, probe=scores_fault, remedy=remedy)


def plan(args: Config) -> Plan:
    truth = GroundTruth(args, DataSet(args))
    return Plan(
        ids=truth.ids,
        reads=[truth, Masks(args, truth.evaluated), SavedScores(args, truth)],
        makes=Tables(table_paths(paths.mask_scores_json(args))),
    )


def make(args: Config, ids: list[str]) -> dict[str, float]:
    """Count over the evaluation list and sweep_list, print the tables, save them as JSON and CSV beside the masks."""
    data = DataSet(args)
    truth = GroundTruth(args, data)
    lacking = on_first(lambda: [i for i in truth.ids if not paths.scores(args, i).is_file()])
    evaluated, sweeps = frozenset(truth.evaluated), Sweeps(truth.evaluated, truth.swept, data.n_labels)
    tasks = [Task(image_id, image_id in evaluated, not lacking) for image_id in ids]
    confusions, pixels = np.zeros((len(KINDS), data.n_labels, data.n_labels), np.int64), np.zeros(2, np.int64)
    count = partial(count_one, args=args, data=data)
    with threads_beside(args.workers):
        for counted in parallel_map(count, tasks, workers=args.workers, desc="eval_sem_seg"):
            confusions += counted.confusions
            pixels += counted.pixels
            if counted.counts is not None:
                sweeps.add(counted.image_id, counted.counts)
    scores = {kind: Scores(confusion) for kind, confusion in zip(KINDS, all_sum_counts(confusions), strict=True)}
    results = {kind: Result(score, truth.counted, args.sem_seg_bg_thres) for kind, score in scores.items()}
    if lacking:
        log.info(
            "no sweep: %d of %d images lack scores, which make_sem_seg --save_scores keeps",
            len(lacking),
            len(truth.ids),
        )
    else:
        results["mask"] = results["mask"]._replace(sweep=sweeps.result())
        log_difference(*all_sum_counts(pixels), threshold=args.sem_seg_bg_thres)
    if is_first():
        write_tables(results, data.class_names, paths.mask_scores_json(args))
    return {kind: score.miou for kind, score in scores.items()}


def count_one(task: Task, *, args: Config, data: DataSet) -> Counted:
    """Count the pixels of one image."""
    n_labels = data.n_labels
    truth_path = data.root.truth(task.image_id)
    truth = read_label_map(truth_path)
    confusions, counts, pixels = np.zeros((len(KINDS), n_labels, n_labels), np.int64), None, np.zeros(2, np.int64)
    masks = []
    for number, place in enumerate(KINDS.values() if task.masks else ()):
        path = place(args, task.image_id)
        masks.append(read_label_map(path))
        try:
            confusions[number] = confusion_counter(args.eval_backend)(truth, masks[number], n_labels)
        except ValueError as error:
            raise InputError(f"{path} against {truth_path}: {error}") from error
    if task.scores:
        keys, scores = read_scores(paths.scores(args, task.image_id), size=truth.shape, n_classes=n_labels - 1)
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
