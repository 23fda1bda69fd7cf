"""Make saliency maps: with a detector given as a file or, without one, by a classical method."""

import logging
import math
import statistics
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from misc.config import Config
from misc.formats.images import read_image, software_of, write_grey
from misc.formats.quick_look import image_fault
from misc.method.robust_background import robust_background_saliency
from misc.run.device import loading_threads, pick_device
from misc.run.distributed import all_gather
from misc.run.manifest import sampled
from misc.run.parallel import parallel_map
from misc.run.plan import Input, PerImage, Plan
from misc.run.preflight import Preflight
from misc.train.loading import load_each
from net.saliency_model import Saliency, SaliencyModel
from net.saliency_presets import Handling
from step.shared.data import DataSet
from step.shared.inputs import ImageList, Images
from step.shared.values import SOFTWARE
from voc12.datasets import ScaledImages

log = logging.getLogger(__name__)


class Made(NamedTuple):
    """What is to be told of a saliency map that was made.

    blank            all of it is 0
    lowest, largest  value of the detector's output before a sigmoid and a stretch; the classical method has none
    """

    blank: bool
    lowest: float = math.nan
    largest: float = math.nan


class Detector(Input):
    """The detector, if there is one: its file, and how it is used; and the maps of others, not to be written over."""

    def __init__(self, args: Config, data: DataSet, ids: list[str]) -> None:
        self._args, self._files = args, [data.root.saliency(image_id) for image_id in ids]

    @cached_property
    def _handling(self) -> Handling:
        """How the file is used; tried on an image. The network is not kept: it may fill a card."""
        model = detector(self._args)
        model(np.zeros((64, 64, 3), np.uint8))
        return model.handling

    def look(self, preflight: Preflight) -> None:
        if self._args.saliency_model:
            preflight.mentions(self._args.saliency_model)
            preflight.attempt(lambda: self._handling)
        elif self._args.saliency_preset:
            preflight.problem(
                f"saliency_preset: {self._args.saliency_preset} says how a detector's file is used, but none is given: "
                "name it with --saliency_model"
            )
        foreign = [path for path in self._files if _is_foreign(path)]
        if foreign:  # not even --overwrite is to cost anybody maps that cannot be made again here
            preflight.problem(
                f"{len(foreign)} of {len(self._files)} saliency maps, such as {foreign[0]}, were not made by "
                "make_saliency, which overwrites no others: say --no_make_saliency_pass to use them, or point "
                "--saliency_dir at another folder"
            )

    def whole(self) -> dict[str, Path | str]:
        if not self._args.saliency_model:
            return {"saliency_model": "none"}
        # the digest, not the path, of which the ledger would say that no manifest tells of it: no step makes detectors
        return {"saliency_model": sampled(Path(self._args.saliency_model)), **self._handling.in_words()}


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


def make(args: Config, ids: list[str]) -> str | None:
    """Save a saliency map for each image; later steps read those of train_aug_list.

    Returns    a doubt about how the detector is used, if there is one
    """
    data = DataSet(args)
    model = detector(args) if args.saliency_model else None
    of_this_process = list(detected(model, args, data, ids) if model else classical(args, data, ids))
    made = [one for part in all_gather(of_this_process) for one in part]
    blank = sum(one.blank for one in made)
    if blank:
        log.info("%d saliency maps are blank", blank)
    return doubt(made, model.handling) if model else None


def doubt(made: list[Made], handling: Handling) -> str | None:
    """Log the largest output of the detector; returns a question to the user, if the outputs look wrong.

    A detector whose input is prepared wrongly does not fail: it finds nothing, and its maps, once stretched to [0, 1],
    look like any others. But in a photograph it nearly always finds some pixel that is likelier salient than not.
    """
    is_logit = handling.output == "logit"
    lowest, largest = min(one.lowest for one in made), max(one.largest for one in made)
    median = statistics.median(one.largest for one in made)
    told = f"largest output over {len(made)} images {largest:.2f}, median {median:.2f}"
    if median < (0 if is_logit else 0.5):
        question = "are saliency_mean and saliency_std the detector's?"
    elif is_logit and lowest >= 0 and largest <= 1:
        question = "none is below 0: are these logits, or is it --saliency_output probability?"
    else:
        log.info("%s", told)
        return None
    log.warning("%s: %s", told, question)
    return f"{told}: {question}"


def classical(args: Config, data: DataSet, ids: list[str]) -> Iterator[Made]:
    """Write a map of each image from its colours alone."""
    log.info("boundary connectivity, a classical method: far weaker than a trained detector (--saliency_model)")
    make = partial(classical_one, data=data)
    return parallel_map(make, ids, workers=args.workers, desc="make_saliency")


def classical_one(image_id: str, *, data: DataSet) -> Made:
    """Write the map of one image."""
    image = read_image(data.root.image(image_id))
    return Made(write_map(data.root.saliency(image_id), robust_background_saliency(image)))


def detector(args: Config) -> SaliencyModel:
    """The detector that the settings name, used as they say. InputError if it cannot be."""
    return SaliencyModel(
        args.saliency_model or "",
        pick_device(args.device),
        preset=args.saliency_preset,
        input_size=args.saliency_input_size,
        mean=args.saliency_mean,
        std=args.saliency_std,
        map=args.saliency_map,
        output=args.saliency_output,
        stretch=args.saliency_stretch,
    )


def detected(model: SaliencyModel, args: Config, data: DataSet, ids: list[str]) -> Iterator[Made]:
    """Write the detector's map of each image."""
    device = pick_device(args.device)
    log.info("%s: %s; %s", args.saliency_model, model.runs_on, model.handling)
    if device.type == "cuda" and not model.on_cuda:
        log.warning(
            "saliency_model: onnxruntime runs on the CPU, the device is %s: put onnxruntime-gpu in the place of "
            "onnxruntime, of a version for this CUDA",
            device,
        )
    images = load_each(ScaledImages(ids, data.root, (1.0,)), len(ids), workers=loading_threads(args.workers, device))
    found = ((image_id, model(image.numpy())) for image_id, _, (image,) in images)

    def save(item: tuple[str, Saliency]) -> Made:
        image_id, (saliency, lowest, largest) = item
        return Made(write_map(data.root.saliency(image_id), saliency), lowest, largest)

    return parallel_map(save, found, workers=1, desc="make_saliency", total=len(ids))


def write_map(path: Path, saliency: np.ndarray) -> bool:
    """Save (H, W) in [0, 1] as 8-bit grey; returns whether all of it is 0."""
    grey = np.rint(saliency * 255).astype(np.uint8)
    write_grey(path, grey, software=SOFTWARE)
    return not grey.any()
