"""How fast the loaders are alone: images a second of each data set, with the workers the steps would use."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import inputs
from benchmarks.inputs import Scale
from misc.train.loading import batches_of, epoch_batches, load_each
from misc.train.transfer import batches_on
from step.shared.data import DataSet
from voc12.datasets import BoundaryTraining, ClassifierTraining, ClassifierValidation, ScaledImages
from voc12.image_set import read_list

CPU = torch.device("cpu")
COPIES = 8  # the list is gone through so often, for the start of the workers to weigh little


def loader_speeds(scale: Scale, folder: Path) -> dict[str, dict[str, float]]:
    """Of each loader: images a second, and the number of loading threads."""
    root = folder / "voc_{}x{}".format(*scale.image)
    args = inputs.settings(root, folder / "ours", folder / "weights")
    data, workers, crop = DataSet(args), args.workers, scale.crop
    ids = read_list(args.train_aug_list) * COPIES
    n = len(ids)
    long_side = (round(crop * 0.625), crop)
    classifier = ClassifierTraining(ids, data.root, data.labels, crop=crop, long_side=long_side, seed=5)
    validation = ClassifierValidation(ids, data.root, data.labels, crop=crop)
    boundary = BoundaryTraining(ids, data.root, root / "boundary_label", crop=crop, seed=5, uses_saliency=True)
    shuffled = epoch_batches(n, batch_size=2, seed=5, epoch=0)
    loads: dict[str, Callable[[], Iterator[Any]]] = {
        "train_cam": lambda: batches_on(CPU, classifier, shuffled, workers=workers),
        "train_cam, validation": lambda: batches_on(CPU, validation, batches_of(n, 2), workers=workers),
        "boundary_training": lambda: batches_on(CPU, boundary, shuffled, workers=workers),
        "make_cam": lambda: load_each(ScaledImages(ids, data.root, args.cam_scales), n, workers=workers),
        "make_sem_seg": lambda: load_each(ScaledImages(ids, data.root, (1.0,)), n, workers=workers),
    }
    return {name: {"images_a_second": n / seconds(load), "workers": workers} for name, load in loads.items()}


def seconds(load: Callable[[], Iterator[Any]]) -> float:
    """Time of a whole pass, the start of the workers included."""
    started = time.perf_counter()
    for _ in load():
        pass
    return time.perf_counter() - started
