"""SBD (Semantic Boundaries Dataset): cls/*.mat with img/*.jpg; or SegmentationClassAug/ with JPEGImages/

Beside cls/, the lists are SBD's train.txt and val.txt; an image that is in neither is left out. Beside
SegmentationClassAug/, and where there are no lists, train_aug is all images but those of VOC's val. SOURCE may also be
the unpacked archive, where cls/ is in benchmark_RELEASE/dataset/.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from misc.errors import InputError, reason
from misc.formats.images import read_label_map
from voc12.convert.source import (
    IN_NO_LIST,
    NO_IMAGE,
    TRAIN,
    VAL,
    Found,
    SourceImage,
    files_in,
    flat_id,
    folder_of,
    image_of,
    lists_in,
)
from voc12.image_set import PROJECT, read_lines, read_list

WITHIN = (".", "dataset", "benchmark_RELEASE/dataset")
LAYOUTS = (("cls", ".mat", "img"), ("SegmentationClassAug", ".png", "JPEGImages"))  # masks, their ending, images


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", help="the folder of the images (default: img/ or JPEGImages/)")


def read(source: Path, options: argparse.Namespace) -> Found:
    root, folder, ending, images = _layout(source)
    images = folder_of(source, options.images) if options.images else images
    if not images.is_dir():
        raise InputError(f"there is no folder {images}: say --images FOLDER, such as VOC's JPEGImages")
    masks = {flat_id(path.stem): path for path in files_in(folder) if path.suffix.lower() == ending}
    lists = lists_in(root)
    if not lists or ending == ".png":
        lists = {image_id: _sets(image_id, lists or _voc_lists()) for image_id in masks}
    found = Found(read_lines(PROJECT / "voc12" / "class_names.txt"), [], {NO_IMAGE: [], IN_NO_LIST: []})
    for image_id, mask in masks.items():
        path = image_of(images, image_id)
        if path is None:
            found.left_out[NO_IMAGE].append(mask.name)
        elif image_id not in lists:
            found.left_out[IN_NO_LIST].append(image_id)
        else:
            reader = partial(read_mat if ending == ".mat" else read_label_map, mask)
            found.images.append(SourceImage(image_id, path, reader, (mask,), sets=lists[image_id]))
    found.left_out["IDs of the lists without a mask"] = [image_id for image_id in lists if image_id not in masks]
    return found


def _voc_lists() -> dict[str, tuple[str, ...]]:
    """The lists of VOC 2012, which this project brings along."""
    return {image_id: (name,) for name in (TRAIN, VAL) for image_id in read_list(PROJECT / "voc12" / f"{name}.txt")}


def _sets(image_id: str, lists: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The community's split: all images are for training, in train_aug, but for those of val."""
    given = lists.get(image_id, ())
    return given if VAL in given else ("train_aug", *given)


def _layout(source: Path) -> tuple[Path, Path, str, Path]:
    """The folder that holds it, that of the masks, their ending, that of the images."""
    for within in WITHIN:
        for masks, ending, images in LAYOUTS:
            root = source / within
            if (root / masks).is_dir():
                return root, root / masks, ending, root / images
    raise InputError(f"{source}: there is no folder cls (of .mat files) or SegmentationClassAug (of PNGs)")


def read_mat(path: Path) -> np.ndarray:
    """(H, W) uint8 class numbers, from GTcls.Segmentation of a MATLAB file."""
    from scipy.io import loadmat

    try:
        labels = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0])
    except Exception as error:  # whatever scipy raises for a damaged file: there are a dozen kinds
        raise InputError(f"{path}: cannot be read as SBD's GTcls.Segmentation ({reason(error)})") from error
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise InputError(f"{path}: GTcls.Segmentation is {labels.dtype} {labels.shape}, expected uint8 height × width")
    return labels
