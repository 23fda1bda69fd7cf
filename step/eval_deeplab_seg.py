"""Score DeepLab-v2's masks, without and with CRF, against the ground truth (docs/method.md, sections 7 and 10)."""

import logging
from functools import partial

import numpy as np

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.confusion import Scores, confusion_counter
from misc.evaluation.tables import Result, table_paths, write_tables
from misc.formats.images import image_size, read_label_map
from misc.run.distributed import all_sum_counts, is_first
from misc.run.parallel import parallel_map
from misc.run.plan import Plan, Tables
from step.shared import paths
from step.shared.data import DataSet
from step.shared.deeplab import Predictions
from step.shared.inputs import GroundTruth, ImageList, Images
from voc12.image_set import read_list
from voc12.submission import TEST_LIST, write_submission

KINDS = {"network": paths.prediction, "network + CRF": paths.crf_prediction}  # name in the tables, place of the file

log = logging.getLogger(__name__)


def plan(args: Config) -> Plan:
    data = DataSet(args)
    if args.voc_submission:
        tested = ImageList(TEST_LIST)
        reads = [tested, Images(data, tested.ids), Predictions(args, tested.ids)]
        return Plan(ids=tested.ids, reads=reads, makes=Tables([paths.submission(args)]))
    truth = truth_of(args, data)
    return Plan(
        ids=truth.ids,
        reads=[truth, Predictions(args, truth.ids)],
        makes=Tables(table_paths(paths.prediction_scores_json(args))),
    )


def truth_of(args: Config, data: DataSet) -> GroundTruth:
    return GroundTruth(args, data, data.root.image_set(args.deeplab_eval_set))


def make(args: Config, ids: list[str]) -> dict[str, float] | str | None:
    """Count over deeplab_eval_set, print the table, save it as JSON and CSV beside the masks; or pack them for VOC."""
    return pack(args) if args.voc_submission else count(args, ids)


def pack(args: Config) -> str | None:
    """Write results.tar.gz; the server counts. Returns where it is."""
    if not is_first() or args.voc_submission is None:
        return None
    data, ids, path = DataSet(args), read_list(TEST_LIST), paths.submission(args)
    masks = {image_id: paths.crf_prediction(args, image_id) for image_id in ids}
    sizes = {image_id: image_size(data.root.image(image_id)) for image_id in ids}
    write_submission(masks, sizes, path, competition=args.voc_submission)
    log.info("%s: %d masks after CRF for %s of VOC's server", path, len(masks), args.voc_submission)
    return str(path)


def count(args: Config, ids: list[str]) -> dict[str, float]:
    """Count the pixels of this process's images; returns the mIoUs of all."""
    data = DataSet(args)
    truth = truth_of(args, data)
    confusions = np.zeros((len(KINDS), data.n_labels, data.n_labels), np.int64)
    one = partial(count_one, args=args, data=data)
    for counted in parallel_map(one, ids, workers=args.workers, desc="eval_deeplab_seg"):
        confusions += counted
    scores = {kind: Scores(confusion) for kind, confusion in zip(KINDS, all_sum_counts(confusions), strict=True)}
    for kind, score in scores.items():
        log.info(
            "%s: pixel accuracy %.2f, mean class accuracy %.2f",
            kind,
            100 * score.pixel_accuracy,
            100 * score.mean_class_accuracy,
        )
        if score.miou != score.miou_of_true_labels:
            log.info("%s: mIoU of the labels that occur in the truth alone %.2f", kind, 100 * score.miou_of_true_labels)
    if is_first():
        write_tables(
            {kind: Result(score, truth.counted) for kind, score in scores.items()},
            data.class_names,
            paths.prediction_scores_json(args),
        )
    return {kind: score.miou for kind, score in scores.items()}


def count_one(image_id: str, *, args: Config, data: DataSet) -> np.ndarray:
    """(2, C+1, C+1) int64: the pixels of one image's mask and of its mask after the CRF."""
    truth_path = data.root.truth(image_id)
    truth = read_label_map(truth_path)
    confusions = []
    for place in KINDS.values():
        path = place(args, image_id)
        try:
            confusions.append(confusion_counter(args.eval_backend)(truth, read_label_map(path), data.n_labels))
        except ValueError as error:
            raise InputError(f"{path} against {truth_path}: {error}") from error
    return np.stack(confusions)
