"""The archive for VOC's server: its layout, and the masks that it would refuse."""

import tarfile

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.formats.images import write_grey, write_mask
from voc12.image_set import read_list
from voc12.submission import TEST_LIST, write_submission

IDS = ["2008_000001", "2008_000002"]
SIZES = dict.fromkeys(IDS, (4, 6))


@pytest.fixture
def masks(tmp_path):
    files = {image_id: tmp_path / f"{image_id}_crf.png" for image_id in IDS}
    for number, path in enumerate(files.values()):
        write_mask(path, np.full((4, 6), 20 * number, np.uint8))
    return files


def test_layout(masks, tmp_path):
    for name in ("results.tar.gz", "again.tar.gz"):
        write_submission(masks, SIZES, tmp_path / name, competition="comp6")
    assert (tmp_path / "results.tar.gz").read_bytes() == (tmp_path / "again.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        assert archive.getnames() == [f"results/VOC2012/Segmentation/comp6_test_cls/{image_id}.png" for image_id in IDS]
        with Image.open(archive.extractfile(archive.getnames()[1])) as mask:
            assert mask.mode == "P" and (np.array(mask) == 20).all()


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: write_grey(path, np.zeros((4, 6), np.uint8)), "no palette PNG"),
        (lambda path: write_mask(path, np.zeros((6, 4), np.uint8)), "6×4, its image 4×6"),
        (lambda path: write_mask(path, np.full((4, 6), 21, np.uint8)), "holds the number 21"),
    ],
)
def test_masks_that_the_server_would_refuse(write, expected, masks, tmp_path):
    write(masks[IDS[1]])
    with pytest.raises(InputError, match=expected):
        write_submission(masks, SIZES, tmp_path / "results.tar.gz", competition="comp6")
    assert not (tmp_path / "results.tar.gz").exists()


def test_the_list_is_whole():
    assert len(read_list(TEST_LIST)) == 1456
