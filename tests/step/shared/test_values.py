"""What is told of images before a run: turned ones whose size does not tell, and 16 bits of which 12 are used."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.config import Config
from misc.formats.images import write_grey, write_mask
from misc.run.preflight import Preflight
from step.shared.data import DataSet
from step.shared.inputs import Images
from step.shared.values import look_at_saliency_maps, look_at_truth


@pytest.fixture
def root(tmp_path) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "Sal"):
        (tmp_path / folder).mkdir()
    return tmp_path


def told(caplog, part: str) -> list[str]:
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [text for text in warnings if part in text]


def image(root: Path, orientation: int, shown: tuple[int, int], ending: str = "jpg") -> np.ndarray:
    """Write an image that EXIF turns to the size (H, W). Returns its mask."""
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = shown[::-1] if orientation > 4 else shown
    Image.fromarray(np.zeros((*stored, 3), np.uint8)).save(root / "JPEGImages" / f"a.{ending}", exif=exif)
    truth = np.zeros(shown, np.uint8)
    truth[4:8, 4:8] = 1
    return truth


@pytest.mark.parametrize("ending", ["jpg", "tif"])
@pytest.mark.parametrize(
    ("orientation", "shown", "expected"),
    [(1, (12, 16), False), (2, (12, 16), True), (3, (12, 16), True), (6, (16, 12), False), (6, (12, 12), True)],
)
def test_masks_of_turned_images_whose_size_does_not_tell(root, ending, orientation, shown, expected, caplog):
    write_mask(root / "SegmentationClass" / "a.png", image(root, orientation, shown, ending))
    look_at_truth(preflight := Preflight(), DataSet(Config(voc12_root=str(root))), ["a"])
    assert (
        preflight.problems == [] and len(told(caplog, "EXIF, which their size does not tell: their masks")) == expected
    )


@pytest.mark.parametrize(("software", "expected"), [("make_saliency", False), (None, True)])
def test_saliency_maps_of_turned_images(root, software, expected, caplog):
    """Those made here are turned as well."""
    write_grey(root / "Sal" / "a.png", image(root, 3, (12, 16)) * 200, software=software)
    look_at_saliency_maps(preflight := Preflight(), DataSet(Config(voc12_root=str(root))), ["a"])
    assert preflight.problems == [] and len(told(caplog, "does not tell: their saliency maps")) == expected


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0, 4095]], np.uint16), True),
        (np.array([[0, 4096]], np.uint16), False),
        (np.array([[0, 200]], np.uint8), False),
    ],
)
def test_12_bits_in_16(root, pixels, expected, caplog):
    Image.fromarray(pixels).save(root / "JPEGImages" / "a.png")
    Images(DataSet(Config(voc12_root=str(root))), ["a"]).look(preflight := Preflight())
    assert preflight.problems == [] and len(told(caplog, "hold nothing above 4095")) == expected
