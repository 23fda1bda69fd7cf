"""What VOC's evaluation server takes: `results.tar.gz` with a mask for every image of the test list."""

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from misc.errors import InputError
from misc.files import replacing
from misc.formats.images import open_image
from misc.formats.palette import voc_palette

TEST_LIST = "voc12/test.txt"
LABELS = 21  # 20 classes and background
SHOWN = 5

Competition = Literal["comp5", "comp6"]  # trained on VOC's own data alone, or on other data (SBD, COCO) as well


def write_submission(
    masks: Mapping[str, Path], sizes: Mapping[str, tuple[int, int]], path: Path, *, competition: Competition
) -> None:
    """Pack masks as the server wants them; the same masks give the same bytes.

    masks     ID → palette PNG in VOC's colours, of class numbers 0 to 20
    sizes     ID → (H, W) of the image
    path      of the archive, results.tar.gz
    Raises    InputError, before anything is written, with what is wrong with which masks
    """
    faults = [f"{mask}: {fault}" for image_id, mask in masks.items() if (fault := mask_fault(mask, sizes[image_id]))]
    if faults:
        shown = "; ".join(faults[:SHOWN]) + ("; …" if len(faults) > SHOWN else "")
        raise InputError(f"{len(faults)} of {len(masks)} masks would be refused by the server: {shown}")
    folder = f"results/VOC2012/Segmentation/{competition}_test_cls"
    with (
        replacing(path) as temporary,
        open(temporary, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for image_id, mask in masks.items():
            entry = tarfile.TarInfo(f"{folder}/{image_id}.png")
            entry.size = mask.stat().st_size
            with open(mask, "rb") as content:
                archive.addfile(entry, content)


def mask_fault(path: Path, size: tuple[int, int]) -> str | None:
    """Why the server would refuse a mask, or count it wrongly; None if it would not."""
    image = open_image(path)
    if image.mode != "P" or image.getpalette() != voc_palette():
        return f"is no palette PNG in VOC's colours, but {image.mode}"
    labels = np.array(image)
    if labels.shape != size:
        return f"is {labels.shape[0]}×{labels.shape[1]}, its image {size[0]}×{size[1]}"
    return f"holds the number {labels.max()}, expected 0 to {LABELS - 1}" if labels.max() >= LABELS else None
