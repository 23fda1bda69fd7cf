"""SBD: .mat files, or the folder SegmentationClassAug."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

IDS = {"2007_000032": [[0, 1], [1, 15]], "2007_000033": [[20, 20]], "2008_000002": [[0], [5]]}  # train, val, neither


@pytest.fixture
def sbd(tmp_path, picture) -> Path:
    folder = tmp_path / "sbd"
    (folder / "cls").mkdir(parents=True)
    for image_id, rows in IDS.items():
        mask = np.array(rows, np.uint8)
        picture(folder / "img" / f"{image_id}.jpg", mask.shape)
        edges = np.empty((20, 1), object)
        edges[:] = [[np.zeros(mask.shape)]] * 20
        content = {"Segmentation": mask, "Boundaries": edges, "CategoriesPresent": np.array([[1]])}
        savemat(folder / "cls" / f"{image_id}.mat", {"GTcls": content})
    (folder / "train.txt").write_text("2008_000002\n2007_000033\n")
    (folder / "val.txt").write_text("2007_000032\n")
    return folder


@pytest.mark.parametrize("within", ["", "dataset", "benchmark_RELEASE/dataset"])
def test_mat_files(within, sbd, convert, content):
    source = sbd
    if within:
        source = sbd.with_name("archive")
        (source / within).parent.mkdir(parents=True)
        sbd.rename(source / within)
    found = content(convert("sbd", source))
    assert found["masks"] == IDS and found["names"][14] == "person"
    assert found["labels"] == {"2007_000032": [0, 14], "2007_000033": [19], "2008_000002": [4]}
    assert found["lists"] == {"train": ["2007_000033", "2008_000002"], "val": ["2007_000032"]}


def test_what_no_list_names_is_left_out(sbd, convert, content):
    (sbd / "train.txt").write_text("2008_000002\nlost\n")
    (sbd / "img" / "2007_000032.jpg").unlink()
    assert content(convert("sbd", sbd))["lists"] == {"train": ["2008_000002"]}
    for line in ("in no list, 1: 2007_000033", "without an image, 1: 2007_000032.mat", "without a mask, 1: lost"):
        assert line in convert.said


@pytest.fixture
def augmented(sbd) -> Path:
    """The same as PNGs beside VOC's images."""
    (sbd / "SegmentationClassAug").mkdir()
    for image_id, rows in IDS.items():
        mask = np.array(rows, np.uint8)
        mask[0, 0] = 255
        Image.fromarray(mask).save(sbd / "SegmentationClassAug" / f"{image_id}.png")
    (sbd / "img").rename(sbd / "JPEGImages")
    for path in (sbd / "cls").iterdir():
        path.unlink()
    (sbd / "cls").rmdir()
    return sbd


def test_segmentation_class_aug_is_split_as_voc(augmented, convert, content):
    """Without lists VOC's own count; what they do not name is for training."""
    (augmented / "train.txt").unlink()
    (augmented / "val.txt").unlink()
    found = content(convert("sbd", augmented))
    assert found["masks"]["2007_000032"] == [[255, 1], [1, 15]]
    assert found["lists"] == {
        "train_aug": ["2007_000032", "2008_000002"],
        "train": ["2007_000032"],
        "val": ["2007_000033"],
    }
    assert found["settings"]["train_aug_list"].endswith("/train_aug.txt")


def test_segmentation_class_aug_with_lists(augmented, convert, content):
    found = content(convert("sbd", augmented))
    assert found["lists"] == {
        "train_aug": ["2007_000033", "2008_000002"],
        "train": ["2007_000033", "2008_000002"],
        "val": ["2007_000032"],
    }


def test_images_elsewhere(sbd, convert, content, refused):
    (sbd / "img").rename(sbd.with_name("photos"))
    assert "--images" in refused("sbd", sbd)
    assert content(convert("sbd", sbd, "--images", str(sbd.with_name("photos"))))["masks"] == IDS


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: path.write_bytes(b"nothing"), "cannot be read as SBD's GTcls.Segmentation"),
        (lambda path: savemat(path, {"GTinst": 1}), "cannot be read as SBD's GTcls.Segmentation"),
        (lambda path: savemat(path, {"GTcls": {"Segmentation": np.zeros((1, 2))}}), "expected uint8"),
        (lambda path: savemat(path, {"GTcls": {"Segmentation": np.full((1, 2), 21, np.uint8)}}), "the number 21"),
        (lambda path: savemat(path, {"GTcls": {"Segmentation": np.full((2, 1), 1, np.uint8)}}), "2×1"),
    ],
)
def test_refusals(write, expected, sbd, refused):
    write(sbd / "cls" / "2007_000033.mat")
    assert "2007_000033.mat" in (error := refused("sbd", sbd)) and expected in error
