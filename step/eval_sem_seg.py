"""Score the pseudo masks, raw and after the CRF, against the ground truth (SPEC 7)."""

from functools import partial
from pathlib import Path

import numpy as np

from misc.config import Config
from misc.distributed import is_first, share, summed_counts
from misc.errors import InputError
from misc.evaluation import Scores, counter
from misc.image_io import read_label_map
from misc.parallel import parallel_map
from misc.preflight import Preflight, image_fault
from misc.report import write_report
from step.common import DataSet, check_evaluation

KINDS = {"mask": "", "mask + CRF": "_crf"}  # name in the tables, ending of the file


def check(args: Config, preflight: Preflight) -> None:
    ids = check_evaluation(args, preflight)
    remedy = "run make_sem_seg on them first (--infer_list)"
    for ending in KINDS.values():
        masks = [mask_path(args, image_id, ending) for image_id in ids]
        preflight.reads("pseudo masks", masks, probe=image_fault, remedy=remedy)
    preflight.writes([Path(args.sem_seg_out_dir) / "eval_sem_seg.json"])


def mask_path(args: Config, image_id: str, ending: str) -> Path:
    return Path(args.sem_seg_out_dir) / f"{image_id}{ending}.png"


def run(args: Config) -> dict[str, float]:
    """Count over the evaluation list, print the tables, save them as JSON beside the masks."""
    data = DataSet(args)
    ids = share(data.ids(data.evaluated_list))
    confusions = parallel_map(partial(count_one, args=args, data=data), ids, workers=args.workers, desc="eval_sem_seg")
    n_labels = len(data.class_names) + 1
    total = summed_counts(sum(confusions, start=np.zeros((len(KINDS), n_labels, n_labels), np.int64)))
    scores = {kind: Scores(confusion) for kind, confusion in zip(KINDS, total, strict=True)}
    if is_first():
        write_report(scores, data.class_names, Path(args.sem_seg_out_dir) / "eval_sem_seg.json")
    return {kind: score.miou for kind, score in scores.items()}


def count_one(image_id: str, *, args: Config, data: DataSet) -> np.ndarray:
    """Confusion matrices (2, C+1, C+1) int64 of one image's mask and mask after CRF."""
    truth = read_label_map(data.root.truth(image_id))
    n_labels = len(data.class_names) + 1
    confusions = []
    for ending in KINDS.values():
        path = mask_path(args, image_id, ending)
        try:
            confusions.append(counter(args.eval_backend)(truth, read_label_map(path), n_labels))
        except ValueError as error:
            raise InputError(f"{path} against {data.root.truth(image_id)}: {error}") from error
    return np.stack(confusions)
