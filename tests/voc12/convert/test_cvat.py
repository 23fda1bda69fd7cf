"""CVAT's "Segmentation mask 1.1"."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LABELMAP = "# label:color_rgb:parts:actions\negg:51,221,255::\nbackground:0,0,0::\nball:250,50,83::\n"
BACK, BALL, EGG = (0, 0, 0), (250, 50, 83), (51, 221, 255)


def mask(path: Path, rows: list[list[tuple[int, int, int]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)


@pytest.fixture
def cvat(tmp_path, picture) -> Path:
    """Two images of a task made of folders, and one beside."""
    folder = tmp_path / "cvat"
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (folder / "labelmap.txt").write_text(LABELMAP)
    (lists / "default.txt").write_text("batch1/a1\nbatch2/a1\nb\n")
    picture(folder / "JPEGImages" / "batch1" / "a1.jpg", (1, 3))
    picture(folder / "JPEGImages" / "batch2" / "a1.jpg", (1, 2))
    picture(folder / "JPEGImages" / "b.png", (2, 1))
    mask(folder / "SegmentationClass" / "batch1" / "a1.png", [[BACK, BALL, EGG]])
    mask(folder / "SegmentationClass" / "batch2" / "a1.png", [[BALL, BALL]])
    mask(folder / "SegmentationClass" / "b.png", [[BACK], [BACK]])
    mask(folder / "SegmentationObject" / "b.png", [[BACK], [BACK]])
    return folder


def test_colours_become_numbers_and_folders_part_of_the_id(cvat, convert, content):
    target = convert("cvat", cvat)
    found = content(target)
    assert found["names"] == ["egg", "ball"]
    assert found["masks"] == {"batch1_a1": [[0, 2, 1]], "batch2_a1": [[2, 2]], "b": [[0], [0]]}
    assert found["labels"] == {"batch1_a1": [0, 1], "batch2_a1": [1], "b": []}
    assert found["lists"] == {"train": ["batch1_a1", "batch2_a1", "b"]}
    assert (target / "JPEGImages" / "batch2_a1.jpg").samefile(cvat / "JPEGImages" / "batch2" / "a1.jpg")


def test_subsets_become_lists(cvat, convert, content):
    lists = cvat / "ImageSets" / "Segmentation"
    (lists / "default.txt").unlink()
    (lists / "Train.txt").write_text("batch1/a1\nbatch2/a1\n")
    (lists / "Validation.txt").write_text("b\n")
    assert content(convert("cvat", cvat))["lists"] == {"train": ["batch1_a1", "batch2_a1"], "val": ["b"]}


def test_a_list_whose_ending_windows_hid(cvat, convert, content, monkeypatch, tmp_path):
    """train.txt.txt is a list of the target, whatever lies in the working directory."""
    lists = cvat / "ImageSets" / "Segmentation"
    (lists / "default.txt").rename(lists / "train.txt.txt")
    (lists / "mine.TXT.txt").write_text("b\n")
    monkeypatch.chdir(tmp_path)
    for name in ("train.txt", "mine.TXT.txt", "mine.TXT"):
        Path(name).write_text("another\n")
    found = content(convert("cvat", cvat))["lists"]
    assert {name: sorted(ids) for name, ids in found.items()} == {
        "train": ["b", "batch1_a1", "batch2_a1"],
        "mine": ["b"],
    }
    assert Path("train.txt").read_text() == Path("mine.TXT").read_text() == "another\n"


def test_a_list_of_two_spellings_holds_each_image_once(cvat, convert, content):
    lists = cvat / "ImageSets" / "Segmentation"
    (lists / "default.txt").rename(lists / "Training.txt")
    (lists / "train.txt").write_text("b\n")
    assert sorted(content(convert("cvat", cvat))["lists"]["train"]) == ["b", "batch1_a1", "batch2_a1"]
    text = (convert("cvat", cvat) / "ImageSets" / "Segmentation" / "train.txt").read_text()
    assert len(text.split()) == 3


def test_a_list_that_leads_out_of_the_source_is_refused(cvat, refused, picture):
    picture(cvat.parent / "secret" / "x.jpg", (1, 1))
    mask(cvat.parent / "secret" / "x.png", [[BALL]])
    for name in ("../../secret/x", str(cvat.parent / "secret" / "x")):
        (cvat / "ImageSets" / "Segmentation" / "default.txt").write_text(f"b\n{name}\n")
        assert "leads out of the folder" in refused("cvat", cvat)


def test_without_lists_all_masks_count(cvat, convert, content):
    (cvat / "ImageSets" / "Segmentation" / "default.txt").unlink()
    assert content(convert("cvat", cvat))["lists"] == {"train": ["b", "batch1_a1", "batch2_a1"]}


def test_an_export_without_images(cvat, convert, content, refused, tmp_path):
    elsewhere = tmp_path / "photos"
    (cvat / "JPEGImages").rename(elsewhere)
    assert "'Save images'" in (error := refused("cvat", cvat)) and "--images" in error
    assert "TARGET" in refused("cvat", cvat, "--images", str(elsewhere), target="photos/here")
    assert set(content(convert("cvat", cvat, "--images", str(elsewhere)))["masks"]) == {"batch1_a1", "batch2_a1", "b"}


def test_a_colour_that_was_changed_makes_the_masks_anew(cvat, convert, content):
    target = convert("cvat", cvat)
    assert content(target)["masks"]["batch2_a1"] == [[2, 2]]
    text = LABELMAP.replace("250,50,83", "1,2,3").replace("51,221,255", "250,50,83")
    (cvat / "labelmap.txt").write_text(text)  # the same names
    mask(cvat / "SegmentationClass" / "batch1" / "a1.png", [[BACK, BALL, BALL]])
    assert content(convert("cvat", cvat))["masks"] == {
        "batch1_a1": [[0, 1, 1]],
        "batch2_a1": [[1, 1]],
        "b": [[0], [0]],
    }


def test_what_is_incomplete_is_left_out(cvat, convert):
    (cvat / "JPEGImages" / "batch1" / "a1.jpg").unlink()
    (cvat / "SegmentationClass" / "b.png").unlink()
    mask(cvat / "SegmentationClass" / "c.png", [[BACK]])
    convert("cvat", cvat)
    for line in ("without an image, 1: batch1/a1", "without a mask, 1: b", "in no list, 1: c"):
        assert line in convert.said


def test_refusals(cvat, refused):
    mask(cvat / "SegmentationClass" / "b.png", [[BACK], [(1, 2, 3)]])
    error = refused("cvat", cvat)
    assert "b.png: 1 of 2 pixels" in error and "1,2,3" in error and "labelmap.txt" in error
    mask(cvat / "SegmentationClass" / "b.png", [[BACK, BACK]])
    assert "b.png: the mask of b.png is 1×2" in refused("cvat", cvat)
    (cvat / "ImageSets" / "Segmentation" / "default.txt").write_text("batch1/a1\nbatch1_a1\n")
    assert "'batch1/a1' and 'batch1_a1' would both become" in refused("cvat", cvat)
    (cvat / "SegmentationClass").rename(cvat / "other")
    assert "Segmentation mask 1.1" in refused("cvat", cvat)
    (cvat / "labelmap.txt").unlink()
    assert "labelmap.txt" in refused("cvat", cvat)
