"""Predict masks with DeepLab-v2, without and with CRF, in one pass (docs/method.md, section 10)."""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.tables import table_paths
from misc.formats.images import read_image, write_mask
from misc.run.device import autocast, loading_threads, pick_device, to_device, workers_beside_network
from misc.run.memory import first_that_fits
from misc.run.parallel import parallel_map
from misc.run.pinned import Download, Packed, all_on
from misc.run.plan import PerImage, Plan
from misc.train.loading import load_each
from net.cpu.fast import fast_on_cpu
from net.deeplab_v2 import DeepLabV2
from net.deeplab_weights import trained_network
from step.shared import paths
from step.shared.crf import CRFBackend, refine_probabilities
from step.shared.data import DataSet
from step.shared.deeplab import DeepLabCheckpoint, probabilities_of
from step.shared.inputs import ImageList, Images
from voc12.datasets import PreparedImages

NEEDS_LESS = "say --amp, leave out the largest of --deeplab_test_scales, make the image smaller, or say --device cpu"


class Predicted(NamedTuple):
    """One image after the network: the probability of each label, (C+1, H, W) float32, and of a card, which is quick to
    find them, the likeliest labels, (H, W) uint8. They may be still on their way."""

    image_id: str
    download: Download

    @property
    def probabilities(self) -> np.ndarray:
        return self.download.arrays()[0]


def plan(args: Config) -> Plan:
    data, images = DataSet(args), ImageList(args.deeplab_infer_list_or_default)
    return Plan(
        ids=images.ids,
        reads=[images, Images(data, images.ids), DeepLabCheckpoint(args, data), CRFBackend(args, of_network=True)],
        makes=PerImage(
            partial(mask_paths, args),
            leftovers=[*table_paths(paths.prediction_scores_json(args)), paths.submission(args)],
        ),
    )


def mask_paths(args: Config, image_id: str) -> list[Path]:
    return [paths.prediction(args, image_id), paths.crf_prediction(args, image_id)]


def make(args: Config, ids: list[str]) -> None:
    """Save a mask and a mask after the CRF for each image: the CRF of one beside the network on the next."""
    data, device = DataSet(args), pick_device(args.device)
    workers = workers_beside_network(args.workers, device)
    finish = partial(refine_and_save, args=args, data=data)
    predicted = predict(args, data, ids, device)
    deque(parallel_map(finish, predicted, workers=workers, desc="make_deeplab_seg", total=len(ids)), maxlen=0)


def predict(args: Config, data: DataSet, ids: list[str], device: torch.device) -> Iterator[Predicted]:
    """Run the network over each image at its own size, and at other scales if asked for."""
    network = trained_network(args.deeplab_weights_name, data.n_labels).eval()
    pixels = network.family.pixels
    to_device(fast_on_cpu(network), device)
    images = PreparedImages(ids, data.root, args.deeplab_test_scales, pixels)
    for image_id, size, scaled in load_each(
        images, len(ids), workers=loading_threads(args.workers, device), device=device
    ):
        way = partial(
            label_probabilities, network, scaled, tuple(size), device, flip=args.deeplab_test_flip, amp=args.amp
        )
        probabilities = first_that_fits([way, way], what=image_id, remedy=NEEDS_LESS)  # again, with what was kept free
        likeliest = [] if device.type == "cpu" else [probabilities.argmax(dim=0).to(torch.uint8)]
        yield Predicted(image_id, Download(probabilities, *likeliest))


@torch.inference_mode()
def label_probabilities(
    network: DeepLabV2,
    scaled: "Packed | Sequence[torch.Tensor]",
    size: tuple[int, int],
    device: torch.device,
    *,
    flip: bool,
    amp: bool,
) -> torch.Tensor:
    """The probability of each label, (C+1, H, W) float32, of an image at several scales, (3, h, w) each, prepared."""
    logits = []
    with autocast(device, amp):
        for image in all_on(device, scaled):
            x = image[None].contiguous(memory_format=torch.channels_last)
            logits.append(network.predict(x))
            if flip:
                logits.append(network.predict(x.flip(3)).flip(3))
        return probabilities_of(logits, size)


def refine_and_save(item: Predicted, *, args: Config, data: DataSet) -> None:
    """Write one image's mask, run the CRF on its probabilities, and write that mask."""
    probabilities, *likeliest = item.download.arrays()
    if not np.isfinite(probabilities).all():
        raise InputError(f"{args.deeplab_weights_name}: this network's scores of {item.image_id} are not finite")
    mask = likeliest[0] if likeliest else probabilities.argmax(axis=0).astype(np.uint8)
    write_mask(paths.prediction(args, item.image_id), mask)
    refined = refine_probabilities(args, read_image(data.root.image(item.image_id)), probabilities)
    write_mask(paths.crf_prediction(args, item.image_id), refined.astype(np.uint8))
