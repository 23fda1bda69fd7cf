"""Make saliency maps: with a detector given as a file or, without one, by a classical method."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from misc.config import Config
from misc.formats.images import read_image, software_of, write_grey
from misc.formats.quick_look import image_fault
from misc.method.robust_background import robust_background_saliency
from misc.run.device import loading_threads, pick_device
from misc.run.distributed import all_gather
from misc.run.parallel import parallel_map
from misc.run.plan import Input, PerImage, Plan
from misc.run.preflight import Preflight
from misc.train.loading import load_each
from net.saliency_model import SaliencyModel
from step.shared.data import DataSet
from step.shared.inputs import ImageList, Images
from voc12.datasets import ScaledImages

SOFTWARE = "make_saliency"  # noted in the files this step writes; no other file is ever overwritten

log = logging.getLogger(__name__)


class Detector(Input):
    """The detector's file, if there is one; and the maps of others, which no run is to write over."""

    def __init__(self, args: Config, data: DataSet, ids: list[str]) -> None:
        self._args, self._files = args, [data.root.saliency(image_id) for image_id in ids]

    def look(self, preflight: Preflight) -> None:
        if self._args.saliency_model:
            preflight.mentions(self._args.saliency_model)
            preflight.attempt(lambda: detector(self._args)(np.zeros((64, 64, 3), np.uint8)))
        foreign = [path for path in self._files if _is_foreign(path)]
        if foreign:  # not even --overwrite is to cost anybody maps that cannot be made again here
            preflight.problem(
                f"{len(foreign)} of {len(self._files)} saliency maps, such as {foreign[0]}, were not made by "
                "make_saliency, which overwrites no others: switch it off to use them, or point --saliency_dir at "
                "another folder"
            )

    def whole(self) -> dict[str, Path | str]:
        return {"saliency_model": Path(self._args.saliency_model) if self._args.saliency_model else "none"}


def _is_foreign(path: Path) -> bool:
    """Whether somebody else made a map; a damaged file is nobody's."""
    return path.is_file() and image_fault(path) is None and software_of(path) != SOFTWARE


def plan(args: Config) -> Plan:
    data, images = DataSet(args), ImageList(args.train_aug_list)
    return Plan(
        ids=images.ids,
        reads=[images, Images(data, images.ids), Detector(args, data, images.ids)],
        makes=PerImage(lambda i: [data.root.saliency(i)]),
    )


def make(args: Config, ids: list[str]) -> None:
    """Save a saliency map for each image; later steps read those of train_aug_list."""
    data = DataSet(args)
    blank = sum(all_gather(sum((detected if args.saliency_model else classical)(args, data, ids))))
    if blank:
        log.info("%d saliency maps are blank", blank)


def classical(args: Config, data: DataSet, ids: list[str]) -> Iterator[bool]:
    """Write a map of each image from its colours alone; yields whether it is blank."""
    log.info("boundary connectivity, a classical method: far weaker than a trained detector (--saliency_model)")
    make = partial(classical_one, data=data)
    return parallel_map(make, ids, workers=args.workers, desc="make_saliency")


def classical_one(image_id: str, *, data: DataSet) -> bool:
    """Write the map of one image; returns whether it is blank."""
    image = read_image(data.root.image(image_id))
    return write_map(data.root.saliency(image_id), robust_background_saliency(image))


def detector(args: Config) -> SaliencyModel:
    return SaliencyModel(
        args.saliency_model or "",
        pick_device(args.device),
        side=args.saliency_input_size,
        mean=args.saliency_mean,
        std=args.saliency_std,
        logits=args.saliency_output == "logit",
    )


def detected(args: Config, data: DataSet, ids: list[str]) -> Iterator[bool]:
    """Write the detector's map of each image; yields whether it is blank."""
    model = detector(args)
    workers = loading_threads(args.workers, pick_device(args.device))
    images = load_each(ScaledImages(ids, data.root, (1.0,)), len(ids), workers=workers)
    maps = ((image_id, model(image.numpy())) for image_id, _, (image,) in images)

    def save(item: tuple[str, np.ndarray]) -> bool:
        return write_map(data.root.saliency(item[0]), item[1])

    return parallel_map(save, maps, workers=1, desc="make_saliency", total=len(ids))


def write_map(path: Path, saliency: np.ndarray) -> bool:
    """Save (H, W) in [0, 1] as 8-bit grey; returns whether all of it is 0."""
    grey = np.rint(saliency * 255).astype(np.uint8)
    write_grey(path, grey, software=SOFTWARE)
    return not grey.any()
