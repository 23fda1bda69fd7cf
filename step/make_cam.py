"""Multi-scale class activation maps (docs/method.md, section 2)."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.tables import table_paths
from misc.formats.cam_file import CAM, write_cam, write_compact_cam
from misc.formats.checkpoint import load_network
from misc.formats.compact_cam import ScaleMaps
from misc.pixels import normalised_pair
from misc.run.device import autocast, loading_threads, pick_device, to_device, workers_beside_network
from misc.run.memory import first_that_fits
from misc.run.parallel import parallel_map
from misc.run.pinned import Download, Packed, all_on, packed_for
from misc.run.plan import PerImage, Plan
from misc.train.loading import load_each
from net.cpu.fast import fast_on_cpu
from net.resnet50_cam import ResNet50CAM
from step.shared import paths
from step.shared.data import DataSet
from step.shared.inputs import ImageList, Images, Labels, Network
from voc12.datasets import ScaledImages
from voc12.image_set import merged

NEEDS_LESS = "say --amp, leave out the largest of --cam_scales, make the image smaller, or say --device cpu"


def plan(args: Config) -> Plan:
    data = DataSet(args)
    lists = ImageList(args.train_aug_list), ImageList(args.infer_list_or_default)
    ids = merged(*(each.ids for each in lists))
    network = Network(
        "cam_weights_name", args.cam_weights_name, lambda: ResNet50CAM(len(data.class_names)), "train_cam"
    )
    return Plan(
        ids=ids,
        reads=[*lists, Images(data, ids), Labels(data, ids), network],
        makes=PerImage(lambda i: [paths.cam(args, i)], leftovers=table_paths(paths.cam_scores_json(args))),
        version=2,  # 1 resized the maps by torch, whose last bit depends on the number of threads
    )


def make(args: Config, ids: list[str]) -> None:
    """Save the maps of images: later steps use those of train_aug_list and of infer_list."""
    data = DataSet(args)
    device = pick_device(args.device)
    model = load_network(lambda: ResNet50CAM(len(data.class_names)), args.cam_weights_name)
    to_device(fast_on_cpu(model.eval()), device)
    workers = loading_threads(args.workers, device)
    images = load_each(ScaledImages(ids, data.root, args.cam_scales), len(ids), workers=workers, device=device)

    def maps_of_images() -> Iterator[tuple[str, tuple[int, int], Download]]:
        for image_id, size, scaled in images:
            keys = data.labels[image_id]
            ways = [partial(scale_maps, model, scaled, keys, device, apart=apart) for apart in (False, True)]
            with autocast(device, args.amp):
                maps = first_that_fits(ways, what=image_id, remedy=NEEDS_LESS)
            yield image_id, tuple(size), Download(*maps)

    def save(item: tuple[str, tuple[int, int], Download]) -> None:
        image_id, size, download = item
        arrays = download.arrays()
        maps = ScaleMaps(data.labels[image_id], size, args.cam_scales if arrays else (), arrays)
        if maps.fault():
            raise InputError(f"{args.cam_weights_name}: this network's maps of {image_id} are not finite")
        if args.cam_file == "compact":
            write_compact_cam(paths.cam(args, image_id), maps)
        else:
            write_cam(paths.cam(args, image_id), CAM(maps.keys, *maps.merged()))

    # a GPU makes maps faster than one thread adds them up
    savers = 1 if device.type == "cpu" else max(1, workers_beside_network(args.workers, device))
    for _ in parallel_map(save, maps_of_images(), workers=savers, desc="make_cam", total=len(ids)):
        pass


def maps_of_scales(
    model: ResNet50CAM,
    scaled: "Packed | Sequence[torch.Tensor]",
    keys: np.ndarray,
    device: torch.device,
    *,
    apart: bool = False,
) -> list[np.ndarray]:
    """`scale_maps` as arrays, once they are there."""
    return Download(*scale_maps(model, scaled, keys, device, apart=apart)).arrays()


@torch.inference_mode()
def scale_maps(
    model: ResNet50CAM,
    scaled: "Packed | Sequence[torch.Tensor]",
    keys: np.ndarray,
    device: torch.device,
    *,
    apart: bool = False,
) -> list[torch.Tensor]:
    """The maps of an image at each scale, as the network gives them; none if it has no classes.

    scaled    for each scale (H·s, W·s, 3) uint8 RGB
    keys      (K,) int64, the classes of the image
    apart     each scale and its mirror image one after the other, which needs half the memory
    Returns   for each scale (K, ⌈H·s/16⌉, ⌈W·s/16⌉) float32 ≥ 0 on the device.
    """
    if len(keys) == 0:
        return []
    (classes,) = all_on(device, packed_for(device, [keys]))
    pairs = (normalised_pair(image, device) for image in all_on(device, scaled))
    return [model.cam(pair, classes, apart=apart).float() for pair in pairs]
