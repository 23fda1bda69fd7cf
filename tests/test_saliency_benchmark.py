"""The measures of benchmarks/saliency.py, whose referee comes from requirements-sod.txt."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import saliency
from misc.formats.images import write_grey
from voc12.image_set import VOCRoot


@pytest.fixture
def root(tmp_path) -> VOCRoot:
    """Two 8×8 images, a quarter of each an object, with maps that are right but for one pixel."""
    for folder in ("JPEGImages", "SegmentationClass", "Sal"):
        (tmp_path / folder).mkdir()
    truth = np.zeros((8, 8), np.uint8)
    truth[:4, :4] = 7
    truth[0, 0] = 255  # the void rim counts as object
    found = np.where(truth > 0, 255, 0).astype(np.uint8)
    found[7, 7] = 255
    for image_id in "ab":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "JPEGImages" / f"{image_id}.jpg")
        write_grey(tmp_path / "SegmentationClass" / f"{image_id}.png", truth)
        write_grey(tmp_path / "Sal" / f"{image_id}.png", found)
    return VOCRoot(tmp_path)


def test_what_looks_at_nothing(root):
    assert not saliency.black(root, "a").any()
    blob = saliency.middle(root, "a")
    assert blob[3, 3] == blob[4, 4] == blob.max() and blob[0, 0] == blob[7, 7] == blob.min()
    np.testing.assert_array_equal(saliency.own(root, "a")[0], [1, 1, 1, 1, 0, 0, 0, 0])


def test_scores_by_hand(root):
    pytest.importorskip("py_sod_metrics", reason="PySODMetrics is not installed: see requirements-sod.txt")
    mae, max_f = saliency.score(root, saliency.own)
    precision, recall = 16 / 17, 1
    assert mae == pytest.approx(1 / 64)
    assert max_f == pytest.approx(1.3 * precision * recall / (0.3 * precision + recall))
    assert saliency.score(root, saliency.black)[0] == pytest.approx(16 / 64)


def test_the_table(capsys):
    pytest.importorskip("py_sod_metrics", reason="PySODMetrics is not installed: see requirements-sod.txt")
    saliency.main(["--images", "4", "--side", "64"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == list(saliency.METHODS)
    errors = [float(row[2]) for row in rows]
    assert errors[1] < errors[0] < min(errors[2:])  # the set's own maps, ours, and what looks at nothing
